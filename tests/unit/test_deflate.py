"""permessage-deflate (RFC 7692): what is agreed, and frames in both directions."""

import gc
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from relayd.config import Config, Echo, Limits, Server
from relayd.connection.deflate import TooBigError, agree, inflate
from relayd.drops import Drops
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.native.framing import binary_frame, deflated, read_frames, text_frame
from relayd.relays.echo import EchoFactory
from relayd.sockets.outbox import build_outbox
from relayd.wire import add_sender
from tests.frames import PING, TEXT, frame
from tests.unit.fakes import Client, Transport, World, make_world
from tests.unit.opening_ways import OFFERED, Ways, head
from tests.unit.receive_paths import DEFLATE, packed_of

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LONG = b'{"message":"' + b"what is said again and again, " * 20 + b'"}'
SIZE = 1000
BOMB = packed_of(bytes(900_000))
CONFIG = Config(
    server=Server(deflate=True),
    echo=Echo(enabled=True, max_message_size=SIZE),
    limits=Limits(max_message_size=SIZE),
)


def offers(value: str) -> list[tuple[str, dict[str, list[Any]]]]:
    """The offers in a header, as Autobahn reads them."""
    found = []
    for offer in value.split(","):
        name, *params = (word.strip() for word in offer.split(";"))
        values: dict[str, list[Any]] = {}
        for param in params:
            key, sign, text = param.partition("=")
            values.setdefault(key, []).append(text if sign else True)
        found.append((name, values))
    return found


# -- what is agreed


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; unknown, permessage-deflate",
        "permessage-deflate; server_max_window_bits=16, permessage-deflate; client_max_window_bits",
    ],
)
def test_both_parameters_are_answered_and_nothing_else(offer: str) -> None:
    agreed = agree(offers(offer))
    assert agreed == (BOTH, True)


@pytest.mark.parametrize("bits", [9, 15])
def test_a_client_with_a_small_window_gets_it_back_and_frames_that_are_not_compressed(
    bits: int,
) -> None:
    agreed = agree(offers(f"permessage-deflate; server_max_window_bits={bits}"))
    assert agreed == (f"{BOTH}; server_max_window_bits={bits}", False)


@pytest.mark.parametrize(
    "offer",
    [
        "x-webkit-deflate-frame",
        "permessage-bzip2",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
    ],
)
def test_an_offer_that_is_not_understood_is_declined(offer: str) -> None:
    assert agree(offers(offer)) is None


@pytest.mark.parametrize("end", ["", "wait"])
def test_both_ways_through_the_handshake_agree_on_the_extension(end: str) -> None:
    ways = Ways(deflate=True)
    answers = set()
    for offer in OFFERED:
        line = b"Sec-WebSocket-Extensions: " + offer
        compressed = frame(TEXT, packed_of(LONG), rsv=DEFLATE)
        stream = head(b"GET /ws/camera HTTP/1.1", line) + compressed
        usual = ways.check(stream, (), end)
        answers.add(usual.extension)
    assert {"", BOTH} < answers


# -- received


def test_a_message_is_inflated_up_to_its_bound_and_no_further() -> None:
    assert inflate(packed_of(b"a" * 1000), 1000) == b"a" * 1000
    for bomb in (b"a" * 1001, bytes(2_000_000)):
        with pytest.raises(TooBigError):
            inflate(packed_of(bomb), 1000)


def test_a_bomb_takes_no_more_memory_than_a_few_times_its_bound() -> None:
    packed = packed_of(bytes(5_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooBigError):
            inflate(packed, 65536)
        assert tracemalloc.get_traced_memory()[1] < 4 * 65536 + len(packed)
    finally:
        tracemalloc.stop()


def final(payload: bytes) -> bytes:
    """Compressed with a final block (RFC 7692 section 7.2.3.4)."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(payload) + stream.flush()


def test_nothing_but_an_empty_block_may_follow_a_final_one() -> None:
    assert inflate(final(b"Hello") + b"\0", 100) == b"Hello"
    assert inflate(final(b"Hello"), 100) == b"Hello"
    with pytest.raises(zlib.error):
        inflate(final(b"Hello") + packed_of(b"more"), 100)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bounded_message_or_an_error(data: bytes) -> None:
    try:
        assert len(inflate(data, 500)) <= 500
    except (TooBigError, zlib.error):
        return


@pytest.fixture
def world() -> Iterator[World]:
    with make_world(CONFIG) as (world, _):
        yield world


class Peer:
    """A client of the echo path, with the extension of `websockets`.

    Attributes:
        answer: the answer to its handshake.
    """

    def __init__(self, world: World, offer: str = "permessage-deflate") -> None:
        self._clock = world.clock
        self.transport = Transport(world.clock)
        server: Any = EchoFactory(world.context).buildProtocol(self.transport.getPeer())
        self.transport.protocol = server
        server.makeConnection(self.transport)
        world.clients.append(self)  # type: ignore[arg-type]
        line = f"Sec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
        self.transport.deliver(Client.head_for("/ws/echo")[:-2] + line)
        self.answer, self.transport.arrived = self.transport.arrived, b""
        self.theirs = PerMessageDeflate(True, True, 15, 15)

    def deliver(self, *frames: bytes) -> list[Frame]:
        """Sends these; returns what comes back, inflated."""
        self.transport.deliver(b"".join(frames))
        self._clock.advance(0)
        data, self.transport.arrived = self.transport.arrived, b""
        stream = StreamReader()
        stream.feed_data(data)
        found = []
        while stream.buffer:
            extensions = [self.theirs] if stream.buffer[0] & 0x40 else []
            parsing = Frame.parse(stream.read_exact, mask=False, extensions=extensions)
            with pytest.raises(StopIteration) as end:
                next(parsing)
            found.append(end.value.value)
        return found


def test_a_message_that_another_implementation_compressed_comes_back_to_it(world: World) -> None:
    peer = Peer(world)
    assert f"\r\nSec-WebSocket-Extensions: {BOTH}\r\n".encode() in peer.answer
    for payload in (LONG, b"short", b"", b"x" * 200):
        sent = peer.theirs.encode(Frame(Opcode.TEXT, payload))
        [got] = peer.deliver(frame(TEXT, bytes(sent.data), rsv=DEFLATE))
        assert bytes(got.data) == payload


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(TEXT, packed_of(b"a" * (SIZE + 1)), rsv=DEFLATE)], 1009),
        ([frame(TEXT, BOMB[:500], rsv=DEFLATE, fin=False), frame(0, BOMB[500:])], 1009),
        ([frame(TEXT, b"\xff\xff\xff", rsv=DEFLATE)], 1007),
        ([frame(TEXT, packed_of(b"\xff"), rsv=DEFLATE)], 1007),
        ([frame(PING, b"", rsv=DEFLATE)], 1002),
        ([frame(TEXT, packed_of(LONG), rsv=DEFLATE, fin=False), frame(0, b"", rsv=DEFLATE)], 1002),
        ([frame(TEXT, b"", rsv=2)], 1002),
    ],
    ids=["too big", "in fragments", "no data", "no UTF-8", "a ping", "a continuation", "RSV2"],
)  # fmt: skip
def test_a_compressed_message_that_must_not_be_sent_closes_its_connection(
    world: World, frames: list[bytes], code: int
) -> None:
    [close] = Peer(world).deliver(*frames)
    assert close.opcode is Opcode.CLOSE
    assert int.from_bytes(bytes(close.data[:2])) == code


def test_without_the_setting_no_extension_is_answered() -> None:
    with make_world(Config(echo=Echo(enabled=True))) as (world, _):
        peer = Peer(world)
        assert peer.answer.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Extensions" not in peer.answer
        [close] = peer.deliver(frame(TEXT, packed_of(LONG), rsv=DEFLATE))
        assert int.from_bytes(bytes(close.data[:2])) == 1002


def test_an_idle_connection_keeps_no_window(world: World) -> None:
    """It grows by less than 1 KB, whatever it has received and sent."""

    def grown(offer: str, packed: bool) -> int:
        peers = [Peer(world, offer) for _ in range(4)]
        for peer in peers:
            peer.deliver(frame(TEXT, b"first", fin=False), frame(0, b""))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        payload = packed_of(LONG) if packed else LONG
        for peer in peers:
            peer.deliver(frame(TEXT, payload, rsv=DEFLATE if packed else 0))
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) // len(peers)

    tracemalloc.start()
    try:
        plain = grown("x", False)
        assert grown("permessage-deflate", True) - plain < 1000
    finally:
        tracemalloc.stop()


# -- sent


@pytest.mark.parametrize("write", [text_frame, binary_frame])
@pytest.mark.parametrize("length", [126, 127, 1000, 65_535, 65_536, 100_000])
def test_a_compressed_frame_is_read_by_another_implementation(write: Any, length: int) -> None:
    payload = (b"what is said again and again, " * 4000)[:length]
    packed = deflated(write(payload))
    assert len(packed) < length
    [(opcode, inflated)] = read_frames(packed)
    assert inflated == payload
    assert opcode == (1 if write is text_frame else 2)
    assert packed[0] & 0x40


def test_a_frame_that_would_not_become_shorter_is_left_as_it_is() -> None:
    noise = binary_frame(bytes(zlib.crc32(b"%d" % n) & 0xFF for n in range(300)))
    for each in (text_frame(b"x" * 125), text_frame(b""), noise):
        assert deflated(each) is each


class Box:
    """An outbox in memory."""

    def __init__(self, clock: Clock, deflates: bool, labelled: bool = False) -> None:
        self.transport = Transport(clock)
        self.outbox = build_outbox(self.transport, 1_000_000, lambda: None, Drops())
        self.outbox.deflates = deflates
        self.outbox.labelled = labelled

    @property
    def arrived(self) -> bytes:
        arrived, self.transport.arrived = self.transport.arrived, b""
        return arrived


def test_a_group_compresses_a_payload_for_those_members_that_agreed_on_it() -> None:
    clock = Clock()
    hub = Hub(Batching(clock, 0))
    boxes = [Box(clock, number % 2 == 1) for number in range(6)]
    for box in boxes:
        hub.join("chat/a", box.outbox)
    publish = hub.publisher("chat/a", 7)
    assert hub.size("chat/a") == 6
    assert publish(LONG) == 6
    assert {box.arrived for box in boxes[::2]} == {text_frame(LONG)}
    assert {box.arrived for box in boxes[1::2]} == {deflated(text_frame(LONG))}
    assert hub.delivered == 6
    for box in boxes[::2]:
        hub.leave("chat/a", box.outbox)
    assert publish(LONG) == hub.size("chat/a") == 3
    for box in boxes[1::2]:
        hub.leave("chat/a", box.outbox)
    assert "chat/a" not in list(hub)
    assert publish(LONG) == 0


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=40), st.booleans())
def test_every_member_gets_every_payload_in_its_order_compressed_or_not_named_or_not(
    steps: list[tuple[int, int]], batches: bool
) -> None:
    """Members come, go and catch up while payloads are published."""
    clock = Clock()
    hub = Hub(Batching(clock, 0.005 if batches else 0, 1.0))
    boxes = [Box(clock, number % 2 == 1, number >= 4) for number in range(8)]
    expected: list[list[bytes]] = [[] for _ in boxes]
    inside: set[int] = set()
    got: list[list[bytes]] = [[] for _ in boxes]
    for number, (what, which) in enumerate(steps):
        if what == 0:
            hub.join("g", boxes[which].outbox)
            inside.add(which)
        elif what == 1:
            hub.leave("g", boxes[which].outbox)
            inside.discard(which)
        elif what == 2:
            hub.catch_up("g", boxes[which].outbox)
        else:
            payload = b'{"long":"%b","number":%d}' % (LONG, number)
            assert hub.fan_out("g", payload) == hub.size("g") == len(inside)
            for each in inside:
                named = add_sender(payload, None)
                expected[each].append(named if boxes[each].outbox.labelled else payload)
        if which == 3:
            clock.advance(0.003)
    clock.advance(1)
    clock.advance(1)
    for box, payloads in zip(boxes, got, strict=True):
        payloads += [payload for _, payload in read_frames(box.arrived)]
    assert got == expected
