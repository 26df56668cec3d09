"""Workers hand connections to each other: a group is in one of them, nobody is lost on the way."""

import array
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from websockets.sync.client import ClientConnection

from relayd.edge.handover import BEAT, FRESH, SPARE, Handover, adopt, owner
from relayd.sockets.entrance import Entrance
from relayd.sockets.poller import Poller
from relayd.workers.folder import Folder
from tests.daemon import Daemon, tls_client
from tests.frames import frame
from tests.integration.clients import PATIENCE, read, read_close, read_many, read_rest, say, settle
from tests.integration.conftest import Connect, Dial, Spawn, spawning, spawning_workers
from tests.integration.raw import handshake, request
from tests.integration.waiting import eventually, stopped
from tests.integration.workers import accepted, clients_of, has_ended, pids, wait_for_workers
from tests.ports import free_port
from tests.redis_servers import Certificates, Redis

GROUPS = [f"/ws/camera/g{number}" for number in range(12)]


@pytest.fixture
def daemon(spawn_workers: Spawn) -> Daemon:
    """Two workers, each of which serves some of the groups."""
    return serving_groups(spawn_workers)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The same, for all tests that only connect to it."""
    with (
        Redis() as redis,
        spawning(tmp_path_factory.mktemp("shared")) as spawn,
        spawning_workers(spawn, redis) as spawn_workers,
    ):
        daemon = serving_groups(spawn_workers)
        yield daemon
        daemon.stop()
        assert "Traceback" not in daemon.log, daemon.log


def serving_groups(spawn_workers: Spawn) -> Daemon:
    """Starts two workers; returns when they hand connections to each other."""
    daemon = spawn_workers(server_spread="groups")
    eventually(lambda: are_handed_connections(daemon))
    return daemon


def are_handed_connections(daemon: Daemon) -> bool:
    """Whether each of two workers has given its beat just now."""
    return min(beats(daemon)) > time.monotonic() - BEAT


def beats(daemon: Daemon) -> tuple[float, float]:
    """When each of two workers was last ready to be handed connections, by time.monotonic()."""
    first, second = struct.unpack("2d", folder_of(daemon).joinpath("beats").read_bytes())
    return first, second


def folder_of(daemon: Daemon) -> Path:
    """Where the workers hand connections to each other."""
    (pid, *_) = pids(daemon).values()
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (place,) = [each for each in environ if each.startswith(b"_RELAYD_HANDOVER=")]
    return Path(place.decode().partition(":")[2])


def subscribers(redis: Redis, group: str) -> int:
    """How many workers have clients of a group: each has subscribed its channel."""
    return int(redis.tell("PUBSUB", "NUMSUB", f"relayd:{group}")[1])


def test_all_clients_of_a_group_are_in_one_worker_and_both_have_some_groups(
    daemon: Daemon, redis: Redis, connect: Connect
) -> None:
    members = [[connect(daemon, path) for _ in range(6)] for path in GROUPS]
    for group in members:
        say(group[0], {"x": 1})
        assert [read(client)["x"] for client in group] == [1] * 6
    assert [subscribers(redis, path.removeprefix("/ws/")) for path in GROUPS] == [1] * len(GROUPS)
    assert all(accepted(pid, daemon.port) >= 6 for pid in pids(daemon).values())


def test_a_phone_meets_its_headset_and_a_room_its_history(shared: Daemon, connect: Connect) -> None:
    for _ in range(6):
        key = uuid.uuid4()
        headset = connect(shared, f"/ws/difficulty/unity/{key}")
        phone = connect(shared, f"/ws/difficulty/android/{str(key).upper()}")
        say(phone, {"difficulty": 1})
        assert read(phone) == {"status": "received"}
        assert "quiz_id" in read(headset)
        speaker = connect(shared, f"/ws/chat/{key}")
        say(speaker, {"message": "hello"})
        assert read(speaker)["message"] == "hello"
        assert read(connect(shared, f"/ws/chat/{key}/"))["message"] == "hello"


def test_bytes_behind_the_head_are_handed_over_with_it(shared: Daemon, dial: Dial) -> None:
    """A client that does not wait for the answer to its handshake."""
    for path in GROUPS:
        raw = dial(shared)
        raw.send(handshake(path), frame(1, b'{"x": 1}'))
        assert raw.response(bodyless=True).status == 101
        assert raw.frame() == (1, b'{"x":1,"y":null,"z":null}')


def test_a_kept_alive_connection_is_handed_over_after_its_answer(
    shared: Daemon, dial: Dial
) -> None:
    """A proxy uses one for an upgrade that had an HTTP request on it."""
    for path in GROUPS:
        raw = dial(shared)
        raw.send(request("/healthz"))
        assert raw.response().status == 200
        raw.open(path)


def test_a_refused_handshake_is_refused_by_the_owner(shared: Daemon, dial: Dial) -> None:
    for _ in range(6):
        raw = dial(shared)
        raw.send(handshake(f"/ws/difficulty/android/{uuid.uuid4()}"))
        response = raw.response()
        assert (response.status, response.json["error"]) == (400, "no_unity")


def test_many_simultaneous_connections_are_all_served(shared: Daemon, dial: Dial) -> None:
    """More than the queue between two workers may take: those stay where they are."""
    waiting = [dial(shared) for _ in range(400)]
    for number, each in enumerate(waiting):
        each.send(handshake(GROUPS[number % len(GROUPS)]))
    for each in waiting:
        assert each.response(bodyless=True).status == 101


def test_no_connection_is_handed_to_a_hanging_worker(daemon: Daemon, connect: Connect) -> None:
    hanging = pids(daemon)[1]
    with stopped(hanging):
        time.sleep(FRESH + 1)  # its last beat grows old
        clients = [connect(daemon, path) for path in GROUPS]
        for client in clients:
            say(client, {"x": 1})
            assert read(client)["x"] == 1
    settle(*clients)


def test_no_connection_is_handed_to_a_worker_short_of_descriptors(
    daemon: Daemon, redis: Redis, connect: Connect
) -> None:
    full = pids(daemon)[1]
    most = SPARE + 10  # it has more open already, and has room for what it accepts itself
    resource.prlimit(full, resource.RLIMIT_NOFILE, (most, most))
    eventually(lambda: beats(daemon)[0] == 0.0)  # it has looked
    clients: list[ClientConnection] = []
    (path, *_) = (each for each in GROUPS if owner(each.removeprefix("/ws/"), 2) == 1)
    for other in pids(daemon).values():  # the one that is not stopped accepts
        with stopped(other):
            clients.append(connect(daemon, path))
    assert subscribers(redis, path.removeprefix("/ws/")) == 2
    settle(*clients)


def test_connections_stay_with_their_worker_when_the_folder_is_removed(
    daemon: Daemon, connect: Connect
) -> None:
    """Programs that clean up /tmp remove it. A worker that starts later serves, too."""
    shutil.rmtree(folder_of(daemon))
    killed = pids(daemon)[1]
    os.kill(killed, signal.SIGKILL)
    wait_for_workers(daemon, 3)
    for path in GROUPS:
        clients = [connect(daemon, path) for _ in range(2)]
        say(clients[0], {"x": 1})
        assert [read(client)["x"] for client in clients] == [1, 1]
    assert re.search("^w1 .*connections stay with the worker that accepts them", daemon.log, re.M)


# -- one side alone, with a reactor that the test plays


class Reactor(Clock):
    """Time; readers are noted by nobody."""

    def addReader(self, reader: object) -> None:  # noqa: N802
        pass

    removeReader = removeWriter = addReader  # noqa: N815


class Leaving(Entrance):
    """Does something just before a reader is removed."""

    before_reader_is_removed: Callable[[], object]

    def remove(self, reader: object) -> None:
        self.before_reader_is_removed()
        super().remove(reader)


class Nobody(Protocol):
    """Behind a port: fails, or is gone at once, without a shutdown of its socket."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        if data == b"bug":
            raise RuntimeError("a bug")
        self.transport.detach()


@pytest.fixture
def port() -> Iterator[Any]:
    """A port whose connections a poller reads."""
    poller, port = Poller(Reactor()), tcp.Port(0, Factory.forProtocol(Nobody), reactor=Reactor())
    poller.start()
    with socket.socket() as port.socket:
        poller.watch(port)
    yield port
    poller.stop()


def test_a_connection_whose_protocol_fails_is_closed(port: Any) -> None:
    """Nobody would ever answer it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    client.settimeout(PATIENCE)
    with pytest.raises(RuntimeError, match="a bug"):
        adopt(port, ours, b"bug")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    client.close()


def test_no_connection_is_handed_to_a_worker_that_no_longer_receives(
    tmp_path: Path, port: Any
) -> None:
    """A sender that found the socket just before its removal may write to it a moment later."""
    folder = Folder(2, str(tmp_path))
    reactor = Reactor()
    entrance = Leaving(reactor)
    side = Handover(reactor, entrance, [port], folder.path, 1, 2, lambda head: None)
    side.start()
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.connect(str(folder.path / "w1"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    rights = array.array("i", [ours.fileno()])
    given: list[bool] = []

    def give() -> None:
        line.sendmsg([b"\0head"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        given.append(True)

    def too_late() -> None:
        with contextlib.suppress(BrokenPipeError):
            give()

    give()
    entrance.before_reader_is_removed = too_late
    side.stop()
    assert port.sessionno == len(given) == 1
    for each in (line, client, ours):
        each.close()
    entrance.stop()
    folder.remove()


def test_the_remaining_worker_serves_all_groups_while_one_is_down(
    daemon: Daemon, redis: Redis, connect: Connect
) -> None:
    killed = pids(daemon)[1]
    with stopped(daemon.pid):  # it is not started again meanwhile
        os.kill(killed, signal.SIGKILL)
        # before their end, threads of it may keep its sockets for a moment
        eventually(lambda: has_ended(killed) and len(os.listdir(f"/proc/{killed}/task")) == 1)
        early = [connect(daemon, path) for path in GROUPS]
    wait_for_workers(daemon, 3)
    late: list[list[object]] = []

    def both() -> bool:
        # the new process gives its beat, and is handed its groups again
        late.append([connect(daemon, path) for path in GROUPS])
        return any(subscribers(redis, path.removeprefix("/ws/")) == 2 for path in GROUPS)

    eventually(both)
    for sender, *rest in zip(early, *late, strict=True):
        say(sender, {"x": 7})
        assert [read(client)["x"] for client in (sender, *rest)] == [7] * (1 + len(rest))


def test_shutdown_closes_every_client_and_leaves_no_file(daemon: Daemon, connect: Connect) -> None:
    folder = folder_of(daemon)
    assert folder.stat().st_mode & 0o777 == 0o700
    clients = [connect(daemon, path) for path in GROUPS]
    settle(*clients)
    ends: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda client=client: ends.append(read_close(client)))
        for client in clients
    ]
    for thread in threads:
        thread.start()
    daemon.stop()
    for thread in threads:
        thread.join()
    assert [code for code, _ in ends] == [1001] * len(clients)
    assert not folder.exists()


def test_connections_of_unix_sockets_are_handed_over_and_those_of_tls_are_not(
    redis: Redis, tmp_path: Path, connect: Connect
) -> None:
    certificates = Certificates(tmp_path / "certificates", "127.0.0.1")
    folder = certificates.ca_file.parent
    path, encrypted = tmp_path / "relayd.sock", free_port()
    daemon = Daemon(
        tmp_path,
        {"RELAYD_SERVER_WORKERS": "2", "RELAYD_REDIS_URL": f"unix://{redis.socket}"},
        *("--listen", f"unix:{path}:mode=640"),
        *("--listen", f"ssl:{encrypted}:interface=127.0.0.1"
                      f":privateKey={folder}/server.key:certKey={folder}/server.pem"),
    )  # fmt: skip
    trust = tls_client(certificates.ca_file)
    try:
        daemon.start(wait=False)
        wait_for_workers(daemon)
        eventually(lambda: are_handed_connections(daemon))
        for group in GROUPS:
            local = socket.socket(socket.AF_UNIX)
            local.connect(str(path))
            clients = [connect(daemon, group), connect(daemon, group, sock=local)]
            assert subscribers(redis, group.removeprefix("/ws/")) == 1
            raw = socket.create_connection(("127.0.0.1", encrypted))
            clients.append(connect(daemon, group, scheme="wss", sock=raw, ssl=trust))
            say(clients[0], {"x": 1})
            assert [read(client)["x"] for client in clients] == [1, 1, 1]
    finally:
        daemon.stop()


@pytest.fixture
def others(spawn_workers: Spawn) -> Daemon:
    """Two workers, each of which serves whom it accepts."""
    return spawn_workers(server_spread="connections")


def test_each_worker_serves_the_connections_it_accepts_when_groups_are_not_pinned(
    others: Daemon, redis: Redis, connect: Connect
) -> None:
    clients = [client for number in (1, 2) for client in clients_of(others, connect, number)]
    assert subscribers(redis, "camera/g") == 2
    read_rest(*clients)
    say(clients[0], {"x": 1})
    assert [read_many(client, 1)[0]["x"] for client in clients] == [1] * len(clients)
