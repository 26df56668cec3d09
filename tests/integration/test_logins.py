"""Passwords of PostgreSQL and Redis that are changed while clients write: no restart, no loss."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from websockets.exceptions import InvalidStatus

from relayd.ctl.control_client import UnixConnection
from relayd.storage.engines import Cursor
from relayd.storage.pool import Database
from relayd.stores import logins
from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.integration.workers import wait_for_workers
from tests.redis_scene import until
from tests.redis_servers import Redis
from tests.servers import PostgreSQL
from tests.unit.fakes import logged_lines

IN_USE = "the new login is in use"


def ask(daemon: Daemon, path: str, **secrets: str) -> tuple[int, Any]:
    """Posts secrets to the control socket, as relayctl does for root."""
    connection = UnixConnection(str(daemon.folder / "var" / "control.sock"), 10.0)
    connection.request("POST", path, json.dumps({"credentials": secrets}))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


class Talk:
    """A client that posts without pause, and a member that notes what comes."""

    def __init__(self, daemon: Daemon, connect: Connect) -> None:
        self._speaker = connect(daemon, "/ws/chat/rotation?history=0")
        self._member = connect(daemon, "/ws/chat/rotation?history=0")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.said = 0
        self.odd: list[Any] = []

    def __enter__(self) -> "Talk":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.005):  # its rate is limited
            text = f"{self.said}"
            say(self._speaker, {"message": text})
            for client in (self._speaker, self._member):
                found = read(client)
                if found.get("message") != text:
                    self.odd.append(found)
                    return
            self.said += 1

    def goes_on(self) -> None:
        """Returns after some more messages, each of which came to both in its turn."""
        before = self.said
        eventually(lambda: self.odd != [] or self.said > before + 5)
        assert self.odd == []


# -- PostgreSQL


@pytest.fixture
def guarded(own_postgresql: PostgreSQL) -> PostgreSQL:
    """A server with a database of `app`, whose password it asks for."""
    path = own_postgresql.folder / "data" / "pg_hba.conf"
    path.write_text(f"host all app 127.0.0.1/32 scram-sha-256\n{path.read_text()}")
    own_postgresql.execute("CREATE ROLE app LOGIN PASSWORD 'first-word'")
    own_postgresql.execute("CREATE DATABASE guarded OWNER app")
    own_postgresql.execute("SELECT pg_reload_conf()")
    return own_postgresql


def sessions(server: PostgreSQL) -> set[int]:
    """The processes of PostgreSQL that serve relayd."""
    with psycopg2.connect(server.url()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'app'")
        found = {pid for (pid,) in cursor.fetchall()}
    connection.close()
    return found


def test_a_rotated_password_of_postgresql_costs_no_message(
    guarded: PostgreSQL, spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    """The wrong order first: relayd gets the new password before PostgreSQL has it."""
    old = guarded.url("guarded").replace("relayd@", "app:first-word@")
    new = old.replace("first-word", "second-word")
    (tmp_path / "relayd_database_url").write_text(old)
    daemon = spawn(CREDENTIALS_DIRECTORY=tmp_path, database_pool_size=2)
    with Talk(daemon, connect) as talk:
        talk.goes_on()
        before = sessions(guarded)
        status, found = ask(daemon, "/differences", database_url=new)
        assert status == 200
        [difference] = found["found"]
        assert (difference["setting"], difference["remedy"]) == ("[database] url", "reload")
        status, outcome = ask(daemon, "/reload", database_url=new)
        assert (status, outcome["restart"]) == (200, [])
        assert outcome["lines"][0].startswith("applied to new connections: [database] url")
        eventually(lambda: "the new login does not work yet" in daemon.log)
        talk.goes_on()
        assert IN_USE not in daemon.log
        guarded.execute("ALTER ROLE app PASSWORD 'second-word'")
        eventually(lambda: IN_USE in daemon.log)
        talk.goes_on()
        eventually(lambda: not before & sessions(guarded))
    assert talk.odd == []
    # what was handed over holds for later reloads, and nothing differs
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: "no setting has changed" in daemon.log)
    assert ask(daemon, "/differences", database_url=new)[1] == {"found": []}
    assert Operator(daemon.folder).json("status")["differs"] == []
    assert "secrets handed over: database_url" in daemon.log
    assert "-word" not in daemon.log
    # another database is no login
    status, outcome = ask(daemon, "/reload", database_url=new.replace("guarded", "postgres"))
    assert [one["key"] for one in outcome["restart"]] == ["url"]


@pytest_twisted.ensureDeferred
async def test_a_thread_that_needs_a_connection_takes_the_login_that_postgresql_takes(
    guarded: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is changed already; the next attempt with the new one is a minute away."""
    from twisted.internet import reactor

    monkeypatch.setattr(logins, "RETRY", 60.0)
    old = guarded.url("guarded").replace("relayd@", "app:first-word@")
    new = old.replace("first-word", "second-word")
    database = Database(old, reactor=reactor, pool_size=2)

    def user(cursor: Cursor) -> str:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])

    def wait(cursor: Cursor) -> None:
        cursor.execute("SELECT pg_sleep(1)")

    try:
        assert await database.run("user", user) == "app"
        with logged_lines("relayd.stores.logins") as lines:
            database.log_in_anew(new)
            await until(lambda: "does not work yet" in " ".join(lines))
        guarded.execute("ALTER ROLE app PASSWORD 'second-word'")
        busy = Deferred.fromCoroutine(database.run("wait", wait))
        assert await database.run("user", user) == "app"
        assert not busy.called
        await busy
    finally:
        await database.close()


def test_a_secret_that_cannot_be_used_changes_nothing(spawn: Spawn) -> None:
    daemon = spawn()
    status, answer = ask(daemon, "/reload", redis_url="redis://:hidden-word@:0")
    assert status == 400
    assert "nothing has changed: credential redis_url" in answer["message"]
    assert "hidden-word" not in answer["message"] + daemon.log
    assert ask(daemon, "/reload")[1]["lines"] == ["no setting has changed"]


def test_only_root_may_hand_over_secrets(spawn: Spawn) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        place = folder / "control.sock"
        spawn(control_socket=place)
        place.chmod(0o666)
        for path in ("/reload", "/differences"):
            for uid, status in ((65534, "403"), (0, "200")):
                ran = subprocess.run(
                    [
                        *("setpriv", f"--reuid={uid}", "--clear-groups", "curl", "--silent"),
                        *("--output", "/dev/null", "--write-out", "%{http_code}"),
                        *("--unix-socket", str(place), "--data", '{"credentials": {}}'),
                        f"http://localhost{path}",
                    ],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                assert ran.stdout.strip() == status
    finally:
        shutil.rmtree(folder)


# -- Redis


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis("user relayd on >first-word ~* &* +@all") as server:
        yield server


def test_a_rotated_password_of_redis_costs_no_message_with_workers(
    redis: Redis, spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    old = f"redis://relayd:first-word@127.0.0.1:{redis.port}"
    (tmp_path / "relayd_redis_url").write_text(old)
    daemon = spawn(
        wait=False, CREDENTIALS_DIRECTORY=tmp_path, server_workers=2, server_spread="connections"
    )
    wait_for_workers(daemon)
    with Talk(daemon, connect) as talk:
        talk.goes_on()
        redis.tell("ACL", "SETUSER", "relayd", "resetpass", ">second-word")
        redis.tell("ACL", "SETUSER", "other", "on", ">third-word", "~*", "&*", "+@all")
        for url in (old.replace("first", "second"), old.replace("relayd:first", "other:third")):
            wanted = daemon.log.count(IN_USE) + 2
            assert ask(daemon, "/reload", redis_url=url)[1]["restart"] == []
            eventually(partial(_has, daemon, wanted))
            talk.goes_on()
        # also the connections with subscriptions, so nobody notices the end of the old user
        listed: bytes = redis.tell("CLIENT", "LIST")
        users = [line for line in listed.splitlines() if b" name=relayd-" in line]
        assert len(users) == 4
        assert all(b" user=other " in line for line in users)
        redis.tell("ACL", "DELUSER", "relayd")
        talk.goes_on()
    assert talk.odd == []
    # a worker that starts later, and connections that are made anew, have the new login
    redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(lambda: _may_talk(daemon))
    assert "-word" not in daemon.log


def _has(daemon: Daemon, wanted: int) -> bool:
    return daemon.log.count(IN_USE) == wanted


def _may_talk(daemon: Daemon) -> bool:
    with contextlib.suppress(InvalidStatus), daemon.connect("/ws/chat/after?history=0") as client:
        say(client, {"message": "after"})
        return read(client).get("message") == "after"
    return False
