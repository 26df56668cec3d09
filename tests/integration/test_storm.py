"""Many clients that connect in the same moment, as after a restart: nobody waits in vain."""

import contextlib
import json
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.raw import handshake
from tests.integration.relayctl import Operator
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually, stopped
from tests.integration.workers import pids

FEW, MANY = 300, 2000
"""Both are more than Twisted's own backlog of 50."""


class Storm:
    """Clients that all connect before one of them is served.

    Args:
        address: of a TCP port, or of a unix socket.
        clients: how many.
    """

    def __init__(self, address: tuple[str, int] | str, clients: int) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sockets = [socket.socket(family) for _ in range(clients)]
        self._poll = select.poll()
        self.refused = 0
        for each in self.sockets:
            each.setblocking(False)
            try:
                each.connect(address)
            except BlockingIOError as error:
                # a unix socket does not queue the connection later, as TCP does
                self.refused += family == socket.AF_UNIX and bool(error.errno)

    def connected(self) -> int:
        """How many the kernel has accepted for the server by now."""
        count = 0
        for each in self.sockets:
            with contextlib.suppress(OSError):
                count += bool(each.getpeername())
        return count

    def shake_hands(self) -> None:
        """Sends all handshakes; each client has its own group, so that nothing else comes."""
        for number, each in enumerate(self.sockets):
            each.sendall(handshake(f"/ws/camera/storm{number}"))

    def opened(self) -> int:
        """How many are answered with 101, in the end."""
        count = 0
        for each in self.sockets:
            each.settimeout(PATIENCE)
            count += each.recv(4096).startswith(b"HTTP/1.1 101 ")
        return count

    def close(self) -> None:
        for each in self.sockets:
            each.close()


Begin = Callable[..., Storm]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begins a storm: `begin(address, clients)`."""
    with contextlib.ExitStack() as stack:

        def start(address: tuple[str, int] | str, clients: int = FEW) -> Storm:
            storm = Storm(address, clients)
            stack.callback(storm.close)
            return storm

        yield start


def weather(begin: Begin, address: tuple[str, int] | str, *processes: int) -> None:
    """All connect while nobody accepts, and are served then."""
    with contextlib.ExitStack() as stack:
        for pid in processes:
            stack.enter_context(stopped(pid))
        storm = begin(address)
        eventually(lambda: storm.connected() == FEW)
        storm.shake_hands()
    assert storm.opened() == FEW


def test_a_port_keeps_a_storm_until_it_is_served(spawn: Spawn, begin: Begin) -> None:
    daemon = spawn()
    weather(begin, ("127.0.0.1", daemon.port), daemon.pid)


def test_a_unix_socket_keeps_a_storm_until_it_is_served(tmp_path: Path, begin: Begin) -> None:
    path = tmp_path / "relayd.sock"
    daemon = Daemon(tmp_path, {}, "--listen", f"unix:{path}").start()
    try:
        weather(begin, str(path), daemon.pid)
    finally:
        daemon.stop()


def test_a_backlog_of_the_operators_own_is_kept(tmp_path: Path, begin: Begin) -> None:
    path = tmp_path / "relayd.sock"
    daemon = Daemon(tmp_path, {}, "--listen", f"unix:{path}:backlog=20").start()
    try:
        with stopped(daemon.pid):
            assert begin(str(path)).connected() == 21  # Linux keeps one more
    finally:
        daemon.stop()


def test_workers_share_a_port_that_keeps_a_storm(spawn_workers: Spawn, begin: Begin) -> None:
    daemon = spawn_workers()
    weather(begin, ("127.0.0.1", daemon.port), *pids(daemon).values())


def test_the_control_socket_keeps_a_storm(spawn: Spawn, begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    daemon = spawn(control_socket=path)
    with stopped(daemon.pid):
        assert begin(str(path)).connected() == FEW


def test_a_storm_is_served_while_poses_flow_and_none_of_both_is_lost(
    spawn: Spawn, connect: Connect, begin: Begin
) -> None:
    daemon = spawn()
    for pid in (daemon.pid, os.getpid()):
        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    viewer, sender = connect(daemon, "/ws/camera"), connect(daemon, "/ws/camera")
    over = threading.Event()
    sent: list[int] = []

    def send() -> None:
        while not over.wait(0.005):
            sent.append(len(sent))
            say(sender, {"x": sent[-1]})

    sending = threading.Thread(target=send)
    sending.start()
    try:
        storm = begin(("127.0.0.1", daemon.port), MANY)
        eventually(lambda: storm.connected() == MANY)
        storm.shake_hands()
        assert storm.opened() == MANY
    finally:
        over.set()
        sending.join()
    assert [read(viewer)["x"] for _ in sent] == sent


def test_clients_beyond_the_limit_of_open_files_are_dropped_and_the_others_served(
    spawn: Spawn, connect: Connect, begin: Begin
) -> None:
    daemon = spawn()
    client = connect(daemon, "/ws/camera")
    used = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 10, most))
    storm = begin(("127.0.0.1", daemon.port), 100)

    def dropped() -> int:
        ready, _, _ = select.select(storm.sockets, [], [], 0)
        return len(ready)

    eventually(lambda: dropped() >= 80)  # others of its files may come and go
    say(client, {"x": 1})
    assert read(client)["x"] == 1
    storm.close()
    eventually(lambda: len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) <= used + 2)
    say(connect(daemon, "/ws/camera"), {"x": 2})
    assert read(client)["x"] == 2
    metrics = scrape(daemon)
    assert value(metrics, "relayd_tcp_connections_dropped_total", reason="files") >= 80
    # one warning a minute, however many they are
    assert daemon.log.count("open files none is left for clients") == 1
    assert "EMFILE" not in daemon.log
    found = json.loads(Operator(daemon.folder)("doctor", "--json").stdout)["findings"]
    [finding] = [one for one in found if one["check"] == "files" and one["state"] == "fault"]
    assert "were dropped without an answer" in finding["finding"]
    assert "LimitNOFILE=" in finding["remedy"]
