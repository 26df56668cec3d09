"""A store that answers but refuses: every output says the same, and all ends with the cause."""

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from relayd.storage.place import log_of
from relayd.stores.states import State, Store, remedy
from tests.daemon import Daemon
from tests.integration.alerting import alerts
from tests.integration.clients import Refused, read, say
from tests.integration.conftest import Connect, spawning
from tests.integration.relayctl import Operator
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually
from tests.ports import free_port
from tests.redis_servers import Redis
from tests.servers import PostgreSQL

Tell = Callable[[], object]
MESSAGE = {"message": secrets.token_hex(15_000)}  # what no database compresses


class Scene:
    """A relayd and its store, in a state that a test causes and ends.

    Attributes:
        part: the name of the store in `/readyz` and in the metrics.
    """

    def __init__(self, daemon: Daemon, store: Store) -> None:
        self.daemon = daemon
        self.store = store
        self.part = "redis" if store is Store.REDIS else "database"

    def is_said_everywhere(self, state: State) -> None:
        """Asserts that all outputs name the state, and the store's remedy where it belongs."""
        daemon, words, advice = self.daemon, state.words, remedy(self.store, state)
        eventually(lambda: self.readyz().get("state") == state)
        assert daemon.get("/readyz")[0] == 503
        assert words in self.readyz()["message"]
        assert advice not in self.readyz()["message"]
        process = Operator(daemon.folder).json("status")["processes"][0]
        found = process[self.part]
        assert (found["state"], advice in found["message"]) == (state, True), found
        faults = self.doctor()
        assert faults
        schema = any(each["check"] == "database-schema" for each in faults)
        if state not in (State.DISK_FULL, State.MISSING) and not schema:
            assert any(words in each["finding"] and advice in each["remedy"] for each in faults), (
                faults
            )
        figures = scrape(daemon)
        for each, held in ((state.value, 1), ("ok", 0)):
            assert value(figures, "relayd_store_state", store=self.part, state=each) == held

    def doctor(self) -> list[dict[str, str]]:
        """The faults that doctor finds in the store."""
        settings = {"PATH": "/nowhere", **self.daemon.env}
        done = Operator(self.daemon.folder, **settings)("doctor", "--json")
        found = json.loads(done.stdout)["findings"]
        return [
            each for each in found
            if each["state"] == "fault" and each["check"].startswith(self.part)
        ]  # fmt: skip

    def metrics(self) -> str:
        """What Prometheus scrapes."""
        text: str = self.daemon.get("/metrics")[1]
        return text

    def readyz(self) -> dict[str, Any]:
        """The store's part."""
        found: dict[str, Any] = self.daemon.get("/readyz")[1]["parts"][self.part]
        return found

    def lines(self, before: int, words: str) -> list[str]:
        """What was logged since."""
        return [line for line in self.daemon.log[before:].splitlines() if words in line]


def refuse_and_recover(
    scene: Scene, state: State, cause: Tell, end: Tell, connect: Connect, *, joined: bool = True
) -> None:
    """The whole story of a state, seen by a client in a room and by the operator."""
    daemon = scene.daemon
    client = connect(daemon, "/ws/chat/states?history=0")
    say(client, MESSAGE)
    read(client)
    before = len(daemon.log)
    figures = scene.metrics()
    cause()
    try:
        if joined:

            def is_refused() -> bool:
                say(client, MESSAGE)
                answer = read(client)
                while answer.get("status") in ("cut_off", "restored"):
                    answer = read(client)
                return answer.get("error") == "store_unavailable"

            eventually(is_refused)
        scene.is_said_everywhere(state)
        fire = {"RelaydMessagesRefused"} if joined else {"RelaydStoreUnavailable"}
        assert fire <= alerts(daemon.folder, [figures, scene.metrics()])
    finally:
        end()
    eventually(lambda: scene.readyz()["ok"])
    client = connect(daemon, "/ws/chat/states?history=0")
    eventually(lambda: _keeps(client))
    began = scene.lines(before, state.words)
    assert len(began) == 1, began
    assert "#warn]" in began[0], began
    assert remedy(scene.store, state) in began[0]
    eventually(lambda: len(scene.lines(before, "is back after")) == 1)
    assert [each for each in scene.doctor() if "MiB are free" not in each["finding"]] == []
    assert "Traceback" not in daemon.log[before:]


def _keeps(client: Any) -> bool:
    say(client, MESSAGE)
    return read(client).get("message") == MESSAGE["message"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """Starts a relayd that the tests of the module share."""
    with spawning(tmp_path_factory.mktemp("states")) as spawn:
        yield spawn


# -- Redis

USER = ("user", "relayd", "on", ">pw", "~*", "&*", "+@all")
LIMITED = ("save 3600 1", "appendonly no", " ".join(USER))


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis(*LIMITED) as server:
        yield server


@pytest.fixture(scope="module")
def over_redis(redis: Redis, start: Callable[..., Daemon]) -> Scene:
    url = f"redis://relayd:pw@127.0.0.1:{redis.port}"
    return Scene(start(REDIS_URL=url, redis_deadline=1), Store.REDIS)


def misconf(redis: Redis) -> None:
    """Its snapshot cannot be written: a folder has the name of the file."""
    (redis.folder / "dump.rdb").unlink(missing_ok=True)
    (redis.folder / "dump.rdb").mkdir()
    redis.tell("BGSAVE")
    eventually(lambda: b"rdb_last_bgsave_status:err" in redis.tell("INFO", "persistence"))


def can_save(redis: Redis) -> None:
    """Its snapshot can be written again."""
    shutil.rmtree(redis.folder / "dump.rdb")
    redis.tell("BGSAVE")
    eventually(lambda: b"rdb_last_bgsave_status:ok" in redis.tell("INFO", "persistence"))


def is_loading(redis: Redis) -> None:
    """It has restarted, and takes its time to read its data."""
    for number in range(2000):
        redis.tell("SET", f"k{number}", "x")
    redis.tell("SAVE")
    redis.kill()
    redis.lines += ["key-load-delay 5000", "loading-process-events-interval-bytes 1024"]
    redis.start()


def has_loaded(redis: Redis) -> None:
    """It loads in no time, once it is done."""
    del redis.lines[-2:]
    redis.kill()
    redis.start()


REDIS = {
    State.MEMORY_FULL: (
        lambda redis: redis.tell("CONFIG", "SET", "maxmemory", "1"),
        lambda redis: redis.tell("CONFIG", "SET", "maxmemory", "0"),
    ),
    State.DISK_FULL: (misconf, can_save),
    State.READ_ONLY: (
        lambda redis: redis.tell("REPLICAOF", "127.0.0.1", "1"),
        lambda redis: redis.tell("REPLICAOF", "NO", "ONE"),
    ),
    State.FORBIDDEN: (
        lambda redis: redis.tell("ACL", "SETUSER", "relayd", "-xadd"),
        lambda redis: redis.tell("ACL", "SETUSER", "relayd", "+xadd"),
    ),
    State.REPLICAS: (
        lambda redis: redis.tell("CONFIG", "SET", "min-replicas-to-write", "1"),
        lambda redis: redis.tell("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}


@pytest.mark.parametrize("state", REDIS)
def test_a_redis_that_refuses_is_told_everywhere_until_its_cause_ends(
    state: State, redis: Redis, over_redis: Scene, connect: Connect
) -> None:
    cause, end = REDIS[state]
    refuse_and_recover(
        over_redis, state, lambda: cause(redis), lambda: end(redis), connect
    )  # fmt: skip


def test_a_redis_that_loads_its_data_is_told_everywhere_until_it_has(
    redis: Redis, over_redis: Scene, connect: Connect
) -> None:
    refuse_and_recover(
        over_redis, State.LOADING, lambda: is_loading(redis), lambda: has_loaded(redis), connect,
        joined=False,
    )  # fmt: skip


def test_a_channel_that_redis_forbids_is_told_everywhere_until_it_allows_it(
    redis: Redis, over_redis: Scene, connect: Connect
) -> None:
    daemon = over_redis.daemon
    redis.tell("ACL", "SETUSER", "relayd", "resetchannels", "&relayd:chat/known")
    try:
        eventually(lambda: _refused(daemon, "/ws/chat/other"))
        over_redis.is_said_everywhere(State.FORBIDDEN)
    finally:
        redis.tell("ACL", "SETUSER", "relayd", "allchannels")
    eventually(lambda: over_redis.readyz()["ok"])
    connect(daemon, "/ws/chat/other")


def _refused(daemon: Daemon, path: str) -> bool:
    return Refused(daemon, path).error == "store_unavailable"


def test_a_node_of_a_cluster_is_told_everywhere_until_it_is_none(
    start: Callable[..., Daemon], connect: Connect
) -> None:
    with Redis("cluster-enabled yes", f"cluster-port {free_port()}") as redis:
        daemon = start(REDIS_URL=f"redis://127.0.0.1:{redis.port}", wait=False)
        scene = Scene(daemon, Store.REDIS)
        eventually(lambda: _answers(daemon))
        assert Refused(daemon, "/ws/chat/a").error == "store_unavailable"
        scene.is_said_everywhere(State.CLUSTER)
        redis.tell("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # CROSSSLOT instead of CLUSTERDOWN
        eventually(lambda: b"cluster_state:ok" in redis.tell("CLUSTER", "INFO"))
        assert Refused(daemon, "/ws/chat/a").error == "store_unavailable"
        scene.is_said_everywhere(State.CLUSTER)
        del redis.lines[-2:]
        redis.kill()
        redis.start()
        eventually(lambda: scene.readyz()["ok"])
        assert _keeps(connect(daemon, "/ws/chat/a"))
        daemon.stop()


def _answers(daemon: Daemon) -> bool:
    with contextlib.suppress(OSError):
        return daemon.get("/healthz")[0] == 200
    return False


# -- PostgreSQL


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    """A file system of its own."""
    folder = Path("/tmp") / f"relayd-disk-{os.getpid()}"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


class Admin:
    """PostgreSQL's superuser."""

    def __init__(self, server: PostgreSQL, disk: Path) -> None:
        self.connection = psycopg2.connect(server.url("states"))
        self.connection.autocommit = True
        self.disk = disk

    def __call__(self, *statements: str) -> None:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(sql.SQL(statement))

    def end_sessions(self) -> None:
        self("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")


def fill(disk: Path) -> None:
    """Leaves nothing free on it."""
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


@pytest.fixture(scope="module")
def admin(postgresql: PostgreSQL, small_disk: Path) -> Iterator[Admin]:
    with contextlib.closing(psycopg2.connect(postgresql.url())) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE ROLE app LOGIN")
        connection.cursor().execute("CREATE DATABASE states OWNER app")
    space = small_disk / "space"
    space.mkdir()
    if os.geteuid() == 0:
        shutil.chown(space, "postgres", "postgres")
    admin = Admin(postgresql, small_disk)
    admin(f"CREATE TABLESPACE small LOCATION '{space}'", "GRANT CREATE ON TABLESPACE small TO app")
    yield admin
    admin.connection.close()


@pytest.fixture(scope="module")
def over_postgresql(
    admin: Admin, postgresql: PostgreSQL, start: Callable[..., Daemon]
) -> Iterator[Scene]:
    url = postgresql.url("states").replace("relayd@", "app@")
    daemon = start(DATABASE_URL=url, database_pool_size=2)
    admin("ALTER TABLE chat_messages SET TABLESPACE small")
    yield Scene(daemon, Store.POSTGRESQL)
    daemon.stop()
    admin("DROP TABLE chat_messages", "DROP OWNED BY app CASCADE", "DROP TABLESPACE small")


def alter(setting: str) -> Callable[[Admin], None]:
    """Changes the role of relayd, and has it connect anew."""

    def tell(admin: Admin) -> None:
        admin(f"ALTER ROLE app {setting}")
        admin.end_sessions()

    return tell


POSTGRESQL = {
    State.FORBIDDEN: (
        lambda admin: admin("REVOKE INSERT ON chat_messages FROM app"),
        lambda admin: admin("GRANT INSERT ON chat_messages TO app"),
    ),
    State.READ_ONLY: (
        alter("SET default_transaction_read_only = on"),
        alter("RESET default_transaction_read_only"),
    ),
    State.CONNECTIONS: (alter("CONNECTION LIMIT 0"), alter("CONNECTION LIMIT -1")),
    State.DISK_FULL: (
        lambda admin: fill(admin.disk),
        lambda admin: (admin.disk / "filler").unlink(),
    ),
}


@pytest.mark.parametrize("state", POSTGRESQL)
def test_a_postgresql_that_refuses_is_told_everywhere_until_its_cause_ends(
    state: State, admin: Admin, over_postgresql: Scene, connect: Connect
) -> None:
    cause, end = POSTGRESQL[state]
    refuse_and_recover(
        over_postgresql, state, lambda: cause(admin), lambda: end(admin), connect
    )  # fmt: skip


def test_a_schema_that_may_not_be_prepared_is_prepared_after_the_grant(
    admin: Admin, postgresql: PostgreSQL, start: Callable[..., Daemon], connect: Connect
) -> None:
    admin("CREATE ROLE guest LOGIN", "CREATE SCHEMA own")
    url = postgresql.url("states").replace("relayd@", "guest@")
    daemon = start(DATABASE_URL=f"{url}?options=-csearch_path%3Down", wait=False)
    scene = Scene(daemon, Store.POSTGRESQL)
    eventually(lambda: _answers(daemon))
    scene.is_said_everywhere(State.MISSING)
    admin("GRANT USAGE ON SCHEMA own TO guest")
    scene.is_said_everywhere(State.FORBIDDEN)
    admin("GRANT CREATE ON SCHEMA own TO guest")
    eventually(lambda: scene.readyz()["ok"])
    assert _keeps(connect(daemon, "/ws/chat/a"))
    daemon.stop()
    admin("DROP SCHEMA own CASCADE", "DROP ROLE guest")


# -- SQLite


@pytest.fixture(scope="module")
def file(small_disk: Path) -> Path:
    folder = small_disk / "sqlite"
    folder.mkdir()
    return folder / "relayd.db"


@pytest.fixture(scope="module")
def over_sqlite(file: Path, start: Callable[..., Daemon]) -> Scene:
    daemon = start(
        DATABASE_URL=f"sqlite:///{file}", database_min_free=0, database_statement_timeout=0.3
    )
    return Scene(daemon, Store.SQLITE)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another program writes, and does not come to its end."""
    somebody = sqlite3.connect(file, isolation_level=None)
    somebody.execute("BEGIN IMMEDIATE")
    yield
    somebody.execute("ROLLBACK")
    somebody.close()


def test_a_sqlite_file_that_another_program_locks_is_told_everywhere_until_it_is_free(
    file: Path, over_sqlite: Scene, connect: Connect
) -> None:
    holding = locked(file)
    refuse_and_recover(
        over_sqlite, State.LOCKED,
        holding.__enter__, lambda: holding.__exit__(None, None, None), connect,
    )  # fmt: skip


def test_a_sqlite_file_on_a_full_disk_is_told_everywhere_until_there_is_space(
    small_disk: Path, over_sqlite: Scene, connect: Connect
) -> None:
    refuse_and_recover(
        over_sqlite, State.DISK_FULL,
        lambda: fill(small_disk), (small_disk / "filler").unlink, connect,
    )  # fmt: skip


def test_a_deleted_sqlite_file_is_told_everywhere_until_it_is_back(
    file: Path, over_sqlite: Scene, connect: Connect
) -> None:
    """Nothing is acknowledged that would be gone after a restart."""

    def delete() -> None:
        for path in file.parent.glob("relayd.db*"):
            path.rename(path.with_name(path.name.replace("relayd", "aside")))

    def put_back() -> None:
        for path in file.parent.glob("aside.db*"):
            path.rename(path.with_name(path.name.replace("aside", "relayd")))

    refuse_and_recover(over_sqlite, State.MISSING, delete, put_back, connect)


def test_a_sqlite_file_that_is_replaced_is_told_once_and_used(
    file: Path, over_sqlite: Scene, connect: Connect
) -> None:
    daemon = over_sqlite.daemon
    client = connect(daemon, "/ws/chat/replaced")
    assert _keeps(client)
    with contextlib.closing(sqlite3.connect(file)) as here:
        here.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other = file.with_name("other.db")
    shutil.copy(file, other)
    before = len(daemon.log)
    other.replace(file)
    assert _keeps(client)
    eventually(lambda: over_sqlite.readyz()["ok"])
    assert len(over_sqlite.lines(before, State.REPLACED.words)) == 1
    with contextlib.closing(sqlite3.connect(file)) as here:
        rows = here.execute("SELECT COUNT(*) FROM chat_messages WHERE room = 'replaced'")
        assert rows.fetchone() == (2,)


def test_a_deleted_log_of_a_sqlite_file_is_told_once_and_costs_no_message(
    file: Path, over_sqlite: Scene, connect: Connect
) -> None:
    """Each time, what was acknowledged before is in no file with a name until relayd notices."""
    daemon, log = over_sqlite.daemon, log_of(file)
    client = connect(daemon, "/ws/chat/log")
    assert _keeps(client)
    before = len(daemon.log)
    log.unlink()
    assert _keeps(client)  # the next transaction notices
    eventually(lambda: over_sqlite.lines(before, "is back after") != [])
    assert len(over_sqlite.lines(before, State.LOG_LOST.words)) == 1
    assert _keeps(client)
    log.unlink()
    log.write_bytes(b"")  # a probe notices; the file of another program is no log of ours
    eventually(lambda: over_sqlite.readyz().get("state") == State.LOG_LOST)
    assert _keeps(client)
    daemon.kill()
    with contextlib.closing(sqlite3.connect(file)) as here:
        rows = here.execute("SELECT COUNT(*) FROM chat_messages WHERE room = 'log'")
        assert rows.fetchone() == (4,)
        assert here.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    over_sqlite.daemon.start()


def test_a_log_that_cannot_be_saved_is_told_everywhere_until_it_can(
    file: Path, over_sqlite: Scene, connect: Connect
) -> None:
    """Another program reads an older state, which is in that log."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as reader:

        def delete() -> None:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM chat_messages").fetchone()
            log_of(file).unlink()

        refuse_and_recover(
            over_sqlite, State.LOG_LOST, delete, lambda: reader.execute("ROLLBACK"), connect
        )
    over_sqlite.daemon.kill()
    with contextlib.closing(sqlite3.connect(file)) as here:
        assert here.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    over_sqlite.daemon.start()


def test_a_start_on_a_read_only_file_system_ends_with_the_remedy(
    small_disk: Path, start: Callable[..., Daemon]
) -> None:
    folder = small_disk / "mounted"
    folder.mkdir()
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        settings = {"DATABASE_URL": f"sqlite:///{folder}/relayd.db", "database_min_free": 0}
        start(**settings).stop()
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        daemon = start(**settings, wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(30) == 1
        assert daemon.log.count(remedy(Store.SQLITE, State.READ_ONLY)) == 1
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
