"""The log of a spawned relayd: text, JSON, the journal, levels; what twistd is told; no secrets."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from tests.daemon import Daemon
from tests.integration.clients import Refused, read_close, say, settle
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.waiting import eventually
from tests.journal import FakeJournal
from tests.processes import TWISTD, run
from tests.redis_servers import Redis

SECRET = "a secret for tests that is long enough for HS256"
TOKEN = jwt.encode({"sub": "ada"}, SECRET, "HS256")
JOURNAL = "_RELAYD_JOURNAL"


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test."""
    with Redis(password="hunter2") as server:
        yield server


def records(daemon: Daemon) -> list[dict[str, Any]]:
    """The log as JSON lines; every line must be one."""
    return [json.loads(line) for line in daemon.log.splitlines()]


def of_connection(daemon: Daemon, conn: str) -> list[dict[str, Any]]:
    return [found for found in records(daemon) if found.get("conn") == conn]


def test_a_connections_life_can_be_followed_by_its_id(spawn: Spawn, connect: Connect) -> None:
    daemon = spawn(log_format="json", log_level="debug")
    client = connect(daemon, "/ws/camera/g?token=hunter2")
    say(client, {"x": 1})
    say(client, {"x": "no number"})
    settle(client)
    client.close(3001, "enough \n")
    eventually(lambda: len(of_connection(daemon, "c1")) == 3)
    opened, told, closed = of_connection(daemon, "c1")
    peer = opened["peer"]
    assert peer.startswith("127.0.0.1:")
    for found in (opened, told, closed):
        assert (found["path"], found["peer"], found["kind"]) == ("/ws/camera/g", peer, "camera")
    assert (opened["level"], opened["message"]) == ("info", f"c1 /ws/camera/g opened by {peer}")
    assert (told["level"], told["code"]) == ("debug", "bad_pose")
    assert (closed["level"], closed["got"], closed["messages"]) == ("info", 3001, 2)
    assert closed["seconds"] > 0
    words = "c1 /ws/camera/g closed: sent 1000, got 3001 (enough \\n); it was open for "
    assert closed["message"].startswith(words)


def test_refused_handshakes_have_their_code(spawn: Spawn, dial: Dial) -> None:
    daemon = spawn(log_format="json")
    assert Refused(daemon, "/ws/difficulty/android/nonsense?token=hunter2").status == 400
    dial(daemon).send(b"GET / HTTP/1.1\r\nX: " + b"x" * 20000)
    eventually(lambda: any(found.get("status") == 431 for found in records(daemon)))
    (found,) = of_connection(daemon, "c1")
    assert (found["status"], found["code"], found["kind"]) == (400, "bad_uuid", "difficulty")
    assert found["path"] == "/ws/difficulty/android/{uuid}"
    assert found["peer"].startswith("127.0.0.1:")
    (found,) = [found for found in records(daemon) if found.get("status") == 431]
    assert (found["code"], found["peer"]) == ("head_too_large", "127.0.0.1")


def test_a_close_by_relayd_is_logged_with_its_reason(spawn: Spawn, connect: Connect) -> None:
    daemon = spawn(log_format="json", limits_messages_per_second=1)
    client = connect(daemon, "/ws/camera")
    with contextlib.suppress(ConnectionClosed):  # by them, before the last one
        for _ in range(9):
            say(client, {"x": 1})
    assert read_close(client) == (4004, "rate limit")
    client.close()
    eventually(lambda: len(of_connection(daemon, "c1")) == 3)
    _, warned, closed = of_connection(daemon, "c1")
    assert (warned["message"], warned["code"]) == (
        "c1 /ws/camera was warned: rate_limited",
        "rate_limited",
    )
    assert (closed["sent"], closed["reason"]) == (4004, "rate limit")
    assert "sent 4004, got 4004 (rate limit); it was open for" in closed["message"]


def test_json_is_one_object_a_line_from_the_start_to_the_end(spawn: Spawn) -> None:
    daemon = spawn(log_format="json")
    daemon.get("/healthz")
    daemon.get("/nothing?token=hunter2")
    daemon.stop()
    found = records(daemon)
    assert {"time", "level", "message", "logger"} <= set(found[0])
    (request,) = [one for one in found if one.get("path") == "/nothing"]
    assert (request["method"], request["status"], request["peer"]) == ("GET", 404, "127.0.0.1")
    assert any(one["logger"] == "relayd.node.Node" for one in found)
    assert found[-1]["message"] == "Server Shut Down."


def test_lines_below_the_log_level_are_left_out(
    spawn: Spawn, connect: Connect, redis: Redis
) -> None:
    url = f"redis://:hunter2@127.0.0.1:{redis.port}"
    daemon = spawn(log_level="warning", redis_url=url)
    connect(daemon, "/ws/camera")
    redis.kill()
    eventually(lambda: "is away" in daemon.log)
    daemon.stop()
    lines = [line for line in daemon.log.splitlines() if line]
    assert all("#warn] " in line for line in lines), lines


def test_the_journal_gets_the_lines_with_their_fields(
    spawn: Spawn, connect: Connect, journal: FakeJournal
) -> None:
    journal.collect()
    daemon = spawn(log_format="journal", **{JOURNAL: journal.path})
    (*_, listens) = journal.until("listens on")
    assert listens["LOGGER"] == "relayd.node.Node"
    connect(daemon, "/ws/chat/a").close()
    found = [one for one in journal.until("closed") if one.get("CONN") == "c1"]
    assert [one["MESSAGE"].split()[2] for one in found] == ["opened", "closed:"]
    assert {(one["PATH"], one["KIND"], one["PRIORITY"]) for one in found} == {
        ("/ws/chat/a", "chat", "6")
    }
    assert daemon.log == ""


def test_workers_write_to_the_journal_with_their_number(
    spawn: Spawn, redis: Redis, journal: FakeJournal
) -> None:
    journal.collect()
    url = f"redis://:hunter2@127.0.0.1:{redis.port}"
    daemon = spawn(
        wait=False, log_format="journal", server_workers=2, redis_url=url, **{JOURNAL: journal.path}
    )
    seen: set[str | None] = set()
    while seen != {None, "1", "2"}:
        (*_, found) = journal.until("")
        if found["LOGGER"].startswith("relayd."):
            seen.add(found.get("WORKER"))
        assert not found["MESSAGE"].startswith("w1 ")
    daemon.wait_until_ready()
    assert "hunter2" not in daemon.log


def test_workers_write_json_with_their_number(spawn: Spawn, redis: Redis) -> None:
    url = f"redis://:hunter2@127.0.0.1:{redis.port}"
    daemon = spawn(wait=False, log_format="json", server_workers=2, redis_url=url)
    eventually(lambda: daemon.log.count("listens on") == 2)
    listening = [found for found in records(daemon) if "listens on" in found["message"]]
    assert sorted(found["worker"] for found in listening) == [1, 2]
    (parent,) = [found for found in records(daemon) if "workers share" in found["message"]]
    assert "worker" not in parent
    assert "hunter2" not in daemon.log


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_token_no_key_and_no_password_is_in_the_log(
    spawn: Spawn, connect: Connect, redis: Redis, format: str
) -> None:
    """Whether what they belong to goes well or not."""
    daemon = spawn(
        log_format=format,
        log_level="debug",
        auth_secret=SECRET,
        api_key="hunter2",
        redis_url=f"redis://:hunter2@127.0.0.1:{redis.port}",
    )
    client = connect(daemon, f"/ws/chat/a?token={TOKEN}")
    say(client, {"message": "a private word"})
    say(client, {"message": 1, "token": "private"})
    settle(client)
    assert Refused(daemon, f"/ws/chat/a?token={TOKEN[:-2]}").status == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    connect(daemon, "/ws/chat/a", additional_headers=bearer)
    daemon.get(f"/chat/a/?token={TOKEN}")
    daemon.get("/nothing%3Fkey%3Dhunter2")
    daemon.get("/nothing%23hunter2")
    daemon.post("/api/push/a", b"{}", Authorization="Bearer hunter2")
    daemon.post("/api/push/a?key=private", b"{}", Authorization="Bearer private")
    redis.kill()
    eventually(lambda: "is away" in daemon.log)
    daemon.stop()
    for secret in (SECRET, TOKEN, TOKEN.split(".")[2][:-2], "hunter2", "private"):
        assert secret not in daemon.log
    assert daemon.log.count("refused: 401 unauthorized") == 1


# -- twistd's own options


@pytest.mark.parametrize(
    "options", [["--logfile=log"], ["--logger=relayd.workers.worker.log_observer"]]
)
def test_log_options_of_twistd_win_over_the_configuration(
    options: list[str], tmp_path: Path, journal: FakeJournal
) -> None:
    """It looks as twistd has it. An address that is not ours ends it at once."""
    listen = "tcp:1:interface=192.0.2.1"
    done = run(
        [TWISTD, "--nodaemon", "--pidfile=", *options, "relayd", "--listen", listen],
        cwd=tmp_path,
        env={"RELAYD_LOG_FORMAT": "json", "PATH": "/usr/bin:/bin", JOURNAL: str(journal.path)},
    )
    assert done.returncode == 1
    log = (tmp_path / "log").read_text() if "file" in options[0] else done.stdout
    assert " [twisted.scripts._twistd_unix.UnixAppLogger#info] twistd " in log
    assert not log.startswith("{")
