"""One port: what a head is taken for, however it comes, and what it may cost."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.protocols.policies import WrappingFactory

from relayd.errors import ErrorCode
from tests.unit.doors import (
    HEALTH,
    SEQUENCES,
    UPGRADE,
    House,
    make_house,
)
from tests.unit.fakes import Client, Transport, mask_frame, parse_frames


@pytest.fixture
def house() -> Iterator[House]:
    with make_house() as house:
        yield house


# What a head is taken for


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws/echo", 101),
        ("/ws/echo/", 101),
        ("/ws/echo?x=1", 101),
        ("/ws/camera", 101),
        ("/ws/camera/", 101),
        ("/ws/camera/a/", 101),
        ("/ws/camera/a?b=c", 101),
        ("http://relay.example/ws/camera", 101),
        ("/ws/camera/a/b", 404),
        ("/ws/chat", 404),  # nothing answers it here
        ("/ws/Camera", 404),
        ("/ws/cameraman", 404),
        ("/ws", 404),
        ("/ws/", 404),
        ("/", 404),
        ("/healthz", 404),
        ("//ws/camera", 404),
    ],
)
def test_a_handshake_goes_to_the_relay_of_its_path(house: House, path: str, status: int) -> None:
    head = UPGRADE.replace(b"/ws/echo", path.encode())
    caller = house.call(head)
    if status == 101:
        assert caller.statuses == [101]
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in caller.answer
        assert caller.transport.protocol.kind in path
    else:
        assert caller.refusal == (404, "not_found")


@pytest.mark.parametrize(
    "header", ["upgrade:websocket", "UPGRADE: WebSocket", "Upgrade:\t h2c, websocket"]
)
def test_a_handshake_is_known_however_its_header_is_written(house: House, header: str) -> None:
    assert house.call(UPGRADE.replace(b"Upgrade: websocket", header.encode())).statuses == [101]


@pytest.mark.parametrize(
    "header", [b"Upgrade: h2c", b"X-Upgrade: websocket", b"Upgrade: websockets", b"Upgrade:"]
)
def test_a_head_that_is_no_handshake_is_served_as_http(house: House, header: bytes) -> None:
    caller = house.call(UPGRADE.replace(b"Upgrade: websocket", header))
    assert caller.refusal == (426, "upgrade_required")


def test_an_upgrade_in_a_body_is_no_handshake(house: House) -> None:
    body = b"\r\nUpgrade: websocket\r\n\r\n"
    head = b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert house.call(head + body).statuses == [405]


def test_messages_behind_a_handshake_are_echoed(house: House) -> None:
    caller = house.call(UPGRADE + mask_frame(1, b"one"), mask_frame(2, b"two"))
    _, _, frames = caller.answer.partition(b"\r\n\r\n")
    assert [payload for _, payload in parse_frames(frames)] == [b"one", b"two"]


# However it comes


def outcome(data: list[bytes]) -> tuple[bytes, bool, bool]:
    """What a sequence of segments is answered with, and whether the connection goes on."""
    with make_house() as house:
        caller = house.call(*data)
        return caller.answer, caller.transport.connected, caller.transport.writing_closed


@pytest.mark.parametrize("name", SEQUENCES)
def test_bytes_have_the_same_result_wherever_they_are_cut(name: str) -> None:
    data = SEQUENCES[name]
    whole = outcome([data])
    assert whole[0]
    for cut in range(1, len(data)):
        assert outcome([data[:cut], data[cut:]]) == whole, data[:cut]
    assert outcome([data[place : place + 1] for place in range(len(data))]) == whole


@given(st.sampled_from(list(SEQUENCES)), st.lists(st.integers(1, 60)))
def test_bytes_have_the_same_result_in_segments_of_any_sizes(name: str, sizes: list[int]) -> None:
    data = SEQUENCES[name]
    cuts = [0, *itertools.accumulate(sizes), len(data)]
    segments = [data[start:end] for start, end in itertools.pairwise(cuts) if data[start:end]]
    assert outcome(segments) == outcome([data])


heads = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                *(UPGRADE, HEALTH, UPGRADE[:-2], HEALTH[:-2], b"\r\n", b"\r\n\r\n", b"\n", b"\r"),
                *(b"GET ", b"/ws/echo ", b"/ws/echo/\xff ", b"HTTP/1.1\r\n", b"HTTP/1.0\r\n"),
                *(b"Host: a\r\n", b"Upgrade: websocket\r\n", b"Content-Length: 5\r\n", b": x\r\n"),
                *(b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"x" * 1000),
                b"Expect: 100-continue\r\n",
            ]
        ),
    ),
    max_size=8,
)


@given(heads, st.booleans(), st.booleans())
@example([b"GET / HTTP/1.1\r\n\r\n"], False, False)
@example([b" \r\n\r\n"], False, True)
@example([UPGRADE[:-4].replace(b"HTTP/1.1", b""), b"\r\n\r\n"], True, True)
def test_any_bytes_raise_nothing_and_leave_nothing(
    data: list[bytes], in_one: bool, resets: bool
) -> None:
    with make_house() as house:
        caller = house.call(*([b"".join(data)] if in_one else data))
        if resets:
            caller.end(ConnectionLost())
        else:
            caller.pass_time(200)
            upgraded = caller.transport.protocol is not None and 101 in caller.statuses
            assert upgraded or not caller.transport.connected


# One connection, several requests


def test_a_kept_alive_connection_may_be_reused_for_a_handshake(house: House) -> None:
    caller = house.call(HEALTH)
    assert caller.statuses == [200]
    caller.pass_time(30)
    caller.send(UPGRADE)
    caller.send(mask_frame(1, b"hello"))
    assert caller.statuses == [200, 101]
    caller.pass_time(200)  # no timer of the HTTP side is left to end it
    assert caller.transport.connected
    assert caller.answer.endswith(b"\x81\x05hello")


def test_requests_that_come_while_one_is_answered_wait_for_their_turn(house: House) -> None:
    say = (
        b"POST /api/chat/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a key\r\n"
        b'Content-Length: 16\r\n\r\n{"message":"hi"}'
    )
    caller = house.call(say, HEALTH + say, UPGRADE + mask_frame(1, b"hello"))
    assert caller.statuses == []
    house.backend.saying[0].callback(b'{"message":"first"}')
    house.world.clock.advance(0)
    assert caller.statuses == [200, 200]
    house.backend.saying[1].callback(b'{"message":"second"}')
    house.world.clock.advance(0)
    assert caller.statuses == [200, 200, 200, 101]
    assert caller.answer.endswith(b"\x81\x05hello")


def test_a_connection_that_ends_while_a_request_is_answered_leaves_nothing(house: House) -> None:
    caller = house.call(
        b"POST /api/chat/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a key\r\n"
        b'Content-Length: 16\r\n\r\n{"message":"hi"}'
    )
    caller.end(ConnectionLost())
    house.backend.saying[0].callback(b"{}")
    house.world.clock.advance(0)
    assert caller.statuses == []


def test_an_idle_kept_alive_connection_is_dropped_in_time(house: House) -> None:
    caller = house.call(HEALTH)
    caller.pass_time(59)
    assert caller.transport.connected
    caller.pass_time(20)
    assert not caller.transport.connected


def test_a_later_head_has_a_deadline(house: House) -> None:
    """Byte after byte, each well in time, but the head never ends."""
    caller = house.call(HEALTH)
    for _ in range(50):
        caller.pass_time(2)
        caller.send(b"x")
    assert not caller.transport.connected


# What a head may cost


def test_a_silent_connection_is_dropped(house: House) -> None:
    caller = house.call()
    caller.pass_time(9.5)
    assert caller.transport.connected
    caller.pass_time(0.5)
    assert caller.transport.aborted
    assert caller.answer == b""


def test_a_head_that_takes_too_long_is_answered_with_408(house: House) -> None:
    """Pieces of the head do not extend the deadline."""
    caller = house.call()
    for byte in UPGRADE[:19]:
        caller.pass_time(0.5)
        caller.send(bytes([byte]))
    caller.pass_time(0.5)
    assert caller.refusal == (408, "timeout")
    assert caller.transport.writing_closed
    caller.pass_time(2)
    assert caller.transport.aborted


@pytest.mark.parametrize("head", [b"x" * 2000, HEALTH[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n"])
def test_a_head_that_is_too_large_is_answered_with_431_which_the_peer_can_read(
    house: House, head: bytes
) -> None:
    """More bytes are read and forgotten for a while: a reset would take the answer with it."""
    caller = house.call(head)
    assert caller.refusal == (431, "head_too_large")
    assert caller.transport.writing_closed
    caller.send(HEALTH)
    assert caller.refusal == (431, "head_too_large")
    assert house.factory.tally.refused[ErrorCode.HEAD_TOO_LARGE] == 1
    assert not caller.transport.aborted
    caller.pass_time(2)
    assert caller.transport.aborted


def test_a_later_head_that_is_too_large_is_answered_with_431(house: House) -> None:
    caller = house.call(HEALTH, b"x" * 2000)
    assert caller.statuses == [200, 431]
    caller.pass_time(2)
    assert not caller.transport.connected


def test_bytes_behind_a_head_do_not_count_towards_its_limit(house: House) -> None:
    caller = house.call(UPGRADE + mask_frame(2, b"x" * 5000))
    assert caller.statuses == [101]
    assert caller.answer.endswith(b"x" * 5000)


def test_a_handshake_in_time_stops_the_clock(house: House) -> None:
    caller = house.call()
    caller.pass_time(9)
    caller.send(UPGRADE)
    caller.pass_time(20)
    assert caller.statuses == [101]
    assert caller.transport.connected


@pytest.mark.parametrize("sent", [b"", HEALTH[:10], HEALTH, UPGRADE[:10], UPGRADE, b"x" * 2000])
@pytest.mark.parametrize("reason", [None, ConnectionLost()])
def test_a_peer_may_leave_at_any_moment(
    house: House, sent: bytes, reason: Exception | None
) -> None:
    caller = house.call(*([sent] if sent else []))
    caller.end(reason)
    assert house.world.clock.getDelayedCalls() == []
    assert len(house.world.context.connections) == 0


# Transports that wrap another


def test_a_handshake_works_behind_the_wrappers_of_tls_and_proxy_protocol(house: House) -> None:
    caller = house.call(HEALTH, UPGRADE, factory=WrappingFactory(house.factory))
    caller.send(mask_frame(1, b"hello"))
    assert caller.statuses == [200, 101]
    assert caller.answer.endswith(b"\x81\x05hello")
    assert len(house.world.context.connections) == 1
    caller.end()
    assert len(house.world.context.connections) == 0


def test_a_handshake_works_behind_an_unknown_wrapper(house: House) -> None:
    transport = Transport(house.world.clock)
    door = house.factory.buildProtocol(None)
    door.makeConnection(transport)
    door.dataReceived(UPGRADE)
    door.dataReceived(mask_frame(1, b"hello"))
    assert transport.arrived.endswith(b"\x81\x05hello")
    assert len(house.world.context.connections) == 1
    door.connectionLost()
    assert len(house.world.context.connections) == 0


def test_a_client_of_websockets_is_served(house: House) -> None:
    client: Client = house.world.connect(house.factory, "/ws/echo")
    assert client.status == 101
    client.send({"hello": 1})
    assert client.objects() == [{"hello": 1}]
