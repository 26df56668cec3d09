"""Under systemd, without one: the test passes the sockets and hears what relayd tells.

`tests/package` does it with a real one.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayd.edge.misconfigured import answer_until_right
from tests.certificates import Chain
from tests.daemon import Daemon, tls_client
from tests.frames import CLOSE
from tests.integration.clients import PATIENCE, read_close
from tests.integration.conftest import Connect, Dial
from tests.integration.raw import Raw, handshake, request
from tests.integration.waiting import eventually, stopped
from tests.redis_servers import Redis

# what systemd does between fork and exec: the sockets are 3, 4, ... and meant for this process
AS_SYSTEMD = """
import fcntl, os, sys
kept = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1].split()]
for number, descriptor in enumerate(kept, 3):
    os.dup2(descriptor, number)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Service(Daemon):
    """A relayd that gets listening sockets, and whose notifications are heard."""

    def __init__(self, folder: Path, *sockets: socket.socket, **env: str) -> None:
        super().__init__(folder, env)
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(f"\0{folder}/notify")
        self._line.settimeout(PATIENCE)
        self.heard: list[str] = []
        self.descriptors = tuple(each.fileno() for each in sockets)
        self.prefix = (sys.executable, "-c", AS_SYSTEMD, " ".join(map(str, self.descriptors)))
        self.env |= {
            "LISTEN_FDS": str(len(sockets)),
            "LISTEN_FDNAMES": ":".join(["relayd.socket"] * len(sockets)),
            "NOTIFY_SOCKET": f"@{folder}/notify",
            **env,
        }
        names = self.env["LISTEN_FDNAMES"].split(":")
        for name, each in zip(names, sockets, strict=True):
            if each.family == socket.AF_INET and name != "tls":
                self.port = each.getsockname()[1]

    def hear(self, wanted: str) -> None:
        """Returns when relayd has told that."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.heard:
            assert time.monotonic() < deadline, f"{wanted} was not told"
            self.heard += self._line.recv(4096).decode().splitlines()

    def fill(self) -> None:
        """Leaves no room for what relayd tells, as if systemd did not read."""
        with contextlib.suppress(BlockingIOError):
            while True:  # by a socket each: what one of them has sent is bounded, too
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                    line.setblocking(False)
                    line.sendto(b"FULL", self._line.getsockname())

    def close(self) -> None:
        """Ends it."""
        if self.process is not None:
            self.stop()
        self._line.close()


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A socket that listens, as the socket unit's does."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as opened:
        yield opened


Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a relayd with these sockets and environment."""
    with contextlib.ExitStack() as stack:

        def start(*sockets: socket.socket, **env: str) -> Service:
            service = Service(tmp_path, *sockets, **env)
            stack.callback(service.close)
            service.start(wait=False)
            return service

        yield start


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test."""
    with Redis() as server:
        yield server


@pytest.mark.parametrize("order", ["tls:relayd.socket", "relayd.socket:tls", "tls"])
def test_a_passed_socket_with_the_name_tls_speaks_tls(
    serve: Serve, tmp_path: Path, port: socket.socket, order: str
) -> None:
    chain = Chain(tmp_path / "tls", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as encrypted:
        passed = [encrypted if name == "tls" else port for name in order.split(":")]
        service = serve(
            *passed,
            LISTEN_FDNAMES=order,
            RELAYD_TLS_CERTIFICATE=str(chain.certificate),
            RELAYD_TLS_KEY=str(chain.key),
        )
        service.hear("READY=1")
        with socket.create_connection(encrypted.getsockname(), PATIENCE) as raw:
            trust = tls_client(chain.root_file)
            with trust.wrap_socket(raw, server_hostname="127.0.0.1") as client:
                assert ask(client).startswith(b"HTTP/1.1 200 ")
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
            assert ask(client).startswith(b"HTTP/1.1 200 ")
        assert "used instead of [tls] listen" in service.log


def ask(client: socket.socket) -> bytes:
    """The first bytes of an answer."""
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    return client.recv(4096)


def workers(redis: Redis) -> dict[str, str]:
    """The environment of a relayd with two workers."""
    return {"RELAYD_SERVER_WORKERS": "2", "RELAYD_REDIS_URL": f"unix://{redis.socket}"}


def test_a_passed_socket_replaces_the_listen_setting(
    serve: Serve, port: socket.socket, connect: Connect
) -> None:
    service = serve(port)
    service.hear("READY=1")
    connect(service, "/ws/camera")
    place = f"tcp:{service.port}:interface=127.0.0.1"
    line = f"systemd passed a listening socket, used instead of [server] listen: {place}"
    assert line in service.log


def test_systemd_sees_ready_then_the_number_of_clients_then_stopping(
    serve: Serve, port: socket.socket, connect: Connect
) -> None:
    service = serve(port, WATCHDOG_USEC="200000")
    service.hear("READY=1")
    with Raw(service.port) as client:
        client.open("/ws/camera")
        service.hear("STATUS=Serving: 1 connections")
        service.heard.clear()
        service.hear("WATCHDOG=1")
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        service.hear("STOPPING=1")
        service.hear("STATUS=Stopping: 1 connections")
    assert service.process.wait(PATIENCE) == -signal.SIGTERM


def test_a_slow_systemd_receives_every_notification(
    serve: Serve, port: socket.socket, dial: Dial
) -> None:
    """They arrive in order, as soon as systemd reads."""
    service = serve(port, WATCHDOG_USEC="200000")
    service.fill()
    dial(service).open("/ws/camera")  # it serves
    time.sleep(0.5)  # several times it finds no room
    service.hear("READY=1")
    service.hear("STATUS=Serving: 1 connections")
    service.fill()
    os.kill(service.pid, signal.SIGTERM)
    eventually(lambda: "stopping: 1 connections" in service.log)
    time.sleep(0.5)
    service.hear("STOPPING=1")
    service.hear("STATUS=Stopping: 1 connections")
    told = [line for line in service.heard if line.startswith(("READY", "STOPPING"))]
    assert told == ["READY=1", "STOPPING=1"]


def test_no_heartbeat_is_sent_without_a_watchdog(serve: Serve, port: socket.socket) -> None:
    service = serve(port)
    service.hear("STATUS=Serving: 0 connections")
    assert "WATCHDOG=1" not in service.heard


def test_a_hanging_process_sends_no_heartbeat(serve: Serve, port: socket.socket) -> None:
    service = serve(port, WATCHDOG_USEC="200000")
    service.hear("WATCHDOG=1")
    service._line.settimeout(1)
    with stopped(service.pid), pytest.raises(TimeoutError):
        service.hear("nothing")  # after what it told before


def test_descriptors_that_systemd_passed_are_not_inherited_by_children(
    serve: Serve, port: socket.socket, redis: Redis
) -> None:
    """A worker that took the parent's sockets or notification for its own would do harm."""
    service = serve(port, **workers(redis), WATCHDOG_USEC="30000000")
    service.hear("READY=1")
    (pid, *_) = re.findall(r"worker \d is process (\d+)", service.log)
    names = {line.partition("=")[0] for line in environ(int(pid))}
    assert "_RELAYD_WORKER" in names
    passed = {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC"}
    assert names & passed == set()


def environ(pid: int) -> list[str]:
    """The environment a process was started with."""
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def test_workers_share_a_passed_socket_and_are_counted(
    serve: Serve, port: socket.socket, redis: Redis, connect: Connect
) -> None:
    service = serve(port, **workers(redis), WATCHDOG_USEC="2000000")
    service.hear("READY=1")
    assert re.search(r"worker \d serves\n", service.log)
    for _ in range(3):
        connect(service, "/ws/camera")
    service.hear("STATUS=Serving: 3 connections, 2 of 2 workers")
    assert service.log.count("systemd passed a listening socket") == 1


def test_a_unix_socket_of_another_process_is_not_removed(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "front.sock"
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))
        opened.listen()
        service = serve(opened)
        service.hear("READY=1")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(request("/healthz", "Connection: close"))
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        service.stop()
        assert path.exists()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # nobody answers, nobody refuses
    assert f"used instead of [server] listen: unix:{path}" in service.log


def test_a_passed_descriptor_that_does_not_listen_ends_the_start(serve: Serve) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        service = serve(datagrams)
        assert service.process is not None
        assert service.process.wait(PATIENCE) == 1
    assert "relayd: systemd passed descriptor 3, which accepts no connections" in (service.log)


# -- the end, and the next start


def test_an_accepted_client_without_a_request_is_admitted_and_told_to_reconnect(
    serve: Serve, port: socket.socket
) -> None:
    service = serve(port)
    service.hear("READY=1")
    with Raw(service.port) as late, Raw(service.port) as early:
        late.send(b"GET /ws/camera HTTP/1.1\r\n")
        early.open("/ws/camera")  # accepted after the other
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        service.hear("STOPPING=1")
        late.send(handshake("/ws/camera").partition(b"\r\n")[2])
        assert late.response().status == 101
        for client in (early, late):
            opcode, payload = client.frame()
            assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 1001)


def test_an_idle_kept_alive_connection_is_closed_at_once(serve: Serve, port: socket.socket) -> None:
    """A proxy must not send the next handshake to a process that refuses it."""
    service = serve(port, RELAYD_SERVER_DRAIN_TIMEOUT="10")
    service.hear("READY=1")
    with Raw(service.port) as idle, Raw(service.port) as silent:
        idle.send(request("/healthz"))
        assert idle.response().status == 200
        silent.open("/ws/camera")
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        assert idle.socket.recv(1) == b""
        assert service.process.poll() is None
        silent.close_frame()


@pytest.mark.parametrize("with_workers", [False, True])
def test_no_client_is_refused_during_a_restart(
    serve: Serve, port: socket.socket, redis: Redis, connect: Connect, with_workers: bool
) -> None:
    service = serve(port, **(workers(redis) if with_workers else {}))
    service.hear("READY=1")
    kept = connect(service, "/ws/camera")
    statuses: list[int] = []
    failures: list[BaseException] = []
    clients: list[threading.Thread] = []
    enough = threading.Event()

    def come() -> None:
        late = False
        try:
            began = time.monotonic()
            with Raw(service.port) as client:
                client.send(handshake("/ws/camera/new"))
                # relayd waits 0.5 s for who was accepted; then it may refuse them, or cut them off
                late = time.monotonic() - began > 0.4
                status = client.response().status
                if not late:
                    statuses.append(status)
        except BaseException as error:
            if not late:
                failures.append(error)

    def arrive() -> None:
        while not enough.wait(0.02):
            clients.append(threading.Thread(target=come))
            clients[-1].start()

    arrivals = threading.Thread(target=arrive)
    arrivals.start()
    try:
        for _ in range(2):
            time.sleep(0.5)  # a stretch of time in which clients come
            service.stop()
            service.heard.clear()
            service.start(wait=False)
            service.hear("READY=1")
    finally:
        enough.set()
        arrivals.join()
        for client in clients:
            client.join()
    assert failures == []
    assert len(statuses) > 50
    assert set(statuses) == {101}
    assert read_close(kept)[0] == 1001


def test_a_passed_socket_keeps_the_backlog_of_its_unit(serve: Serve, tmp_path: Path) -> None:
    """relayd does not call listen(2) anew: `Backlog=` is the operator's."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "passed.sock"))
        opened.listen(20)
        service = serve(opened)
        service.hear("READY=1")
        clients = [socket.socket(socket.AF_UNIX) for _ in range(30)]
        with stopped(service.pid), contextlib.ExitStack() as stack:
            refused = 0
            for client in map(stack.enter_context, clients):
                client.setblocking(False)
                try:
                    client.connect(opened.getsockname())
                except BlockingIOError:
                    refused += 1
        assert refused == 9  # Linux keeps one more than the backlog


def test_clients_are_answered_while_the_configuration_is_wrong_and_served_once_it_is_right(
    serve: Serve, tmp_path: Path, port: socket.socket
) -> None:
    """The process that systemd started mends itself: nobody has to start it again."""
    wrong = tmp_path / ".env"
    wrong.write_text("RELAYD_CHAT_HISTORY=many\n")
    waiting = [socket.create_connection(port.getsockname(), PATIENCE) for _ in range(50)]
    service = serve(port)
    for client in waiting:
        with client:
            client.sendall(b"GET /ws/chat/r HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.makefile("rb").read()  # to its end
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 15" in head
            assert json.loads(body)["error"] == "misconfigured"
    silent = socket.create_connection(port.getsockname(), PATIENCE)
    with silent:
        assert silent.recv(1) == b""  # a client that says nothing is not waited for
    wrong.unlink()
    service.hear("READY=1")
    status = next(line for line in service.heard if line.startswith("STATUS="))
    assert status.startswith("STATUS=The configuration is wrong: ")
    assert "RELAYD_CHAT_HISTORY" in status
    with socket.create_connection(port.getsockname(), PATIENCE) as client:
        assert ask(client).startswith(b"HTTP/1.1 200 ")


def test_a_process_ends_in_the_end_when_its_configuration_stays_wrong(port: socket.socket) -> None:
    port.setblocking(False)
    assert not answer_until_right([port.fileno()], lambda: False, seconds=1.5)
    assert port.fileno() != -1
