"""Peers that vanish, do not read, break the protocol or are many; SIGTERM; on a spawned relayd."""

import asyncio
import contextlib
import json
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from relayd.storage import schema
from tests.daemon import Daemon
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.integration.clients import (
    Refused,
    check_refusal,
    read,
    read_close,
    read_many,
    read_rest,
    say,
    settle,
)
from tests.integration.conftest import KEY, Connect, Dial, Spawn
from tests.integration.raw import Raw, handshake, request, text
from tests.integration.waiting import eventually
from tests.integration.workers import accepted, sockets
from tests.servers import PostgreSQL

UUID = "123e4567-e89b-42d3-a456-426614174000"


def connected(daemon: Daemon) -> int:
    """How many WebSocket connections the metrics count."""
    status, text = daemon.get("/metrics")
    assert status == 200
    return sum(int(float(n)) for n in re.findall(r"(?m)^relayd_connections\{[^}]*\} (\S+)$", text))


def open_sockets(daemon: Daemon) -> int:
    """How many sockets the process has."""
    return len(sockets(daemon.pid))


def idle_sockets(daemon: Daemon) -> int:
    """How many sockets the process has without connections: those of its start have ended."""
    eventually(lambda: accepted(daemon.pid, daemon.port) == 0)
    return open_sockets(daemon)


def round_trip(daemon: Daemon) -> None:
    """Returns when the daemon has read what was sent to it before."""
    assert daemon.get("/healthz")[0] == 200


def publish(daemon: Daemon, topic: str, body: bytes) -> None:
    assert daemon.post(f"/api/push/{topic}", body, Authorization=f"Bearer {KEY}")[0] == 200


# -- while a store is asked


@pytest.fixture
def own_url(own_postgresql: PostgreSQL) -> str:
    """A migrated database on a server that the test may pause."""
    schema.migrate(own_postgresql.url())
    return own_postgresql.url()


def leave_by_reset(connection: Raw) -> None:
    connection.reset()


def leave_by_end(connection: Raw) -> None:
    connection.socket.shutdown(socket.SHUT_RDWR)


def leave_by_half_close(connection: Raw) -> None:
    connection.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [leave_by_reset, leave_by_end, leave_by_half_close])
def test_client_vanishes_while_its_join_waits_for_the_store(
    own_postgresql: PostgreSQL,
    own_url: str,
    spawn: Spawn,
    connect: Connect,
    dial: Dial,
    leave: Callable[[Raw], None],
) -> None:
    """Nothing is left of it when the store answers, and nothing is logged as an error."""
    node = spawn(DATABASE_URL=own_url)
    before, _ = idle_sockets(node), connect(node, "/ws/chat/r?history=0")
    own_postgresql.pause()
    vanishing = [dial(node) for _ in range(5)]
    for connection in vanishing:
        connection.send(handshake("/ws/chat/r"), text({"message": "never"}))
    round_trip(node)
    for connection in vanishing:
        leave(connection)
    round_trip(node)
    own_postgresql.resume()
    node.wait_until_ready()
    client = connect(node, "/ws/chat/r")
    say(client, {"message": "first"})
    assert read(client)["message"] == "first"  # what they sent was never said
    assert connected(node) == 2
    eventually(lambda: open_sockets(node) <= before + 2 + 4)  # the clients, the database's pool
    assert "rror" not in node.log, node.log


def test_bytes_sent_before_the_handshake_is_answered_are_read_after_it_once(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, connect: Connect, dial: Dial
) -> None:
    """Messages in front of the answer, in the same segment and in later ones, in halves too."""
    node = spawn(DATABASE_URL=own_url)
    other = connect(node, "/ws/chat/r?history=0")
    own_postgresql.pause()
    hasty = dial(node)
    third = text({"message": "c"})
    hasty.send(handshake("/ws/chat/r"), text({"message": "a"}))
    round_trip(node)
    hasty.send(text({"message": "b"}), third[:5])
    round_trip(node)
    hasty.send(third[5:], frame(PING, b"end"))
    round_trip(node)
    own_postgresql.resume()
    assert hasty.response().status == 101
    mine: list[Any] = []
    pongs = 0
    while len(mine) < 3 or not pongs:
        opcode, payload = hasty.frame()
        if opcode == PONG:
            pongs += 1
        else:
            mine.append(json.loads(payload))
    assert [message["message"] for message in mine] == ["a", "b", "c"]
    assert read_many(other, 3) == mine
    assert read_rest(other) == [[]]
    assert connected(node) == 2


def test_a_join_is_refused_in_time_when_the_store_does_not_answer(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, dial: Dial
) -> None:
    """A join does not wait longer than a handshake may take."""
    node = spawn(DATABASE_URL=own_url, keepalive_handshake_timeout=1)
    own_postgresql.pause()
    refused = Refused(node, "/ws/chat/r")
    assert (refused.status, refused.error) == (503, "store_unavailable")


def test_frames_collected_while_a_join_waits_are_bounded(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, dial: Dial
) -> None:
    """40 MB of frames behind a handshake that is not answered yet."""
    node = spawn(DATABASE_URL=own_url)
    own_postgresql.pause()
    connection = dial(node)
    connection.socket.settimeout(2)
    before = node.memory()
    connection.send(handshake("/ws/chat/r"))
    big = text({"message": "x" * 50_000}) * 20
    try:
        for _ in range(40):  # 40 MB
            connection.send(big)
    except (TimeoutError, ConnectionError):
        pass
    assert node.memory() - before < 10_000_000
    connection.reset()
    own_postgresql.resume()
    node.wait_until_ready()


# -- peers that do not read


def test_peer_that_sends_close_and_never_reads_is_dropped(spawn: Spawn, dial: Dial) -> None:
    node = spawn(keepalive_close_timeout=0.5, api_key=KEY)
    before = idle_sockets(node)
    lazy = dial(node, receive_buffer=4096).open("/ws/push/t")
    for _ in range(15):  # beyond what the kernel takes, below the limit of relayd
        publish(node, "t", b'{"x": "%s"}' % (b"y" * 60_000))
    lazy.send(frame(CLOSE, (1000).to_bytes(2)))
    eventually(lambda: open_sockets(node) <= before)
    assert connected(node) == 0


def push_many(node: Daemon, reader: ClientConnection, first: int) -> int:
    """Publishes some large objects; the number of the next one."""
    publish(node, "t", b'{"x": %d, "pad": "%s"}' % (first, b"y" * 60_000))
    return first + 1


def pose_many(node: Daemon, reader: ClientConnection, first: int) -> int:
    """Sends some poses; the number of the next one."""
    for number in range(first, first + 1000):
        say(reader, {"x": number, "y": 1 / 3, "z": 1 / 7})
    settle(reader)
    return first + 1000


@pytest.mark.parametrize(("kind", "send_many"), [("push", push_many), ("camera", pose_many)])
def test_reader_that_never_reads_is_closed_with_4003(
    spawn: Spawn,
    connect: Connect,
    dial: Dial,
    kind: str,
    send_many: Callable[[Daemon, ClientConnection, int], int],
) -> None:
    """Its memory is bounded, others in the group miss nothing, it finds whole frames and 4003."""
    node = spawn(
        limits_send_buffer=200_000,
        limits_messages_per_second=0,
        limits_bytes_per_second=0,
        api_key=KEY,
        camera_slow_viewers="close",
    )
    reader = connect(node, f"/ws/{kind}/t")
    lazy = dial(node, receive_buffer=4096).open(f"/ws/{kind}/t")
    before, sent = node.memory(), 0
    while "4003" not in node.log:
        assert sent < 200_000, "it was never closed"
        sent = send_many(node, reader, sent)
    sent = send_many(node, reader, sent)
    assert node.memory() - before < 15_000_000
    assert [value["x"] for value in read_rest(reader)[0]] == list(range(sent))
    expected, found = 0, json.loads(lazy.frame()[1])
    while "x" in found:
        assert found["x"] == expected
        expected, found = expected + 1, json.loads(lazy.frame()[1])
    assert found["error"] == "too_slow"
    opcode, payload = lazy.frame()
    assert opcode == CLOSE
    assert int.from_bytes(payload[:2]) == 4003
    lazy.send(frame(CLOSE, payload))
    eventually(lambda: connected(node) == 1)


def test_a_burst_does_not_close_a_client_that_reads(
    spawn: Spawn, connect: Connect, dial: Dial
) -> None:
    """Forty messages of 60 KB in one go, with the default limits: who takes them stays.

    The messages share a COMMIT and so come back together; that is relayd's doing, no reader's.
    """
    node = spawn()
    viewer = connect(node, "/ws/chat/burst")
    sender = dial(node).open("/ws/chat/burst")
    messages = [f"{number} " + "x" * 60_000 for number in range(40)]
    sender.send(*(text({"message": message}) for message in messages))
    for message in messages:
        opcode, payload = sender.frame()
        assert opcode == TEXT, payload
        assert json.loads(payload)["message"] == message
    assert [frame["message"] for frame in read_many(viewer, 40)] == messages


def test_slow_reader_of_a_long_history_is_not_closed(
    spawn: Spawn, connect: Connect, dial: Dial
) -> None:
    """The history goes out at the pace of its reader, in bounded memory."""
    node = spawn(
        limits_send_buffer=200_000, limits_bytes_per_second=0, chat_history_bytes=20_000_000
    )
    sender = connect(node, "/ws/chat/r?history=0")
    for number in range(300):
        say(sender, {"message": f"{number} " + "x" * 30_000})
        read(sender)
    lazy = dial(node, receive_buffer=4096).open("/ws/chat/r?since=0")
    settle(sender)
    round_trip(node)
    for number in range(300):
        opcode, payload = lazy.frame()
        assert opcode == TEXT, payload
        assert json.loads(payload)["message"].startswith(f"{number} ")


def test_pings_of_a_peer_that_does_not_read_cost_bounded_memory(spawn: Spawn, dial: Dial) -> None:
    """A flood of pings whose pongs nobody takes."""
    node = spawn(limits_send_buffer=200_000, keepalive_close_timeout=1)
    lazy = dial(node, receive_buffer=4096).open("/ws/camera")
    lazy.socket.settimeout(1)
    flood = frame(PING, b"x" * 125) * 8000
    before = node.memory()
    try:
        for _ in range(30):  # 31 MB
            lazy.send(flood)
    except (TimeoutError, ConnectionError):
        pass
    round_trip(node)
    assert node.memory() - before < 15_000_000


def test_requests_of_a_phone_that_does_not_read_cost_bounded_memory(
    spawn: Spawn, connect: Connect, dial: Dial
) -> None:
    node = spawn(limits_send_buffer=200_000, keepalive_close_timeout=1)
    connect(node, f"/ws/difficulty/unity/{UUID}")
    lazy = dial(node, receive_buffer=4096).open(f"/ws/difficulty/android/{UUID}")
    lazy.socket.settimeout(1)
    flood = text({"difficulty": "x"}) * 10_000
    before = node.memory()
    try:
        for _ in range(60):
            lazy.send(flood)
    except (TimeoutError, ConnectionError):
        pass
    round_trip(node)
    assert node.memory() - before < 15_000_000


# -- peers that break the protocol

PATHS = ["/ws/camera/p", "/ws/chat/p", "/ws/push/p", "/ws/echo", f"/ws/difficulty/unity/{UUID}"]

VIOLATIONS = {
    "not masked": (frame(TEXT, b"{}", mask=None), 1002),
    "reserved bit": (b"\xc1" + frame(TEXT, b"{}")[1:], 1002),
    "reserved bit of a ping": (b"\xc9" + frame(PING)[1:], 1002),
    "reserved opcode": (frame(0x3, b"{}"), 1002),
    "reserved control opcode": (frame(0xB), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "long close": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "text inside a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "close with one byte": (frame(CLOSE, b"\x03"), 1002),
    "close code 1005": (frame(CLOSE, (1005).to_bytes(2)), 1002),
    "close code 999": (frame(CLOSE, (999).to_bytes(2)), 1002),
    "close code 1016": (frame(CLOSE, (2999).to_bytes(2)), 1002),
    "close reason not utf-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "text not utf-8": (frame(TEXT, b'{"x": "\xff"}'), 1007),
    "text a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "text ends in a character": (frame(TEXT, b'"\xc3'), 1007),
    "fragments not utf-8": (
        frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\x28"), 1007),
    "too big": (frame(BINARY, b" " * 70_000), 1009),
    "too big in fragments": (
        frame(BINARY, b" " * 60_000, fin=False) + frame(CONTINUATION, b" " * 60_000), 1009),
    "much too big, head only": (b"\x82\xff\x00\x00\x00\xff\x00\x00\x00\x00abcd", 1009),
    "length with its first bit": (b"\x82\xff\xff\x00\x00\x00\x00\x00\x00\x00abcd", 1002),
    "length not minimal": (b"\x82\xfe\x00\x05abcd\x00\x00\x00\x00\x00", 1002),
}  # fmt: skip


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A relayd whose echo takes no more than the other paths."""
    node = Daemon(
        tmp_path_factory.mktemp("strict"),
        {
            "RELAYD_ECHO_ENABLED": "true",
            "RELAYD_ECHO_MAX_MESSAGE_SIZE": "65536",
            "RELAYD_KEEPALIVE_CLOSE_TIMEOUT": "1",
        },
    )
    yield node.start()
    node.stop()
    assert "Traceback" not in node.log
    assert "Unhandled" not in node.log


def check_violation(connection: Raw, violation: bytes, code: int) -> None:
    """A close frame with the code arrives, then TCP ends; never the other way round."""
    connection.settle()
    connection.send(violation)
    assert connection.close_frame()[0] == code
    with contextlib.suppress(ConnectionError):  # after a close frame there is nothing to answer
        connection.send(frame(CLOSE, code.to_bytes(2)))
    assert connection.ended()


@pytest.mark.parametrize(("violation", "code"), VIOLATIONS.values(), ids=list(VIOLATIONS))
def test_violation_is_closed_with_its_code(
    strict: Daemon, dial: Dial, violation: bytes, code: int
) -> None:
    check_violation(dial(strict).open("/ws/camera/p"), violation, code)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "name", ["not masked", "text not utf-8", "too big", "too big in fragments"]
)
def test_violation_is_closed_on_every_path(
    strict: Daemon, dial: Dial, path: str, name: str
) -> None:
    check_violation(dial(strict).open(path), *VIOLATIONS[name])


def test_tcp_ends_without_a_reset_after_a_closing_handshake(relayd: Daemon, dial: Dial) -> None:
    """RFC 6455 section 7.1.1, whichever side began: a reset may take what was not read yet."""
    for begun_by_server in (True, False):
        connection = dial(relayd)
        connection.send(
            handshake("/ws/camera/%20?refuse=close" if begun_by_server else "/ws/camera")
        )
        assert connection.response().status == 101
        if begun_by_server:
            assert connection.close_frame()[0] == 4400
        connection.send(frame(CLOSE, (1000).to_bytes(2)))
        if not begun_by_server:
            assert connection.close_frame()[0] == 1000
        assert connection.socket.recv(100) == b""


def test_frames_behind_a_protocol_violation_are_not_relayed(
    relayd: Daemon, connect: Connect, dial: Dial
) -> None:
    viewer = connect(relayd, "/ws/camera/v")
    connection = dial(relayd).open("/ws/camera/v")
    connection.send(text({"x": 1}), frame(TEXT, b"\xff"), text({"x": 2}))
    assert json.loads(connection.frame()[1])["x"] == 1
    assert connection.close_frame()[0] == 1007
    assert [pose["x"] for pose in read_rest(viewer)[0]] == [1]


def test_a_big_message_up_to_the_limit_is_relayed(relayd: Daemon, connect: Connect) -> None:
    """64 KiB is good, one byte more is 1009."""
    client = connect(relayd, "/ws/camera/big")
    client.send('{"x":1}'.ljust(65536))
    assert read(client)["x"] == 1
    client.send('{"x":1}'.ljust(65537))
    assert read_close(client)[0] == 1009


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_close_is_answered_with_its_code(relayd: Daemon, dial: Dial, code: int) -> None:
    connection = dial(relayd).open("/ws/camera")
    connection.send(frame(CLOSE, code.to_bytes(2) + b"bye"))
    assert connection.close_frame()[0] in (code, 1000)
    assert connection.ended()


def test_a_close_without_a_code_is_answered(relayd: Daemon, dial: Dial) -> None:
    connection = dial(relayd).open("/ws/camera")
    connection.send(frame(CLOSE))
    opcode, payload = connection.frame()
    assert opcode == CLOSE
    assert payload in (b"", (1000).to_bytes(2))
    assert connection.ended()


def test_too_many_messages_a_second_close_with_4004(spawn: Spawn, connect: Connect) -> None:
    """`[limits] messages_per_second`; who keeps to it stays."""
    node = spawn(limits_messages_per_second=50)
    calm, wild = connect(node, "/ws/camera"), connect(node, "/ws/camera")
    say(calm, {"x": 1})
    wild.socket.sendall(b"".join(text({"x": number}) for number in range(300)))
    assert read_close(wild)[0] == 4004
    poses = read_rest(calm)[0]
    assert 100 <= len(poses) < 300


# -- peers that are many

HEAD = handshake("/ws/camera/many")
BYE = frame(CLOSE, (1000).to_bytes(2))


async def come_and_go(port: int, number: int) -> None:
    """One visit, of ten kinds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    name = f"00000000-0000-4000-8000-{number:012d}"
    kinds = [
        "/ws/camera/many",
        f"/ws/camera/group-{number}",
        "/ws/chat/many?history=0",
        f"/ws/chat/room-{number}",
        f"/ws/push/topic-{number}",
        f"/ws/difficulty/unity/{name}",
        f"/ws/difficulty/android/{name}",
        "/ws/camera/%20?refuse=close",
        "/healthz",
        "",
    ]
    path = kinds[number % 10]
    try:
        if not path:
            writer.write(HEAD[: number % len(HEAD)])
            return
        writer.write(request(path) if path == "/healthz" else handshake(path))
        await reader.readuntil(b"\r\n\r\n")
        if "/ws/" not in path:
            return
        if "camera" in path:
            writer.write(text({"x": number}))
        if number % 3:
            writer.write(BYE)
            await reader.read()
        elif number % 2:
            writer.transport.abort()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def many(port: int, first: int, count: int) -> None:
    """So many visits, fifty at a time."""
    numbers = iter(range(first, first + count))

    async def visit() -> None:
        for number in numbers:
            await come_and_go(port, number)

    await asyncio.gather(*(visit() for _ in range(50)))


def test_thousands_of_connections_leave_no_state_behind(spawn: Spawn) -> None:
    """After a warm-up of 6,000, another 6,000 cost neither memory nor file descriptors."""
    node = spawn(keepalive_handshake_timeout=2)
    idle = idle_sockets(node)
    asyncio.run(many(node.port, 0, 6000))  # until the allocator has what it needs
    eventually(lambda: open_sockets(node) <= idle)
    before = node.memory()
    asyncio.run(many(node.port, 6000, 6000))
    eventually(lambda: open_sockets(node) <= idle)
    assert connected(node) == 0
    assert node.log.count(" opened by ") > 6000  # they were let in at all
    assert node.memory() - before < 6000 * 300


# -- the end


def test_sigterm_closes_every_client_with_1001(spawn: Spawn, connect: Connect) -> None:
    node = spawn(echo_enabled=True)
    clients: list[ClientConnection] = [
        connect(node, path)
        for path in ("/ws/camera", "/ws/chat", "/ws/push/a", "/ws/echo",
                     f"/ws/difficulty/unity/{UUID}", f"/ws/difficulty/android/{UUID}")
    ]  # fmt: skip
    settle(*clients)
    assert node.process is not None
    node.process.terminate()
    assert [read_close(client)[0] for client in clients] == [1001] * 6
    node.process.wait(20)
    assert "6 connections to close" in node.log


def test_relayd_exits_by_the_signal_after_sigterm(spawn: Spawn) -> None:
    """twistd does the same; a supervisor such as systemd takes it for an ordered end."""
    assert spawn().stop() == -signal.SIGTERM


def test_unresponsive_peers_do_not_delay_shutdown_beyond_the_drain_timeout(
    spawn: Spawn, dial: Dial
) -> None:
    """After `drain_timeout` whoever is left is dropped: a WebSocket, a half head, an idle page."""
    node = spawn(server_drain_timeout=0.5)
    silent = dial(node).open("/ws/camera")
    half, idle = dial(node), dial(node)
    half.send(HEAD[:50])
    idle.send(request("/healthz"))
    idle.response()
    round_trip(node)
    node.stop()
    assert silent.close_frame()[0] == 1001
    assert silent.ended()
    assert half.ended()
    assert idle.ended()


def test_sigterm_ends_relayd_while_the_database_does_not_answer(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, connect: Connect, dial: Dial
) -> None:
    """Joins that wait and requests under way do not keep it beyond the database's deadline."""
    node = spawn(DATABASE_URL=own_url, database_deadline=1, server_drain_timeout=1)
    connect(node, f"/ws/difficulty/unity/{UUID}")
    phone = connect(node, f"/ws/difficulty/android/{UUID}")
    own_postgresql.pause()
    say(phone, {"difficulty": 1})
    waiting = dial(node)
    waiting.send(handshake("/ws/chat/r"))
    settle(phone)
    round_trip(node)
    node.stop()
    response = waiting.response()
    assert response.status == 503
    check_refusal(response.status, response.headers, response.body)


def test_messages_in_flight_at_shutdown_are_stored_or_refused(
    spawn: Spawn, connect: Connect
) -> None:
    """Messages delivered before the 1001 are in the history after the restart."""
    node = spawn()
    client = connect(node, "/ws/chat/r")
    for number in range(200):
        say(client, {"message": str(number)})
    assert read(client)["message"] == "0"
    assert node.process is not None
    node.process.terminate()
    came_back = ["0"]
    while True:
        try:
            came_back.append(read(client)["message"])
        except Exception:
            break
    assert client.close_code == 1001
    node.process.wait(20)
    node.start()
    back = connect(node, "/ws/chat/r?since=0")
    say(back, {"message": "the last one"})
    history: list[str] = []
    while not history or history[-1] != "the last one":
        history.append(read(back)["message"])
    assert history[: len(came_back)] == came_back
    assert len(set(history)) == len(history)
