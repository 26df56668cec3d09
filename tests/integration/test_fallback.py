"""relayd on a reactor that its compiled loop cannot stand in for, and without any private name.

The contract scenarios are those of the tests beside this one that share a relayd: they run once on
each fallback, in a pytest of their own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayd import private
from tests import fallback
from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Dial
from tests.redis_servers import Redis

FOLDER = Path(__file__).parent
SCENARIOS = ("camera", "chat", "difficulty", "echo", "handshake", "hostile", "http", "push")
FEWEST = 300
"""Scenarios that run at the least: 387 when this was written."""

ENTRIES = [each for each in vars(private).values() if isinstance(each, private.Private)]
BROKEN = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"
POSE = {"x": 1, "y": None, "z": None}


@pytest.mark.parametrize("name", fallback.PREFIXES)
def test_the_contract_scenarios_pass_on_a_fallback(name: str) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.fallback"),
            *("-p", "no:cacheprovider", "-p", "no:xdist"),
            *(str(FOLDER / f"test_{scenario}.py") for scenario in SCENARIOS),
        ],
        cwd=FOLDER.parents[1],
        env={**os.environ, fallback.VARIABLE: name},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    last = ran.stdout.splitlines()[-1]
    assert int(last.partition(" passed")[0]) >= FEWEST, last


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts a relayd on a fallback: `begin("poll")`; further arguments are its environment."""
    running: list[Daemon] = []

    def start(name: str, **env: str) -> Daemon:
        running.append(fallback.start(Daemon(tmp_path, env), name))
        return running[-1]

    yield start
    for daemon in running:
        daemon.stop()


def warnings(log: str) -> dict[str, int]:
    """How often each entry's loss is in a log, by the first name of the entry."""
    return {entry.names[0]: log.count(f"so {entry.without}") for entry in ENTRIES}


def test_a_reactor_without_epoll_needs_no_warning(begin: Callable[..., Daemon]) -> None:
    daemon = begin("poll")
    assert "PollReactor" in daemon.log
    assert set(warnings(daemon.log).values()) == {0}


def test_a_missing_private_name_is_reported_once_and_relayd_goes_on(
    begin: Callable[..., Daemon], connect: Connect, dial: Dial
) -> None:
    """Two of everything: two poses of two clients, two handshakes, two broken requests."""
    daemon = begin("another version", RELAYD_SERVER_DEFLATE="true")
    for _ in range(2):
        sender = connect(daemon, "/ws/camera")
        for _ in range(2):
            say(sender, {"x": 1})
            assert read(sender) == POSE
        connection = dial(daemon)
        connection.send(BROKEN)
        response = connection.response()
        assert (response.status, response.headers, response.body) == (400, {}, b"")
        assert connection.ended()
        assert daemon.get("/metrics")[0] == 200
    assert warnings(daemon.log) == dict.fromkeys((entry.names[0] for entry in ENTRIES), 1)


def test_workers_share_their_ports_without_private_names(
    begin: Callable[..., Daemon], connect: Connect
) -> None:
    with Redis() as redis:
        url = f"unix://{redis.socket}"
        daemon = begin("another version", RELAYD_SERVER_WORKERS="2", RELAYD_REDIS_URL=url)
        clients = [connect(daemon, "/ws/camera/shared") for _ in range(6)]
        say(clients[0], {"x": 1})
        assert [read(client) for client in clients] == [POSE] * 6
        daemon.stop()
    assert "so a port that is closed is closed for all processes" in daemon.log
