"""SIGHUP on a spawned relayd: a right configuration is applied, a wrong one changes nothing."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.frames import PING, PONG, frame
from tests.integration.clients import PATIENCE, Refused, read, read_close, say, settle
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.relayctl import Operator
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually
from tests.integration.workers import pids, wait_for_workers
from tests.ports import free_port
from tests.processes import TWISTD
from tests.redis_servers import Redis

Configure = Callable[..., str]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Writes the configuration, or a file of conf.d, and returns its path."""

    def write(text: str, name: str = "relayd.toml") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o640)
        return str(path)

    return write


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test."""
    with Redis() as server:
        yield server


def reload(daemon: Daemon, *lines: str) -> None:
    """Sends SIGHUP and returns when the log has these lines, each once more than before."""
    before = daemon.log
    os.kill(daemon.pid, signal.SIGHUP)
    for line in lines:
        count = before.count(line)
        eventually(lambda line=line, count=count: daemon.log.count(line) == count + 1)  # type: ignore[misc]


def test_a_lower_ping_interval_pings_a_quiet_client_before_it_is_closed(
    spawn: Spawn, dial: Dial, configure: Configure
) -> None:
    path = configure("[keepalive]\nping_interval = 4\npong_timeout = 4\n")
    daemon = spawn(RELAYD_CONFIG=path)
    quiet = dial(daemon).open("/ws/camera")
    time.sleep(2)  # the point of the test is that nothing came for longer than the new times
    configure("[keepalive]\nping_interval = 0.3\npong_timeout = 1.2\n")
    reload(daemon, "reload: applied at once: [keepalive] ping_interval")
    for _ in range(2):
        assert quiet.frame() == (PING, b"")
        quiet.send(frame(PONG))


def test_a_right_configuration_is_applied_and_nobody_notices(
    spawn: Spawn, connect: Connect, configure: Configure
) -> None:
    path = configure("[server]\nallowed_origins = ['https://a']\n")
    daemon = spawn(RELAYD_CONFIG=path)
    early = connect(daemon, "/ws/chat/a")
    assert Refused(daemon, "/ws/echo").status == 404
    assert daemon.post("/api/push/a", b"{}", Authorization="Bearer new")[0] == 404
    configure("""
        [server]
        allowed_origins = ["https://b"]
        [echo]
        enabled = true
        max_message_size = 10
        [api]
        key = "new"
        [chat]
        message_prefix = "> "
        [limits]
        messages_per_second = 1
    """)
    reload(
        daemon,
        'reload: applied at once: [server] allowed_origins = ["https://b"] (was ["https://a"])\n',
        "reload: applied to new connections: [echo] enabled = true (was false)\n",
        'reload: applied at once: [api] key = (hidden) (was "")\n',
        "reload: applied to new connections: [limits] messages_per_second = 1.0 (was 500.0)\n",
    )
    assert daemon.post("/api/push/a", b"{}", Authorization="Bearer new") == (200, {"clients": 0})
    assert Refused(daemon, "/ws/camera", origin="https://a").error == "origin_not_allowed"
    late = connect(daemon, "/ws/echo", origin="https://b")
    late.send("0123456789")
    assert late.recv(PATIENCE) == "0123456789"
    late.send("0123456789a")
    assert read_close(late)[0] == 1009
    # whoever was there stays, and its own limits with it
    for number in range(9):
        say(early, {"message": str(number)})
    assert [read(early)["message"] for _ in range(9)] == [f"> {number}" for number in range(9)]
    limited = connect(daemon, "/ws/chat/a?history=0")
    with contextlib.suppress(ConnectionClosed):
        for _ in range(9):
            say(limited, {"message": "x"})
    assert read_close(limited)[0] == 4004
    configure("[limits]\nmax_connections = 1\n")
    reload(daemon, "applied to new connections: [limits] max_connections = 1 (was 0)\n")
    assert Refused(daemon, "/ws/camera").error == "too_many_connections"
    settle(early)


def test_a_wrong_configuration_changes_nothing_and_says_why(
    spawn: Spawn, connect: Connect, configure: Configure
) -> None:
    path = configure("[echo]\nenabled = true\n")
    daemon = spawn(RELAYD_CONFIG=path)
    client = connect(daemon, "/ws/echo")
    configure("[echo]\nenabled = false\n[chat]\nhistory = -1\n")
    reload(daemon, f"#error] reload: nothing has changed: {path}: [chat] history = -1: ")
    configure("[echo]\nenabled = false\n")
    drop_in = configure("[auth]\nsecret_file = '/nowhere/secret'\n", "conf.d/50-auth.toml")
    reload(daemon, f"nothing has changed: {drop_in}: [auth] secret_file = '/nowhere/secret': ")
    Path(path).unlink()
    reload(daemon, f"nothing has changed: {path}: cannot be read: No such file or directory\n")
    for echoing in (client, connect(daemon, "/ws/echo")):
        echoing.send("words")
        assert echoing.recv(PATIENCE) == "words"


def test_settings_that_need_a_restart_are_named_each_time_and_not_applied(
    spawn: Spawn, configure: Configure
) -> None:
    path = configure("")
    daemon = spawn(RELAYD_CONFIG=path)
    configure(
        "[server]\nworkers = 2\n[redis]\nurl = 'redis://:hunter2@h'\n[log]\nlevel = 'debug'\n"
    )
    wanted = (
        "#warn] reload: needs a restart: [server] workers = 2 (was 1)\n",
        '#warn] reload: needs a restart: [redis] url = "redis://***@h" (was "")\n',
    )
    # before the reload: status, doctor and the metrics say what differs, and what it needs
    operator = Operator(daemon.folder, RELAYD_CONFIG=path)
    assert (
        "differs from the files: [log] level (a reload does it), "
        "[server] workers (needs a restart), [redis] url (needs a restart)"
    ) in Operator(daemon.folder)("status").stdout
    found = json.loads(operator("doctor", "--json").stdout)["findings"]
    shown = {
        one["finding"]: (one["state"], one["remedy"].partition(";")[0])
        for one in found
        if one["check"] == "differences"
    }
    assert shown == {
        '[log] level = "debug" (was "info"): a reload does it': ("warn", "relayctl reload"),
        "[server] workers = 2 (was 1): needs a restart": ("warn", "relayctl restart"),
        '[redis] url = "redis://***@h" (was ""): needs a restart': ("warn", "relayctl restart"),
    }
    metrics = scrape(daemon)
    assert value(metrics, "relayd_configuration_differs", remedy="reload") == 1
    assert value(metrics, "relayd_configuration_differs", remedy="restart") == 2
    reload(daemon, *wanted, '#info] reload: applied at once: [log] level = "debug" (was "info")\n')
    assert value(scrape(daemon), "relayd_configuration_differs", remedy="reload") == 0
    reload(daemon, *wanted)
    assert daemon.log.count("applied at once") == 1
    assert daemon.get("/readyz")[0] == 200
    configure("[log]\nlevel = 'debug'\n")
    reload(daemon, "#info] reload: no setting has changed\n")
    assert "differs" not in operator("status").stdout


def test_the_level_of_the_log_changes(spawn: Spawn, connect: Connect, configure: Configure) -> None:
    daemon = spawn(RELAYD_CONFIG=configure("[log]\nlevel = 'warning'\n"))
    connect(daemon, "/ws/camera/before")
    configure("[log]\nlevel = 'info'\n")
    reload(daemon, "applied at once: [log] level")
    connect(daemon, "/ws/camera/after")
    eventually(lambda: "/ws/camera/after opened" in daemon.log)
    assert "/ws/camera/before opened" not in daemon.log


def test_a_secret_is_read_again_from_its_file(spawn: Spawn, configure: Configure) -> None:
    key = configure("old", "key")
    daemon = spawn(RELAYD_CONFIG=configure(f"[api]\nkey_file = '{key}'\n"))
    assert daemon.post("/api/push/a", b"{}", Authorization="Bearer old")[0] == 200
    configure("new", "key")
    reload(daemon, "applied at once: [api] key\n")
    assert daemon.post("/api/push/a", b"{}", Authorization="Bearer old")[0] == 401
    assert daemon.post("/api/push/a", b"{}", Authorization="Bearer new")[0] == 200


def test_the_keepalive_settings_apply_to_open_connections_after_a_reload(
    spawn: Spawn, connect: Connect, configure: Configure
) -> None:
    """A client that has been there for long is pinged as the new configuration has it."""
    daemon = spawn(RELAYD_CONFIG=configure(""), log_level="debug")
    client = connect(daemon, "/ws/camera")
    configure("[keepalive]\nping_interval = 0.1\n")
    reload(daemon, "applied at once: [keepalive] ping_interval = 0.1 (was 25.0)\n")
    eventually(lambda: "was silent and is pinged" in daemon.log)
    settle(client)


# -- with workers


@pytest.fixture
def two(spawn: Spawn, redis: Redis, configure: Configure) -> Daemon:
    """A relayd with two workers and a configuration file."""
    path = configure("")
    daemon = spawn(
        wait=False,
        RELAYD_CONFIG=path,
        server_workers=2,
        server_spread="connections",
        redis_url=f"unix://{redis.socket}",
    )
    wait_for_workers(daemon)
    return daemon


def enough(daemon: Daemon, connect: Connect, path: str) -> list[ClientConnection]:
    """Clients of both workers."""
    clients: list[ClientConnection] = []

    opened = ""
    refused = 0
    while not ("w1 " in opened and "w2 " in opened):
        assert len(clients) + refused < 300
        try:
            clients.append(connect(daemon, path))
        except InvalidStatus:  # of a worker that has yet to read what the parent has applied
            refused += 1
            time.sleep(0.05)
            continue
        settle(clients[-1])
        opened = "".join(line for line in daemon.log.splitlines() if f"{path} opened" in line)
    return clients


def test_every_worker_applies_the_configuration_that_the_parent_has_read(
    two: Daemon, connect: Connect, configure: Configure
) -> None:
    configure("[echo]\nenabled = true\n")
    reload(two, "reload: applied to new connections: [echo] enabled = true (was false)\n")
    for client in enough(two, connect, "/ws/echo"):
        client.send("words")
        assert client.recv(PATIENCE) == "words"


def test_a_worker_that_starts_after_a_reload_has_the_new_configuration(
    two: Daemon, connect: Connect, configure: Configure
) -> None:
    configure("[echo]\nenabled = true\n[chat]\nhistory_length = 7\n")
    reload(two, "needs a restart: [chat] history_length = 7 (was 10000)\n")
    os.kill(pids(two)[1], signal.SIGKILL)
    wait_for_workers(two, 3)
    enough(two, connect, "/ws/echo")


def test_a_wrong_configuration_does_not_reach_the_workers(
    two: Daemon, connect: Connect, configure: Configure
) -> None:
    path = configure("[echo]\nenabled = 1\n")
    reload(two, f"nothing has changed: {path}: [echo] enabled = 1: ")
    settle(*enough(two, connect, "/ws/camera"))
    assert Refused(two, "/ws/echo").status == 404


def test_sighup_to_the_whole_group_is_one_reload(
    two: Daemon, connect: Connect, configure: Configure
) -> None:
    clients = enough(two, connect, "/ws/camera")
    configure("[echo]\nenabled = true\n")
    for pid in pids(two).values():
        os.kill(pid, signal.SIGHUP)
    reload(two, "applied to new connections: [echo] enabled = true (was false)\n")
    settle(*clients)
    assert two.log.count("reload: ") == 1
    assert "ended after" not in two.log


# -- a terminal


def test_relayd_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    """Otherwise relayd would go on unseen and hold the port that its next start needs."""
    ours, theirs = os.openpty()
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [TWISTD, "--nodaemon", "--pidfile=", "relayd",
             "--listen", f"tcp:{free_port()}:interface=127.0.0.1"],
            cwd=tmp_path, stdin=theirs, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
    os.close(theirs)
    try:
        eventually(lambda: "listens on" in (tmp_path / "log").read_text())
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "reload: no setting has changed" in (tmp_path / "log").read_text())
        os.close(ours)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert "stopping: 0 connections to close" in (tmp_path / "log").read_text()


# -- relayctl


def operator(daemon: Daemon, **settings: object) -> Operator:
    """Somebody with the configuration of the daemon."""
    return Operator(daemon.folder, config=daemon.env["RELAYD_CONFIG"], **settings)


def test_relayctl_reload_reports_the_result(
    spawn: Spawn, connect: Connect, configure: Configure
) -> None:
    daemon = spawn(RELAYD_CONFIG=configure(""))
    relayctl = operator(daemon)
    done = relayctl("reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no setting has changed\n", "")
    configure(
        "[echo]\nenabled = true\n[server]\nworkers = 2\n[redis]\nurl = 'redis://:hunter2@h'\n"
    )
    found = relayctl.json("reload")
    assert found["applied"] == [
        {"section": "echo", "key": "enabled", "old": "false", "new": "true",
         "when": "to new connections"},
    ]  # fmt: skip
    assert [change["key"] for change in found["restart"]] == ["workers", "url"]
    assert found["warnings"] == []
    assert "hunter2" not in str(found)
    connect(daemon, "/ws/echo")
    done = relayctl("reload")
    assert done.stdout.splitlines() == [
        "needs a restart: [server] workers = 2 (was 1)",
        'needs a restart: [redis] url = "redis://***@h" (was "")',
    ]
    assert daemon.log.count("relayctl reload by ") == 3


def test_relayctl_reload_of_a_wrong_configuration_ends_with_2(
    spawn: Spawn, configure: Configure
) -> None:
    path = configure("")
    daemon = spawn(RELAYD_CONFIG=path)
    configure("[chat]\nhistory = -1\n")
    wrong = f"Error: nothing has changed: {path}: [chat] history = -1: "
    for relayctl in (operator(daemon), Operator(daemon.folder)):
        done = relayctl("reload")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(wrong)
    assert daemon.log.count("#error] reload: nothing has changed: ") == 2


def test_relayctl_reload_reaches_every_worker(
    two: Daemon, connect: Connect, configure: Configure
) -> None:
    configure("[echo]\nenabled = true\n")
    relayctl = operator(two, server_workers=2, redis_url=two.env["RELAYD_REDIS_URL"])
    done = relayctl("reload")
    assert done.stdout == "applied to new connections: [echo] enabled = true (was false)\n"
    enough(two, connect, "/ws/echo")
