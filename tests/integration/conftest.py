"""Shared by the integration tests: spawned daemons, clients that end, and a look at the log."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.polling import Pair
from tests.integration.raw import Raw
from tests.integration.workers import wait_for_workers
from tests.pairs_scene import quiet_log
from tests.redis_servers import Redis

Spawn = Callable[..., Daemon]
Connect = Callable[..., ClientConnection]
Dial = Callable[..., Raw]

KEY = "a-key-for-tests"


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers of this folder."""
    config.addinivalue_line(
        "markers", "noisy_log: the test provokes a traceback in the daemon's log"
    )


@pytest.fixture(scope="session")
def relayd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd that many tests share: embedded default, echo and API on; leave nothing in it."""
    running = Daemon(
        tmp_path_factory.mktemp("relayd"),
        {"RELAYD_ECHO_ENABLED": "true", "RELAYD_API_KEY": KEY},
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    path = tmp_path / "tls.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path), "-out", str(path) + ".crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(str(path) + ".crt").read_bytes())
    return path


@pytest.fixture(autouse=True)
def calm_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """No daemon of the test has logged a traceback."""
    shared: Daemon | None = None
    if "relayd" in request.fixturenames:
        shared = request.getfixturevalue("relayd")
    already = len(shared.log) if shared else 0
    yield
    if request.node.get_closest_marker("noisy_log"):
        return
    logs = [path.read_text(errors="replace") for path in tmp_path.rglob("relayd.log")]
    if shared:
        logs.append(shared.log[already:])
    for log in logs:
        assert "Traceback" not in log, log
        assert "Unhandled" not in log, log


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts a relayd: `spawn(limits_send_buffer=1000, DATABASE_URL=url)`.

    Lower-case names are settings (`<section>_<key>`), others stand in the environment as they are.
    """
    with spawning(tmp_path) as start:
        yield start


@contextlib.contextmanager
def spawning(folder: Path) -> Iterator[Spawn]:
    """Does what the fixture `spawn` does, in a folder that a fixture of another scope has."""
    daemons: list[Daemon] = []

    def start(*, wait: bool = True, **settings: object) -> Daemon:
        own = folder / f"relayd-{len(daemons)}"
        own.mkdir()
        env = {
            name if name.isupper() else f"RELAYD_{name.upper()}": str(value)
            for name, value in settings.items()
        }
        daemons.append(Daemon(own, env))
        return daemons[-1].start(wait=wait)

    yield start
    with contextlib.ExitStack() as stack:
        for daemon in daemons:
            stack.callback(daemon.stop)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects a WebSocket client that the end of the test closes: `connect(daemon, path)`."""
    with contextlib.ExitStack() as stack:

        def join(daemon: Daemon, path: str, **options: Any) -> ClientConnection:
            # without a bound on its queue a client answers `settle` whatever it has not read
            options = {"max_queue": None, "ping_interval": None, **options}
            return stack.enter_context(daemon.connect(path, **options))

        yield join


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Opens a TCP connection that the end of the test closes: `dial(daemon)`."""
    with contextlib.ExitStack() as stack:

        def open_one(daemon: Daemon, **options: Any) -> Raw:
            return stack.enter_context(Raw(daemon.port, **options))

        yield open_one


@pytest.fixture
def own() -> Iterator[EPollReactor]:
    """A reactor of the test's own: it has started, and the test gives it its turns.

    The sockets of `polling` are closed after it.
    """
    own = EPollReactor()
    epoll = own._poller
    own.startRunning(installSignalHandlers=False)
    yield own
    while Pair.made:
        Pair.made.pop().close()
    assert own._poller is epoll
    epoll.close()
    for reader in own._internalReaders:
        reader.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test."""
    with Redis() as server:
        yield server


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What the parts of relayd that run in this process log."""
    with quiet_log() as lines:
        yield lines


@pytest.fixture
def spawn_workers(spawn: Spawn, redis: Redis) -> Iterator[Spawn]:
    """Starts a relayd with two workers, and waits until both serve and have Redis.

    Each keeps the connections that it accepts.
    """
    with spawning_workers(spawn, redis) as start:
        yield start


@contextlib.contextmanager
def spawning_workers(spawn: Spawn, redis: Redis) -> Iterator[Spawn]:
    """Does what the fixture `spawn_workers` does, for a fixture of another scope."""
    daemons: list[Daemon] = []

    def start(*, wait: bool = True, **settings: object) -> Daemon:
        defaults = {"server_workers": 2, "server_spread": "connections"}
        settings = {**defaults, "redis_url": f"unix://{redis.socket}", **settings}
        daemons.append(spawn(wait=False, **settings))
        if wait:
            wait_for_workers(daemons[-1])
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.stop()
        for pid in map(int, re.findall(r"worker \d+ is process (\d+)\n", daemon.log)):
            with contextlib.suppress(OSError):  # it has ended, as it should
                if Path(f"/proc/{pid}/cwd").readlink() == daemon.folder:
                    os.kill(pid, signal.SIGKILL)
