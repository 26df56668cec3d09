"""PgBouncer in transaction mode before a real PostgreSQL: what relayd asks of a session holds."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import pytest_twisted

from relayd.errors import DatabaseUnavailable
from relayd.storage import engines, schema, tables
from relayd.storage.engines import Bounds
from relayd.storage.pool import Database
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn
from tests.ports import free_port
from tests.servers import PostgreSQL

_START = 20.0  # seconds


@pytest.fixture(scope="module")
def pooler(postgresql: PostgreSQL) -> Iterator[str]:
    """A PgBouncer in transaction mode with two connections a database; "DB" stands for its name."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise RuntimeError("these tests need pgbouncer (apt: pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="relayd-pgbouncer-"))
    port = free_port()
    (folder / "users.txt").write_text('"relayd" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgresql.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        "default_pool_size = 2\nmax_client_conn = 100\n"
    )
    command = [program, str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until = time.monotonic() + _START
        while True:
            try:
                url = f"postgresql://relayd@127.0.0.1:{port}/DB?pgbouncer=true&connection_limit=5"
                psycopg2.connect(
                    host="127.0.0.1", port=port, user="relayd", dbname="postgres"
                ).close()
                break
            except psycopg2.OperationalError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((folder / "log").read_text()) from error
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(pooler: str, postgresql: PostgreSQL) -> str:
    """A fresh database without tables, through the pooler."""
    return pooler.replace("DB", postgresql.create())


def test_the_start_up_parameter_that_relayd_does_not_send_is_refused(pooler: str) -> None:
    refused = pooler.replace("/DB?", "/postgres?options=-cstatement_timeout%3D1&")
    with (
        pytest.raises(DatabaseUnavailable, match="unsupported startup parameter"),
        engines.engine(refused).connected(),
    ):
        pass


def test_migrations_run_through_it_one_process_at_a_time(url: str) -> None:
    first = schema.migrate(url)
    assert first
    assert all(step.applied for step in schema.status(url))
    assert schema.rollback(url) == first[-1:]
    assert schema.migrate(url) == first[-1:]
    table = tables.QUIZZES
    data = b"name,difficulty,lef_sel,rig_sel,detail\na,1,x,y,z\n"
    assert tables.import_rows(url, table, data).added == 1


def test_no_lock_and_no_setting_stays_with_a_server_of_the_pool(url: str) -> None:
    schema.migrate(url)
    engine = engines.engine(url, Bounds(statement=7.0, lock=3.0))
    with engine.connected() as connection, engine.connected() as plain:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT current_setting(%s), current_setting(%s)", ("statement_timeout", "lock_timeout")
        )
        assert cursor.fetchone() == ("7s", "3s")
        with engine.transaction(connection) as inside:
            inside.execute("SELECT 1")
            inside.execute("SHOW statement_timeout")
            assert inside.fetchone() == ("7s",)
        with engine.transaction(plain, engine.snapshot) as inside:
            inside.execute("SHOW statement_timeout")
            assert inside.fetchone() == ("7s",)
    outside = psycopg2.connect(url.partition("?")[0])
    try:
        outside.autocommit = True
        for _ in range(3):
            with outside.cursor() as cursor:
                cursor.execute("SHOW statement_timeout")
                assert cursor.fetchone() == ("0",)
                cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
                assert cursor.fetchone() == (0,)
    finally:
        outside.close()


@pytest_twisted.ensureDeferred
async def test_a_statement_that_takes_too_long_is_ended_in_every_transaction(url: str) -> None:
    from twisted.internet import reactor

    database = Database(url, reactor=reactor, pool_size=1, statement_timeout=0.2, deadline=20.0)
    try:
        for write in (False, True, False):
            with pytest.raises(DatabaseUnavailable, match="statement timeout"):
                await database.run(
                    "sleep", lambda cursor: cursor.execute("SELECT pg_sleep(9)"), write=write
                )
    finally:
        await database.close()


def test_a_schema_of_the_url_holds_the_tables(url: str, postgresql: PostgreSQL) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    postgresql.execute("CREATE SCHEMA app", name)
    within = f"{url}&schema=app"
    schema.migrate(within)
    postgresql.execute("SELECT 1 FROM app.quizzes", name)
    with pytest.raises(psycopg2.errors.UndefinedTable):
        postgresql.execute("SELECT 1 FROM public.quizzes", name)


def test_a_relayd_serves_through_it(url: str, spawn: Spawn, connect: Connect) -> None:
    daemon = spawn(database_url=url)
    client = connect(daemon, "/ws/chat/a")
    for number in range(5):
        say(client, {"message": f"m{number}"})
        assert read(client)["message"].endswith(f"m{number}")
    again = connect(daemon, "/ws/chat/a")
    assert [read(again)["message"][-2:] for _ in range(5)] == [f"m{number}" for number in range(5)]
