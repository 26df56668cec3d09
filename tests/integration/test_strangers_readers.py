"""Clients that ask for much and read nothing: what they cost, and what is left of them."""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from relayd.config import Database
from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import Spawn
from tests.integration.raw import Raw, handshake, text
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
MEGABYTE = 1_000_000


def test_readers_of_a_long_history_who_read_nothing_cost_little_and_are_closed(
    spawn: Spawn,
) -> None:
    """Every second one asks for a part of its own, so that their pages are not shared."""
    node = spawn(
        keepalive_pong_timeout=3, limits_bytes_per_second=0, chat_history_bytes=64 * MEGABYTE
    )
    writer = node.connect("/ws/chat/long?history=0", max_size=None)
    ids = []
    for _ in range(120):
        say(writer, {"message": "x" * 65_000})
        ids.append(read(writer)["id"])
    before = node.memory()
    with ExitStack() as stack:
        readers = [stack.enter_context(Raw(node.port, receive_buffer=4096)) for _ in range(100)]
        for number, reader in enumerate(readers):
            since = ids[number % 10] if number % 2 else 0
            reader.send(handshake(f"/ws/chat/long?since={since}"))
        operator = Operator(node.folder)
        eventually(lambda: _waiting(operator) > 50 * 200_000)
        assert node.memory() - before < 64 * MEGABYTE
        say(writer, {"message": "still here"})
        assert read(writer)["message"] == "still here"
        eventually(lambda: node.log.count("asked for a history and does not read it") == 100)
        assert node.memory() - before < 64 * MEGABYTE
    eventually(lambda: node.memory() - before < 16 * MEGABYTE)
    assert _waiting(operator) == 0
    writer.close()


def _waiting(operator: Operator) -> int:
    """Bytes that wait for the clients, as the operator sees them."""
    [process] = json.loads(operator("status", "--json").stdout)["processes"]
    return int(process["waiting"])


class Counting:
    """A relayd without the garbage collector, and the number of its objects of each class."""

    def __init__(self, folder: Path) -> None:
        env = {
            "RELAYD_ECHO_ENABLED": "true",
            "RELAYD_API_KEY": "k",
            "RELAYD_LIMITS_SEND_BUFFER": "100000",
            "RELAYD_LIMITS_BYTES_PER_SECOND": "0",
            "RELAYD_CHAT_HISTORY_BYTES": "64000000",
            "RELAYD_KEEPALIVE_PONG_TIMEOUT": "1",
            "RELAYD_KEEPALIVE_CLOSE_TIMEOUT": "0.1",
        }
        self.daemon = Daemon(folder, env)
        self.daemon.prefix = (sys.executable, str(Path(__file__).with_name("counted.py")))
        self.daemon.start()
        self.operator = Operator(folder)
        with self.daemon.connect("/ws/chat/long?history=0") as writer:
            for _ in range(100):
                say(writer, {"message": "x" * 60_000})
                read(writer)

    def objects(self) -> Counter[str]:
        """How many there are now; a cancelled call stays until its time, and holds nothing."""
        path = self.daemon.folder / "objects.json"
        path.unlink(missing_ok=True)
        os.kill(self.daemon.pid, signal.SIGUSR1)
        eventually(path.exists)
        counts = Counter[str](json.loads(path.read_text()))
        del counts["twisted.internet.base.DelayedCall"]
        return counts


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    counting = Counting(tmp_path_factory.mktemp("counting"))
    yield counting
    counting.daemon.stop()


def close(client: Raw, counting: Counting) -> None:
    """The client closes, and waits for the answer."""
    client.send(b"\x88\x82\0\0\0\0\x03\xe8")
    _drain(client)


def reset(client: Raw, counting: Counting) -> None:
    """The client is gone, without a word."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def kick(client: Raw, counting: Counting) -> None:
    """The operator closes it."""
    clients = json.loads(counting.operator("clients", "--json").stdout)["found"]
    counting.operator("kick", *(each["id"] for each in clients))
    close(client, counting)


def read_nothing(client: Raw, counting: Counting) -> None:
    """The client does not read, until it is closed with 4003."""
    closed = counting.daemon.log.count("closed with 4003")
    key = {"Authorization": "Bearer k"}
    for _ in range(200):
        if counting.daemon.log.count("closed with 4003") > closed:
            return
        counting.daemon.post("/api/push/a", b'{"x":"%s"}' % (b"x" * 60_000), **key)
    eventually(lambda: counting.daemon.log.count("closed with 4003") > closed)


def violate(client: Raw, counting: Counting) -> None:
    """The client sends an invalid frame, and is closed with 1002."""
    client.send(b"\xff\xff\xff\xff")
    _drain(client)


def _drain(client: Raw) -> None:
    with contextlib.suppress(ConnectionResetError):
        while client.socket.recv(65536):
            pass


PATHS = (
    *("/ws/camera/a", "/ws/chat/a", "/ws/chat/long?since=0", "/ws/push/a", "/ws/echo"),
    f"/ws/difficulty/unity/{UUID}",
)
ENDS = [
    *((path, end) for path in PATHS for end in (close, reset, violate)),
    *(("/ws/push/a", end) for end in (kick, read_nothing)),
    ("/ws/chat/long?since=0", read_nothing),
    ("/ws/chat/long?since=0", kick),
]


@pytest.mark.parametrize(("path", "end"), ENDS)
def test_a_connection_that_has_ended_leaves_nothing_for_the_garbage_collector(
    counting: Counting, path: str, end: Callable[[Raw, Counting], None]
) -> None:
    def visit() -> None:
        with Raw(counting.daemon.port, receive_buffer=4096) as client:
            client.open(path)
            client.send(text({"message": "a", "x": 1, "difficulty": 1}))
            end(client, counting)

    visit()  # what is there from the first one on stays
    _gone(counting)
    before = counting.objects()
    for _ in range(2):
        visit()
    _gone(counting)
    _left_behind(counting, before)


REFUSED = (
    *(handshake("/ws/camera/%20"), handshake("/nothing"), handshake("/ws/chat?since=x")),
    handshake(f"/ws/difficulty/android/{UUID}"),
    handshake("/ws/camera?refuse=close&x=1", "Sec-WebSocket-Version: 1"),
    handshake("/ws/push/a").replace(b"Version: 13", b"Version: 12"),
    *(
        handshake("/ws/camera").replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        b"GET / HTTP/1.1\r\n",
    ),
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)


@pytest.mark.parametrize("head", REFUSED)
def test_a_refused_or_failed_handshake_leaves_nothing_for_the_garbage_collector(
    counting: Counting, head: bytes
) -> None:
    def visit() -> None:
        with Raw(counting.daemon.port) as client:
            client.send(head)
            if head.endswith(b"\r\n\r\n"):
                client.socket.recv(65536)

    visit()
    _gone(counting)
    before = counting.objects()
    for _ in range(3):
        visit()
    _left_behind(counting, before)


OPEN_FILE = "relayd.storage.place.OpenFile"
"""A connection to the database: each thread of the pool opens one when its first query comes."""


def _gone(counting: Counting) -> None:
    """Returns when no connection is left."""
    connection = "relayd.sockets.poller._TcpServer"
    _left_behind(counting, counting.objects() - Counter({connection: 1_000_000}))


def _left_behind(counting: Counting, before: Counter[str]) -> None:
    """Nothing may be left: fails with the objects that are there beyond those before."""
    left = Counter[str]()

    def nothing() -> bool:
        nonlocal left
        now = counting.objects()
        left = now - before
        if now[OPEN_FILE] <= Database().pool_size:
            del left[OPEN_FILE]
        return not left

    try:
        eventually(nothing, 5)
    except AssertionError:
        pytest.fail(f"left: {left}")
