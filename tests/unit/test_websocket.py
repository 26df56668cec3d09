"""One open connection to its last byte: a relay of the test's own over a transport in memory."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent
from websockets.frames import Opcode

from relayd import config as settings
from relayd.close_codes import CloseCode
from relayd.config import Auth, Config, Keepalive, Limits
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ClientError, ErrorCode
from relayd.names import Place
from relayd.native.framing import binary_frame
from relayd.relays.paths import KINDS
from relayd.sockets.patience import wait_patiently
from tests.unit.fakes import (
    BUFFER,
    NOW,
    OPEN,
    Client,
    World,
    has_fired,
    make_world,
    mask_frame,
    success,
)

PATH = "/ws/test"
SECRET = "a secret of at least thirty-two bytes"
LIMIT = 10_000
CONFIG = Config(
    limits=Limits(send_buffer=LIMIT, max_message_size=1000, max_waiting=4),
    auth=Auth(secret=SECRET),
    keepalive=Keepalive(ping_interval=20, pong_timeout=10, close_timeout=5),
)


class FakeRelay(RelayProtocol):
    """A relay that notes what it was called with, and does what the test wants in between."""

    entry = KINDS["camera"]
    factory: "FakeFactory"

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        self.calls = ["admit"]
        self.messages: list[tuple[bytes, bool]] = []

    def opened(self) -> None:
        self.calls.append("opened")
        self.factory.on_opened(self)

    def received(self, payload: bytes, is_binary: bool) -> None:
        self.messages.append((payload, is_binary))
        self.factory.on_received(self, payload)

    def left(self) -> None:
        self.calls.append("left")
        self.factory.on_left(self)


class FakeFactory(RelayFactory):
    """Builds connections of the test's relay, and says what they do."""

    protocol = FakeRelay

    def __init__(self, world: World) -> None:
        super().__init__(world.context)
        self.on_opened: Callable[[FakeRelay], object] = lambda relay: None
        self.on_received: Callable[[FakeRelay, bytes], object] = lambda relay, payload: None
        self.on_left: Callable[[FakeRelay], object] = lambda relay: None


class Server:
    """A world with the test's relay in it.

    Attributes:
        failures: what was logged as an error; must be empty at the end.
    """

    def __init__(self, world: World, failures: list[LogEvent]) -> None:
        self.world = world
        self.factory = FakeFactory(world)
        self._failures = failures

    def connect(self, **options: Any) -> Client:
        return self.world.connect(self.factory, PATH, **options)

    def take_failure(self) -> str:
        """The text of the one exception that was logged."""
        [event] = self._failures
        self._failures.clear()
        return str(event["log_failure"].value)


@pytest.fixture
def config() -> Config:
    return CONFIG


@pytest.fixture
def server(config: Config) -> Iterator[Server]:
    with make_world(config) as (world, failures):
        yield Server(world, failures)


@pytest.fixture
def client(server: Server) -> Client:
    return server.connect()


@pytest.fixture
def mute(server: Server) -> Client:
    """A client that answers neither pings nor closes."""
    return server.connect(answers=False)


@pytest.fixture
def slow(server: Server) -> Client:
    """A client that does not read, and whose transport is full."""
    client = server.connect(answers=False)
    client.transport.peer_reads = False
    client.server.send(binary_frame(b"." * BUFFER))
    return client


def with_limits(**limits: Any) -> Config:
    return msgspec.structs.replace(CONFIG, limits=msgspec.structs.replace(CONFIG.limits, **limits))


def code_of(client: Client) -> str:
    """The code of the one error frame that came."""
    [answer] = client.objects()
    assert set(answer) == {"error", "message"}
    assert answer["message"].endswith(".")
    return str(answer["error"])


# Messages


def test_a_relay_is_opened_then_receives_messages_then_is_left(client: Client) -> None:
    assert client.status == 101
    client.send("héllo")
    client.send(b"\x00\xff")
    client.begin_close()
    assert client.server.messages == [("héllo".encode(), False), (b"\x00\xff", True)]
    assert client.server.calls == ["admit", "opened", "left"]
    assert client.closed() == (1000, "")
    assert not client.transport.connected


def test_payloads_of_a_relay_arrive_as_text_frames(client: Client) -> None:
    client.server.send_payload(b'{"x":1}')
    client.server.send_error(ErrorCode.BAD_POSE, "No.")
    assert client.objects() == [{"x": 1}, {"error": "bad_pose", "message": "No."}]


def test_a_frame_sent_while_a_relay_opens_follows_the_101(server: Server) -> None:
    server.factory.on_opened = lambda relay: relay.send_payload(b'{"first":1}')
    client = server.connect()
    assert client.status == 101
    assert client.objects() == [{"first": 1}]


def test_messages_in_the_same_segment_as_the_handshake_are_received(server: Server) -> None:
    client = server.connect(behind=mask_frame(1, b"one") + mask_frame(1, b"two"))
    assert client.server.messages == [(b"one", False), (b"two", False)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 5000])
def test_messages_may_come_in_pieces_of_any_size(client: Client, size: int) -> None:
    payloads = [b"", b"a" * 125, b"b" * 126, b"c" * 1000]
    data = b"".join(mask_frame(2, payload) for payload in payloads)
    for start in range(0, len(data), size):
        client.transport.deliver(data[start : start + size])
    assert client.server.messages == [(payload, True) for payload in payloads]


def test_a_message_may_come_in_fragments_with_a_ping_between(client: Client) -> None:
    for frame in (
        mask_frame(1, b"one ", fin=False),
        mask_frame(9, b"still there?"),
        mask_frame(0, b"message"),
    ):
        client.transport.deliver(frame)
    assert client.server.messages == [(b"one message", False)]
    assert [(f.opcode, bytes(f.data)) for f in client.frames()] == [(Opcode.PONG, b"still there?")]


def test_a_client_error_goes_to_its_sender_and_the_connection_stays(
    server: Server, client: Client
) -> None:
    def complain(relay: FakeRelay, payload: bytes) -> None:
        raise ClientError(ErrorCode.BAD_POSE, "The pose is bad.")

    server.factory.on_received = complain
    bystander = server.connect()
    client.send("x")
    client.send("x")
    answer = {"error": "bad_pose", "message": "The pose is bad."}
    assert client.objects() == [answer, answer]
    assert bystander.frames() == []


def test_open_connections_are_counted_by_kind_until_their_tcp_connection_ends(
    server: Server,
) -> None:
    clients = [server.connect(answers=False) for _ in range(2)]
    assert server.world.context.connections.counts() == {"camera": 2}
    clients[0].server.close(CloseCode.NORMAL)
    assert len(server.world.context.connections) == 2
    clients[0].transport.end()
    assert len(server.world.context.connections) == 1


# Exceptions in our own code


def test_an_exception_while_a_message_is_received_is_logged_once_and_reported(
    server: Server, client: Client
) -> None:
    def fail(relay: FakeRelay, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("received went wrong")

    server.factory.on_received = fail
    client.send("bad")
    assert server.take_failure() == "received went wrong"
    assert code_of(client) == "internal_error"
    client.send("good")
    assert client.server.messages[-1] == (b"good", False)
    assert client.closed() == OPEN


def test_an_exception_while_a_relay_opens_is_logged_once_and_closes_with_1011(
    server: Server,
) -> None:
    def fail(relay: FakeRelay) -> None:
        raise RuntimeError("opened went wrong")

    server.factory.on_opened = fail
    client = server.connect()
    assert server.take_failure() == "opened went wrong"
    assert client.closed() == (1011, "internal_error")
    assert client.server.calls == ["admit", "opened", "left"]


def test_an_exception_while_a_relay_leaves_is_logged_once_and_delays_nothing(
    server: Server, client: Client
) -> None:
    def fail(relay: FakeRelay) -> None:
        raise RuntimeError("left went wrong")

    server.factory.on_left = fail
    client.begin_close()
    assert server.take_failure() == "left went wrong"
    assert client.closed() == (1000, "")
    assert not client.transport.connected


@pytest.mark.parametrize("later", [False, True])
def test_an_exception_in_a_spawned_coroutine_is_logged_once_and_reported(
    server: Server, client: Client, later: bool
) -> None:
    turn: Deferred[None] = Deferred()

    async def work() -> None:
        if later:
            await turn
        raise RuntimeError("the coroutine went wrong")

    client.server.spawn(work())
    turn.callback(None)
    assert server.take_failure() == "the coroutine went wrong"
    assert code_of(client) == "internal_error"
    client.send("x")
    assert client.server.messages == [(b"x", False)]


def test_a_spawned_coroutine_that_was_cancelled_is_no_failure(client: Client) -> None:
    async def work() -> None:
        raise CancelledError

    client.server.spawn(work())
    assert client.frames() == []


# Peers that send what they may not


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\xc1\x81\0\0\0\0x", 1002),  # RSV1 without an extension
        (b"\x83\x80\0\0\0\0", 1002),  # reserved opcode
        (b"\x8b\x80\0\0\0\0", 1002),  # reserved control opcode
        (b"\x80\x81\0\0\0\0x", 1002),  # continuation of nothing
        (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),  # a new message inside another
        (b"\x09\x80\0\0\0\0", 1002),  # fragmented ping
        (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),  # long ping
        (b"\x82\xfe\x00\x05\0\0\0\0hello", 1002),  # length not minimal
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # text not in UTF-8
        (b"\x01\x82\0\0\0\0a\xc3\x80\x81\0\0\0\0a", 1007),  # nor across fragments
        (b"\x81\xfe\x03\xe9\0\0\0\0" + b"x" * 1001, 1009),  # one byte too much
        (b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"\0\0\0\0", 1009),  # much too much, announced
        (
            (b"\x01\xfe\x01\xf5\0\0\0\0" + b"x" * 501) + (b"\x80\xfe\x01\xf4\0\0\0\0" + b"x" * 500),
            1009,
        ),
    ],
)
def test_a_violation_closes_with_the_code_of_the_rfc_and_not_by_dropping_tcp(
    mute: Client, data: bytes, code: int
) -> None:
    mute.transport.deliver(data)
    assert mute.closed()[0] == code
    assert mute.transport.connected
    assert mute.server.calls == ["admit", "opened", "left"]
    assert mute.server.messages == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x88\x81\0\0\0\0x", 1002),  # CLOSE with half a code
        (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # CLOSE with 1005
        (b"\x88\x85\0\0\0\0\x03\xe8\xff\xff\xff", 1007),  # CLOSE with a reason not in UTF-8
    ],
)
def test_a_close_that_is_a_violation_is_answered_with_the_code_of_the_rfc(
    mute: Client, data: bytes, code: int
) -> None:
    mute.transport.deliver(data)
    assert mute.closed()[0] == code
    assert mute.server.calls == ["admit", "opened", "left"]


def test_a_message_of_the_largest_size_is_received(client: Client) -> None:
    client.send("x" * 1000)
    for fin, part in ((False, b"a" * 999), (True, b"b")):
        client.transport.deliver(mask_frame(0 if fin else 1, part, fin=fin))
    assert [len(payload) for payload, _ in client.server.messages] == [1000, 1000]
    assert client.closed() == OPEN


odd_frames = st.builds(
    lambda first, masked, payload, cut: (
        bytes([first, masked << 7 | min(len(payload), 125)]) + b"\0\0\0\0" * masked + payload
    )[: None if cut else -1],
    st.integers(0, 255),
    st.booleans(),
    st.binary(max_size=130),
    st.booleans(),
)


@given(st.lists(st.one_of(st.binary(max_size=40), odd_frames), max_size=8), st.booleans())
def test_arbitrary_bytes_raise_nothing_and_close_with_a_code(
    data: list[bytes], in_one: bool
) -> None:
    with make_world(CONFIG) as (world, _):
        client = world.connect(FakeFactory(world), PATH, answers=False)
        for piece in [b"".join(data)] if in_one else data:
            client.transport.deliver(piece)
        client.pump()
        if client.closed() != OPEN:
            assert client.server.calls == ["admit", "opened", "left"]
        else:
            assert client.transport.connected
            assert client.server.calls == ["admit", "opened"]


RATED = [with_limits(messages_per_second=2, bytes_per_second=0)]
WARNING = b'{"error":"rate_limited","message":"' + ErrorCode.RATE_LIMITED.sentence.encode() + b'"}'


@pytest.mark.parametrize("config", RATED)
def test_a_client_that_sends_too_fast_is_warned_once_then_closed_with_4004(
    server: Server, client: Client
) -> None:
    client.transport.deliver(mask_frame(1, b"x") * 4)
    client.pass_time(1)
    client.transport.deliver(mask_frame(1, b"y") * 2)
    assert client.payloads() == []
    client.transport.deliver(mask_frame(1, b"z") * 5)
    assert client.payloads() == [WARNING]
    assert client.closed() == OPEN
    client.transport.deliver(mask_frame(1, b"z"))
    assert client.closed() == (4004, "rate limit")
    assert client.server.messages == [(b"x", False)] * 4 + [(b"y", False)] * 2 + [(b"z", False)] * 5


@pytest.mark.parametrize("config", RATED)
def test_a_client_is_warned_again_when_a_minute_has_passed(client: Client) -> None:
    for _ in range(3):
        for _ in range(4):
            client.transport.deliver(mask_frame(1, b"x") * 4)
            if warned := client.payloads():
                break
        assert warned == [WARNING]
        client.pass_time(61)
    assert client.closed() == OPEN


KINDS_OF_FRAMES = {
    "short text": [mask_frame(1, b"x")],
    "long text": [mask_frame(1, b"x" * 200)],
    "binary": [mask_frame(2, b"x")],
    "ping": [mask_frame(9, b"")],
    "pong": [mask_frame(10, b"")],
    "fragments": [mask_frame(0x01, b"", fin=False), *[mask_frame(0x00, b"", fin=False)] * 20],
}


@pytest.mark.parametrize("config", RATED)
@pytest.mark.parametrize("kind", KINDS_OF_FRAMES)
def test_frames_of_every_kind_count_towards_the_rate(client: Client, kind: str) -> None:
    frames = KINDS_OF_FRAMES[kind] * 20
    client.transport.deliver(b"".join(frames[:4]))
    assert WARNING not in client.payloads()
    client.transport.deliver(frames[4])
    assert WARNING in client.payloads()
    client.transport.deliver(b"".join(frames[5:9]))
    assert client.closed() == OPEN
    client.transport.deliver(frames[9])
    assert client.closed() == (4004, "rate limit")


@pytest.mark.parametrize("config", [with_limits(messages_per_second=0, bytes_per_second=1000)])
def test_bytes_count_towards_their_rate(client: Client) -> None:
    half = mask_frame(1, b"x" * 992)  # of two seconds' worth
    assert len(half) == 1000
    client.transport.deliver(half * 2)
    assert client.payloads() == []
    client.transport.deliver(half * 2)
    assert client.payloads() == [WARNING]
    client.transport.deliver(half * 3)
    assert client.closed() == (4004, "rate limit")


@pytest.mark.parametrize(
    "config",
    [with_limits(messages_per_second=0, bytes_per_second=0, max_message_size=1 << 20)],
)
def test_no_client_is_closed_for_its_rate_without_a_rate_limit(client: Client) -> None:
    for _ in range(2000):
        client.send("x")
    client.send("x" * (1 << 20))
    client.send("x" * (1 << 20))
    client.send("x" * (1 << 20))
    assert client.closed() == OPEN


# Turns


def test_the_frames_of_one_piece_of_data_are_parsed_a_slice_at_a_turn(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(client.server), "turn", 0)
    client.transport.deliver(mask_frame(1, b"x") * 3)
    assert len(client.server.messages) == 1
    assert not client.transport.reading
    client.pass_time(0.5)
    assert len(client.server.messages) == 3
    assert client.transport.reading


def test_bytes_that_wait_for_their_slice_are_forgotten_when_the_connection_ends(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(client.server), "turn", 0)
    client.transport.deliver(mask_frame(1, b"x") * 3)
    client.transport.end()
    client.pass_time(0.5)
    assert len(client.server.messages) == 1


# After our close


def test_nothing_that_comes_after_our_close_is_parsed_but_the_peers_close(client: Client) -> None:
    client.server.close(4004)
    long = mask_frame(1, b"y" * 10_000)
    for frame in (
        *(mask_frame(1, b"x"), mask_frame(2, b"x" * 300), mask_frame(9, b"ping"), long[:1]),
        *(long[1:9], long[9:9000], long[9000:]),
        mask_frame(8, b"\x0f\xa4"),
    ):
        client.transport.deliver(frame)
    assert client.server.messages == []
    assert client.closed()[0] == 4004
    assert client.server.remoteCloseCode == 4004
    assert not client.transport.aborted


@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_a_peer_that_sends_on_after_our_close_is_dropped(client: Client, size: int) -> None:
    bound = 1000 + 16 * 1024
    client.server.close(4004)
    frame = mask_frame(1, b"x" * size)
    client.transport.deliver(frame * (bound // len(frame)))
    assert not client.transport.aborted
    client.transport.deliver(frame * 2)
    assert client.transport.aborted


# Peers that do not read


def test_frames_for_a_slow_peer_wait_and_arrive_in_order(server: Server) -> None:
    client = server.connect(peer_reads=False)
    for number in range(5):
        client.server.send_payload(b"%d" % number)
    client.transport.read()
    assert client.payloads() == [b"%d" % number for number in range(5)]


def test_a_client_that_falls_behind_is_closed_with_4003_and_its_pending_frames_are_released(
    slow: Client,
) -> None:
    for number in range(100):
        slow.server.send_payload(b"%03d" % number + b"x" * 997)
    assert slow.server.calls == ["admit", "opened", "left"]
    slow.transport.read()
    assert code_of(slow) == "too_slow"
    assert slow.closed() == (4003, "too slow")


def test_a_client_that_falls_behind_and_still_does_not_read_is_aborted(slow: Client) -> None:
    slow.server.send_payload(b"x" * LIMIT)
    slow.pass_time(4.5)
    too_early = slow.transport.aborted
    slow.pass_time(0.5)
    assert (too_early, slow.transport.aborted) == (False, True)
    assert not slow.transport.connected


def test_pongs_for_a_peer_that_does_not_read_count_towards_its_buffer(slow: Client) -> None:
    for _ in range(LIMIT // 100):
        slow.transport.deliver(mask_frame(9, b"x" * 125))
    slow.transport.read()
    assert slow.closed() == (4003, "too slow")


@pytest.mark.parametrize("config", [with_limits(send_buffer=1)])
@pytest.mark.parametrize("answers", [True, False])
def test_the_smallest_send_buffer_does_no_harm(server: Server, answers: bool) -> None:
    client = server.connect(peer_reads=False, answers=answers)
    client.server.send(binary_frame(b"." * BUFFER))
    client.server.send_payload(b"{}")
    client.transport.read()
    assert client.closed() == (4003, "too slow")
    assert client.server.calls == ["admit", "opened", "left"]


def test_one_slow_peer_does_not_delay_other_peers(server: Server, slow: Client) -> None:
    quick = server.connect()
    for _ in range(100):
        for client in (slow, quick):
            client.server.send_payload(b"x" * 1000)
    assert len(quick.payloads()) == 100


def wait(client: Client) -> "Deferred[bool]":
    """Waits until the client has read what was sent to it."""
    outbox, clock = client.server.outbox, client.server.context.clock
    return Deferred.fromCoroutine(wait_patiently(outbox, clock, 20, client.server.abort))


def test_waiting_ends_at_once_while_the_peer_reads(client: Client) -> None:
    assert success(wait(client))


def test_waiting_ends_when_the_peer_has_read(slow: Client) -> None:
    slow.server.send_payload(b"x")
    waiting = wait(slow)
    assert not has_fired(waiting)
    slow.transport.read()
    assert success(waiting)


def test_waiting_ends_without_an_exception_once_the_peer_leaves(slow: Client) -> None:
    waiting = wait(slow)
    slow.transport.reset()
    assert not success(waiting)


def test_waiting_ends_at_once_after_the_peer_has_left(slow: Client) -> None:
    slow.transport.reset()
    assert not success(wait(slow))


# Messages that are being worked on


def test_reading_pauses_at_the_limit_until_half_of_it_is_free(
    server: Server, client: Client
) -> None:
    server.factory.on_received = lambda relay, payload: relay.hold(1)
    for number in range(6):
        client.send(b"%d" % number)
    assert [payload for payload, _ in client.server.messages] == [b"0", b"1", b"2", b"3"]
    client.server.release(1)
    client.pump()
    assert len(client.server.messages) == 4
    client.server.release(1)
    client.pump()
    assert [payload for payload, _ in client.server.messages[4:]] == [b"4", b"5"]


@pytest.mark.parametrize("config", [with_limits(max_waiting=1000)])
def test_at_most_as_many_bytes_as_the_send_buffer_are_in_progress(
    server: Server, client: Client
) -> None:
    server.factory.on_received = lambda relay, payload: relay.hold(len(payload))
    for _ in range(12):
        client.send(b"x" * 1000)
    assert len(client.server.messages) == 10
    for _ in range(5):
        client.server.release(1000)
    client.pump()
    assert len(client.server.messages) == 12


def test_a_client_whose_reading_is_paused_still_gets_frames(server: Server, client: Client) -> None:
    server.factory.on_received = lambda relay, payload: relay.hold(1)
    for _ in range(4):
        client.send("x")
    assert not client.transport.reading
    client.server.send_payload(b'{"x":1}')
    assert client.objects() == [{"x": 1}]


def test_a_task_that_ends_after_its_connection_does_no_harm(server: Server, client: Client) -> None:
    server.factory.on_received = lambda relay, payload: relay.hold(1)
    for _ in range(4):
        client.send("x")
    client.transport.reset()
    for _ in range(4):
        client.server.release(1)
    assert not client.transport.reading


# Silence


@pytest.fixture
def keepalive(server: Server) -> Iterator[None]:
    """The sweep runs, as in a process."""
    server.world.context.keepalive.start()
    yield
    server.world.context.keepalive.stop()


@pytest.mark.usefixtures("keepalive")
def test_a_peer_that_answers_pings_stays(client: Client) -> None:
    client.pass_time(200)
    assert client.closed() == OPEN
    pings = [frame for frame in client.frames() if frame.opcode is Opcode.PING]
    assert 5 <= len(pings) <= 10


@pytest.mark.usefixtures("keepalive")
def test_a_peer_that_does_not_answer_is_closed_with_4002_and_aborted(mute: Client) -> None:
    mute.pass_time(28)
    assert [frame.opcode for frame in mute.frames()] == [Opcode.PING]
    assert mute.closed() == OPEN
    mute.pass_time(4)
    assert mute.closed() == (4002, "no pong")
    mute.pass_time(5)
    assert mute.transport.aborted


@pytest.mark.usefixtures("keepalive")
def test_any_received_byte_resets_the_silence_of_a_peer(mute: Client) -> None:
    """The pieces of a message that comes slowly count, too."""
    for byte in mask_frame(1, b"slow"):
        mute.pass_time(15)
        mute.transport.deliver(bytes([byte]))
    assert mute.frames() == []
    assert mute.server.messages == [(b"slow", False)]


@pytest.mark.usefixtures("keepalive")
def test_a_silent_peer_that_does_not_read_is_aborted(slow: Client) -> None:
    slow.pass_time(40)
    assert slow.transport.aborted
    assert not slow.transport.connected


# Tokens


def token(seconds: float) -> dict[str, str]:
    """The header of a token that expires so many seconds from now."""
    claims = {"exp": NOW + seconds, "sub": "ada"}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


def test_a_connection_is_closed_with_4005_when_its_token_and_the_leeway_have_expired(
    server: Server,
) -> None:
    client = server.connect(headers=token(0))  # 30 s of leeway
    assert client.server.identity.user == "ada"
    client.pass_time(29.5)
    assert client.closed() == OPEN
    client.pass_time(0.5)
    assert client.closed() == (4005, "token expired")
    assert client.server.calls == ["admit", "opened", "left"]


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_token_expires_by_the_wall_clock_however_that_is_set_meanwhile(
    server: Server, step: float
) -> None:
    client = server.connect(headers=token(7200))
    server.world.clock_step = step
    assert client.server.since == pytest.approx(NOW + step)
    client.pass_time(7200 + 30 - step - 1)
    assert client.closed() == OPEN
    client.pass_time(61)
    assert client.closed() == (4005, "token expired")


def test_a_token_that_expires_after_its_connection_does_nothing(server: Server) -> None:
    client = server.connect(headers=token(0))
    client.begin_close()
    client.pass_time(60)
    assert client.closed() == (1000, "")


# The end


def test_a_close_by_relayd_has_code_and_reason_and_follows_sent_frames(slow: Client) -> None:
    slow.server.send_payload(b'{"last":1}')
    slow.server.close(CloseCode.RESTART, "restart")
    slow.transport.read()
    assert slow.objects() == [{"last": 1}]
    assert slow.closed() == (1001, "restart")


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_an_error_frame_goes_before_the_close_with_a_private_code(
    client: Client, code: CloseCode
) -> None:
    """NativeWebSocket shows neither such a code nor its reason."""
    client.server.send_payload(b'{"last":1}')
    client.server.close(code)
    frames = client.frames()
    assert [frame.opcode for frame in frames] == [Opcode.TEXT, Opcode.TEXT, Opcode.CLOSE]
    assert code.error is not None
    assert json.loads(bytes(frames[1].data)) == {
        "error": code.error.value,
        "message": code.error.sentence,
    }
    assert client.closed() == (code, code.reason)


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (4999, "", {"error": "kicked", "message": ErrorCode.KICKED.sentence}),
        (4999, "moving house", {"error": "kicked", "message": "moving house"}),
        (4403, "forbidden", {"error": "forbidden", "message": "Not here."}),
    ],
)
def test_a_code_that_is_in_no_table_is_told_before_the_close_too(
    client: Client, code: int, reason: str, told: dict[str, str]
) -> None:
    client.server.close(code, reason, message=told["message"])
    assert client.objects() == [told]
    assert client.closed() == (code, reason)


@pytest.mark.parametrize("code", [code for code in CloseCode if code < 4000])
def test_no_frame_goes_before_a_close_with_a_code_of_the_rfc(
    client: Client, code: CloseCode
) -> None:
    client.server.close(code)
    assert client.payloads() == []


def test_one_that_reads_too_slowly_finds_whole_frames_then_the_error_then_the_close(
    slow: Client,
) -> None:
    """What the transport holds of a frame goes on; the error waits with the close behind it."""
    for number in range(100):
        slow.server.send_payload(b'{"n":%d,"filler":"' % number + b"x" * 980 + b'"}')
    slow.transport.read()
    texts = [frame.data for frame in slow.frames() if frame.opcode is Opcode.TEXT]
    assert [json.loads(bytes(text))["error"] for text in texts] == ["too_slow"]
    assert slow.closed() == (4003, "too slow")


def test_the_error_before_a_close_does_not_extend_the_time_of_one_that_does_not_read(
    slow: Client,
) -> None:
    slow.server.send_payload(b"x" * LIMIT)
    slow.pass_time(5)
    assert not slow.transport.connected


@pytest.mark.parametrize(
    ("config", "code"),
    [(Config(), 1001), (Config(server=settings.Server(restart_code=1012)), 1012)],
)
def test_a_restart_closes_with_1001_or_the_configured_code(server: Server, code: int) -> None:
    client = server.connect()
    client.server.close(CloseCode.RESTART)
    assert client.closed() == (code, "restart")


def test_an_operator_may_close_with_1001_whatever_a_restart_has(client: Client) -> None:
    client.server.close(1001, "moving house")
    assert client.closed() == (1001, "moving house")


def test_a_reason_that_is_too_long_is_cut(client: Client) -> None:
    """RFC 6455 section 5.5: a control frame has at most 125 bytes, and a reason is UTF-8."""
    client.server.close(CloseCode.NORMAL, "é" * 100)
    code, reason = client.closed()
    assert code == 1000
    assert reason == "é" * 61


def test_an_answered_close_by_relayd_ends_the_connection(client: Client) -> None:
    client.server.close(CloseCode.REPLACED, "replaced")
    assert client.closed() == (4001, "replaced")
    assert not client.transport.connected


def test_an_unanswered_close_by_relayd_aborts_the_connection(mute: Client) -> None:
    mute.server.close(CloseCode.REPLACED, "replaced")
    mute.pass_time(4.5)
    assert mute.transport.connected
    mute.pass_time(0.5)
    assert mute.transport.aborted
    assert not mute.transport.connected


def test_a_peer_that_closes_and_does_not_read_is_aborted(slow: Client) -> None:
    slow.begin_close()
    slow.pass_time(4.5)
    assert slow.transport.connected
    slow.pass_time(0.5)
    assert slow.transport.aborted
    assert not slow.transport.connected


def test_closing_twice_closes_once_and_does_not_extend_the_deadline(mute: Client) -> None:
    mute.server.close(CloseCode.REPLACED, "replaced")
    mute.pass_time(3)
    mute.server.close(CloseCode.RESTART, "restart")
    assert mute.closed() == (4001, "replaced")
    mute.pass_time(2)
    assert mute.transport.aborted


def test_violations_do_not_extend_the_deadline_of_a_close(slow: Client) -> None:
    slow.server.close(CloseCode.REPLACED, "replaced")
    slow.pass_time(4)
    slow.transport.deliver(b"\xff\xff")
    slow.pass_time(1)
    assert not slow.transport.connected


def test_no_message_is_received_or_sent_after_a_close_by_relayd(mute: Client) -> None:
    mute.server.close(CloseCode.NORMAL)
    mute.send("late")
    mute.server.send_payload(b"late")
    assert mute.server.messages == []
    assert mute.payloads() == []


def test_messages_behind_a_close_in_the_same_segment_are_not_received(client: Client) -> None:
    close = mask_frame(8, b"\x03\xe8")
    client.transport.deliver(mask_frame(1, b"one") + close + mask_frame(1, b"two"))
    client.pump()
    assert client.server.messages == [(b"one", False)]


def test_a_relay_that_closes_while_it_receives_gets_no_further_message(
    server: Server, mute: Client
) -> None:
    server.factory.on_received = lambda relay, payload: relay.close(CloseCode.NORMAL)
    mute.transport.deliver(mask_frame(1, b"one") + mask_frame(1, b"two"))
    assert mute.server.messages == [(b"one", False)]


def test_a_relay_may_close_while_it_opens(server: Server) -> None:
    server.factory.on_opened = lambda relay: relay.close(CloseCode.REPLACED, "replaced")
    client = server.connect(behind=mask_frame(1, b"x"))
    assert client.closed() == (4001, "replaced")
    assert client.server.calls == ["admit", "opened", "left"]
    assert client.server.messages == []


def fall_behind(client: Client) -> None:
    client.transport.peer_reads = False
    client.server.send(b"." * BUFFER * 2)
    client.server.send(b"." * LIMIT * 2)


def close_both(client: Client) -> None:
    client.server.close(CloseCode.NORMAL)
    client.begin_close()


def close_and_reset(client: Client) -> None:
    client.server.close(CloseCode.NORMAL)
    client.transport.reset()


def close_and_abort(client: Client) -> None:
    client.server.close(CloseCode.NORMAL)
    client.server.abort()
    client.server.abort()


ENDS: dict[str, Callable[[Client], object]] = {
    "the peer closes": Client.begin_close,
    "we close": lambda client: client.server.close(CloseCode.NORMAL),
    "we abort": lambda client: client.server.abort(),
    "the peer is gone without a close": lambda client: client.transport.end(),
    "a reset": lambda client: client.transport.reset(),
    "a violation": lambda client: client.transport.deliver(b"\xff\xff"),
    "text that is not UTF-8": lambda client: client.transport.deliver(mask_frame(1, b"\xff")),
    "no pong": lambda client: client.server.close_silent(),
    "too slow": fall_behind,
    "both close": close_both,
    "we close, then a reset": close_and_reset,
    "we close, then abort": close_and_abort,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("answers", [True, False])
def test_a_relay_is_left_once_and_no_state_remains_after_any_end_of_its_connection(
    server: Server, end: str, answers: bool
) -> None:
    client = server.connect(answers=answers, headers=token(1000))
    ENDS[end](client)
    client.pass_time(10)
    assert not client.transport.connected
    assert client.server.calls == ["admit", "opened", "left"]
    assert len(server.world.context.connections) == 0
    assert server.world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("end", ENDS)
def test_a_relay_that_sends_and_closes_while_it_leaves_does_no_harm(
    server: Server, end: str
) -> None:
    def say_goodbye(relay: FakeRelay) -> None:
        relay.send_payload(b"bye")
        relay.close(CloseCode.NORMAL)
        relay.release(1)

    server.factory.on_left = say_goodbye
    client = server.connect()
    ENDS[end](client)
    client.pass_time(10)
    assert client.server.calls == ["admit", "opened", "left"]
    assert client.payloads() in ([], [b"bye"])  # it gets that where it still can
