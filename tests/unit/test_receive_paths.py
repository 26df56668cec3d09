"""The two receive paths of a connection have the same effect for every input (RFC 6455).

One connection reads as it is: small whole text frames by `native.reading.Inlet`, the rest by
Autobahn. The other one has Autobahn's parser alone. Both get the same bytes, cut at the same
places, and everything that can be seen of them is compared, in its order.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd.config import Config, Keepalive, Limits
from relayd.connection import websocket
from relayd.connection.handshake import Handshake
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ClientError, CloseCode, ErrorCode
from relayd.names import Place
from relayd.native.framing import binary_frame, text_frame
from relayd.relays.paths import KINDS
from tests.frames import BINARY, CLOSE, MASK, PING, PONG, TEXT, frame
from tests.unit.fakes import Client, Transport, World

CLOSE_TIMEOUT = 5
HEAD = Client.head_for("/ws/test")
DEFLATE = 4
"""The first reserved bit, which permessage-deflate (RFC 7692) would set."""
ZERO, SOME = b"\0\0\0\0", MASK
MASKS = (ZERO, SOME, b"\xff\xff\xff\xff", b"\0\0\0\1")

# what the relay of this test does with a message that begins so
RAISE, REFUSE, SHUT, ABORT, PAUSE, HOLD, SILENT = (b"%c" % byte for byte in b"R!XAPHS")


class Seen(Transport):
    """Notes what is done with it, in the list of its connection."""

    def __init__(self, clock: Clock, events: list[tuple[Any, ...]]) -> None:
        super().__init__(clock)
        self._events = events

    def write(self, data: bytes) -> None:
        self._events.append(("write", data))

    def loseConnection(self) -> None:
        self._events.append(("lose",))
        super().loseConnection()

    def abortConnection(self) -> None:
        self._events.append(("abort",))
        super().abortConnection()

    def pauseProducing(self) -> None:
        self._events.append(("pause",))
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._events.append(("resume",))
        super().resumeProducing()


class Relay(RelayProtocol):
    """Notes what it is called with; echoes, or does what the message says."""

    entry = KINDS["camera"]
    events: list[tuple[Any, ...]]
    held: list[int]

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        self.held = []

    def received(self, payload: bytes, is_binary: bool) -> None:
        self.events.append(("message", payload, is_binary, self.heard))
        what = payload[:1]
        if what == RAISE:
            raise RuntimeError("a bug")
        if what == REFUSE:
            raise ClientError(ErrorCode.BAD_JSON, "No.")
        if what == SHUT:
            self.close(CloseCode.RATE_LIMIT, "enough")
        elif what == ABORT:
            self.abort()
        elif what == PAUSE and self._reading:
            self.pause_reading()
        elif what == HOLD:
            self.held.append(len(payload))
            self.hold(len(payload))
        elif what != SILENT:
            self.send(binary_frame(payload) if is_binary else text_frame(payload))

    def go_on(self) -> None:
        """Lets go of what is held, and reads again."""
        while self.held:
            self.release(self.held.pop())
        if not self._reading:
            self.resume_reading()

    def fail(self, what: str, failure: Failure | None = None) -> None:
        self.events.append(("failed", what))
        super().fail(what, failure)

    def left(self) -> None:
        self.events.append(("left",))


class Slow(Relay):
    """Reads with Autobahn's parser alone."""

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
        Handshake.dataReceived(self, data)


class Factory(RelayFactory):
    """Builds connections of one of the two."""

    def __init__(self, world: World, protocol: type[Relay]) -> None:
        super().__init__(world.context)
        self.protocol = protocol


class Side:
    """One way to read, in a world of its own: opens a connection, feeds it, says what was seen."""

    def __init__(self, limits: Limits, protocol: type[Relay]) -> None:
        keepalive = Keepalive(close_timeout=CLOSE_TIMEOUT)
        self._world = World(Config(limits=limits, keepalive=keepalive))
        self._factory = Factory(self._world, protocol)

    def run(self, segments: Sequence[bytes], resume_every: int) -> list[tuple[Any, ...]]:
        """What can be seen of one connection that gets these segments.

        Args:
            segments: what the reactor reads at once, or more of it if reading was paused.
            resume_every: after so many segments the relay reads again; 0 for at the end.
        """
        clock, events = self._world.clock, list[tuple[Any, ...]]()
        transport = Seen(clock, events)
        relay: Any = self._factory.buildProtocol(transport.getPeer())
        relay.events = events
        transport.protocol = relay
        relay.makeConnection(transport)
        transport.deliver(HEAD)
        assert relay.state == relay.STATE_OPEN
        del events[:]
        for number, segment in enumerate(segments, 1):
            # keepalive clears it from time to time
            relay.heard = False
            transport.deliver(segment)
            events.append(("read", self._state(relay)))
            if resume_every and number % resume_every == 0:
                relay.go_on()
            clock.advance(0)
        relay.go_on()
        clock.advance(0)
        events.append(("end", self._state(relay), transport.connected, transport.reading))
        clock.advance(CLOSE_TIMEOUT)
        clock.advance(0)
        events.append(("late", self._state(relay), transport.connected))
        transport.end()
        assert clock.getDelayedCalls() == []
        assert len(self._world.context.connections) == 0
        return events

    @staticmethod
    def _state(relay: Any) -> tuple[Any, ...]:
        """What the rest of the stream depends on."""
        frame = relay.current_frame
        return (
            relay.state,
            relay.heard,
            relay._reading,
            relay.wasClean,
            relay.failedByMe,
            relay.localCloseCode,
            relay.localCloseReason,
            relay.remoteCloseCode,
            relay.remoteCloseReason,
            # nothing that comes after the end is looked at
            relay.state != relay.STATE_CLOSED
            and (
                relay.data,
                relay.inside_message,
                frame and (frame.opcode, frame.fin, frame.rsv, frame.length, frame.mask),
            ),
        )


class Pair:
    """Both ways to read, under the same limits."""

    def __init__(self, size: int, rate: float = 0) -> None:
        limits = Limits(
            max_message_size=size, messages_per_second=rate, max_waiting=3, send_buffer=500
        )
        self._short = Side(limits, Relay)
        self._long = Side(limits, Slow)

    def check(self, segments: Sequence[bytes], resume_every: int = 0) -> list[tuple[Any, ...]]:
        """Compares them; returns what both did."""
        short = self._short.run(segments, resume_every)
        assert short == self._long.run(segments, resume_every)
        return short


def close(code: int, reason: bytes = b"") -> bytes:
    """The payload of a CLOSE."""
    return code.to_bytes(2) + reason


# -- what streams are made of

UNICODE = "aé€𝄞".encode()
INVALID = (
    b"\xff",
    b"\xc3",
    b"ab\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"a\x80b",
)
WORDS = (b"", b"a", b"hello", b"{}", UNICODE, b" ", b"\0")
DEEDS = tuple(
    deed + rest
    for deed in (RAISE, REFUSE, SHUT, ABORT, PAUSE, HOLD, SILENT)
    for rest in (b"", b"x" * 60)
)
EDGES = tuple(b"e" * length for length in (1, 4, 99, 100, 101, 123, 124, 125, 126, 127, 128, 300))
# 125 bytes that end within or just behind a code point
EDGES += (b"e" * 123 + b"\xc3\xa9", b"e" * 124 + b"\xc3", b"e" * 122 + b"\xe2\x82\xac")
PAYLOADS = (*WORDS, *WORDS, *DEEDS, *EDGES, *INVALID)

WELL_MADE = tuple(frame(TEXT, payload, mask=mask) for mask in MASKS for payload in PAYLOADS)
SPLIT = tuple(
    frame(TEXT, payload[:at], fin=False) + between + frame(0, payload[at:])
    for payload in (UNICODE, b"", *INVALID, *DEEDS[::2])
    for at in range(min(4, len(payload) + 1))
    for between in (b"", frame(PING, b"in"), frame(TEXT, b"wrong"), frame(0, b"", fin=False))
)
CONTROL = tuple(
    frame(opcode, payload, mask=mask)
    for opcode in (PING, PONG)
    for payload in (b"", b"ping", b"\xff", b"p" * 125)
    for mask in MASKS[:2]
)
BROKEN = (
    *(frame(opcode, b"data") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *(frame(opcode, b"data", rsv=rsv) for opcode in (TEXT, BINARY, PING) for rsv in (1, 2, 4, 7)),
    # what deflate makes of "Hello" (RFC 7692 section 7.2.3.1)
    frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=DEFLATE),
    frame(TEXT, b"\xf2\x48\xcd", rsv=DEFLATE, fin=False) + frame(0, b"\xc9\xc9\x07\x00"),
    *(frame(opcode, b"bare", mask=None) for opcode in (TEXT, BINARY, PING, CLOSE)),
    frame(TEXT, b"", mask=None),
    frame(TEXT, b"b" * 125, mask=None),
    frame(0, b"lost"),
    frame(0, b"lost", fin=False),
    frame(PING, b"part", fin=False),
    frame(PING, b"p" * 126),
    *(frame(TEXT, b"n" * length, header=126) for length in (0, 1, 125)),
    *(frame(TEXT, b"n" * length, header=127) for length in (0, 125, 126)),
    b"\x81\xff\x80" + bytes(11),
    b"\x81\xff\x7f" + b"\xff" * 7 + SOME + b"endless",
)
CLOSES = tuple(
    frame(CLOSE, payload)
    for payload in (
        b"",
        b"\x03",
        *map(
            close, (0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1015, 2999, 3000, 4999, 5000)
        ),
        close(1000, UNICODE),
        close(1000, b"\xff"),
        close(1000, b"r" * 123),
    )
)
BINARIES = tuple(frame(BINARY, payload) for payload in (b"", b"\xff\0", *DEEDS[::2], b"b" * 126))

# most of a stream is harmless, so that what is not comes upon an open connection
harmless = st.sampled_from(
    tuple(
        frame(TEXT, payload, mask=mask)
        for mask in MASKS
        for payload in (*WORDS, RAISE, REFUSE, PAUSE, HOLD, SILENT, SILENT + b"x" * 99)
    )
)
whole = st.sampled_from(WELL_MADE)
made = st.builds(
    frame,
    st.sampled_from((TEXT, TEXT, TEXT, 0, BINARY, PING, PONG, CLOSE, 3)),
    st.one_of(
        st.sampled_from(PAYLOADS), st.binary(max_size=12), st.text(max_size=8).map(str.encode)
    ),
    fin=st.sampled_from((True, True, True, False)),
    rsv=st.sampled_from((0, 0, 0, 0, 0, 0, 0, DEFLATE)),
    mask=st.one_of(st.sampled_from(MASKS), st.binary(min_size=4, max_size=4), st.just(None)),
)
unusual = st.sampled_from(SPLIT + CONTROL + BROKEN + CLOSES + BINARIES)
pieces = st.one_of(harmless, harmless, harmless, whole, unusual, made)
streams = st.lists(pieces, min_size=1, max_size=8).map(b"".join)
damages = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    # lets the stream end in the middle of a frame, or changes a byte somewhere
    st.tuples(st.integers(0, 400), st.none() | st.integers(0, 255)),
)
places: st.SearchStrategy[list[int]] = st.lists(st.integers(0, 400), max_size=6)
cuts = st.one_of(places, places, places, places, places, st.none())

SIZES = (1000, 1000, 1000, 125, 124, 100, 4)
PAIRS = [Pair(size) for size in SIZES] + [Pair(1000, rate=1), Pair(125, rate=0.5)]
pairs = st.sampled_from(PAIRS)


def damaged(stream: bytes, damage: tuple[int, int | None] | None) -> bytes:
    """A stream that ends too early or has a wrong byte."""
    if damage is None:
        return stream
    at, byte = damage
    at %= len(stream)
    return stream[:at] if byte is None else stream[:at] + bytes([byte]) + stream[at + 1 :]


def cut(stream: bytes, places: Sequence[int] | None) -> list[bytes]:
    """The stream in segments, cut at these places, or everywhere."""
    if places is None:
        return [stream[at : at + 1] for at in range(len(stream))]
    within = sorted({place % (len(stream) + 1) for place in places})
    return [stream[a:b] for a, b in itertools.pairwise((0, *within, len(stream))) if a != b]


steady = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@settings(steady, max_examples=10_000)
@given(pairs, streams, damages, cuts, st.integers(0, 3))
def test_both_paths_have_the_same_effect(
    pair: Pair,
    stream: bytes,
    damage: tuple[int, int | None] | None,
    places: list[int] | None,
    resume_every: int,
) -> None:
    pair.check(cut(damaged(stream, damage), places), resume_every)


@settings(steady, max_examples=300)
@given(
    st.sampled_from((TEXT, TEXT, BINARY)),
    st.sampled_from((125, 126, 127, 65_535, 65_536)),
    st.sampled_from((0, 126, 127)),
    st.sampled_from(MASKS),
    st.sampled_from((b"", UNICODE, b"\xff", b"\xc3")),
    st.sampled_from((Pair(65_535), Pair(65_536), Pair(1 << 20))),
    st.lists(
        st.one_of(st.integers(0, 16), st.integers(-16, 0), st.integers(0, 65_536)), max_size=5
    ),
)
def test_so_have_they_for_long_frames_between_short_ones(
    opcode: int, length: int, header: int, mask: bytes, last: bytes, pair: Pair, places: list[int]
) -> None:
    short = frame(TEXT, b"short", mask=mask)
    payload = b"l" * (length - len(last)) + last
    stream = short + frame(opcode, payload, mask=mask, header=header) + short
    pair.check(cut(stream, places))


def test_so_have_they_for_every_piece_cut_at_every_place() -> None:
    """Every kind of frame between two short ones, in two segments."""
    [pair, *_] = PAIRS
    short = frame(TEXT, b"hi")
    for piece in dict.fromkeys((*WELL_MADE[::4], *SPLIT[::3], *CONTROL, *BROKEN, *CLOSES)):
        stream = (short + piece + short)[:50]
        for at in range(len(stream)):
            pair.check(cut(stream, [at]))


@pytest.mark.parametrize("size", [1000, 1001, 4096, 1 << 20])
@pytest.mark.parametrize("first", [b"", frame(PING, b""), frame(TEXT, b"l" * 5000)])
def test_what_is_unusual_sends_little_else_the_long_way(first: bytes, size: int) -> None:
    """A client that is ahead of us fills every read, and each ends within a frame."""
    parsed: list[int] = []

    class Counting(Relay):
        def parse(self, data: bytes) -> None:
            parsed.append(len(data))
            super().parse(data)

    stream = first + b"".join(frame(TEXT, SILENT + b"x" * (number % 100)) for number in range(500))
    segments = [stream[at : at + size] for at in range(0, len(stream), size)]
    events = Side(Limits(), Counting).run(segments, 0)
    assert [len(event[1]) for event in events if event[0] == "message"][-500:] == [
        1 + number % 100 for number in range(500)
    ]
    # of the frame at each cut the begin, the rest of its head and the rest
    [_head, *parsed] = parsed
    assert sum(parsed) <= len(first) + 512 + 106 * len(segments)
    assert len(parsed) <= 3 + 3 * len(segments)


def kinds(events: list[tuple[Any, ...]]) -> list[str]:
    return [event[0] for event in events if event[0] not in ("read", "end", "late")]


ANSWERED = ["message", "write"]
# what was sent to its groups before comes before the CLOSE
CLOSED = ["left", "write"]
A, B = frame(TEXT, b"a"), frame(TEXT, b"b")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (A + B, [*ANSWERED, *ANSWERED, "left"]),
        (frame(TEXT, RAISE) + B, ["message", "failed", "write", *ANSWERED, "left"]),
        (frame(TEXT, REFUSE) + B, [*ANSWERED, *ANSWERED, "left"]),
        (frame(TEXT, SHUT) + B, ["message", *CLOSED, "abort"]),
        (frame(TEXT, ABORT) + B, ["message", "abort", *ANSWERED, "left"]),
        (frame(TEXT, PAUSE) + B, ["message", "pause", *ANSWERED, "resume", "left"]),
        (frame(TEXT, HOLD) * 3, ["message", "message", "message", "pause", "resume", "left"]),
        (frame(TEXT, b"\xff") + B, [*CLOSED, "abort"]),
        (frame(TEXT, b"a", mask=None) + B, [*CLOSED, "abort"]),
        (frame(CLOSE, b"") + B, [*CLOSED, "lose"]),
    ],
)
def test_what_is_compared_is_what_happens(stream: bytes, expected: list[str]) -> None:
    """The comparison is worth something: messages, answers and the end are in it."""
    assert kinds(PAIRS[0].check([stream])) == expected


Reader = Callable[[bytes, int, int], tuple[bytes, int] | None]


def unmasked(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes an unmasked frame for a good one."""
    if len(data) > at + 1 and data[at] == 0x81 and data[at + 1] <= longest:
        end = at + 2 + data[at + 1]
        return (data[at + 2 : end], end) if end <= len(data) else None
    return real(data, at, longest)


def unchecked(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes anything for UTF-8."""
    length = data[at + 1] & 0x7F if len(data) > at + 6 else 126
    end = at + 6 + length
    if data[at : at + 1] != b"\x81" or data[at + 1] < 0x80 or length > longest or end > len(data):
        return None
    mask = data[at + 2 : at + 6] * 32
    return bytes(a ^ b for a, b in zip(data[at + 6 : end], mask, strict=False)), end


def too_short(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Does not wait for the last byte."""
    return real(data, at, longest) or real(data + b"\0", at, longest)


def too_long(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes what is longer than a message may be."""
    return real(data, at, 125)


def continued(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes the first fragment for the whole."""
    if data[at] == 0x01:
        return real(data[:at] + b"\x81" + data[at + 1 :], at, longest)
    return real(data, at, longest)


def reserved(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Does not look at the reserved bits."""
    if data[at] == 0xC1:
        return real(data[:at] + b"\x81" + data[at + 1 :], at, longest)
    return real(data, at, longest)


def right(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """What the compiled reader does, in plain Python."""
    start = at + 6
    if len(data) < start or data[at] != 0x81:
        return None
    length = data[at + 1] - 0x80
    end = start + length
    if not 0 <= length <= longest or len(data) < end:
        return None
    mask = data[at + 2 : start] * 32
    payload = bytes(a ^ b for a, b in zip(data[start:end], mask, strict=False))
    try:
        payload.decode()
    except UnicodeDecodeError:
        return None
    return payload, end


real: Reader = right


class PlainInlet:
    """`native.reading.Inlet` in plain Python, with a reader that can be another one."""

    def __init__(self, read: Reader, owner: Relay) -> None:
        self._read = read
        self.owner = owner
        self.take: Any = None
        self.longest = self.taken = self.missing = 0
        self.short = False
        self.heard = True

    def feed(self, data: bytes) -> None:
        self.heard = True
        at = 0
        while at < len(data):
            found = self._read(data, at, self.longest) if self.short else None
            if found is None:
                end = min(len(data), at + (self.missing or 512)) if self.longest else len(data)
                self.missing = 0
                self.owner.parse(data[at:end])
                at = end
                continue
            payload, at = found
            self.taken += 1
            try:
                self.take(payload, False)
            except Exception:
                self.owner.failed()


@pytest.fixture
def steps() -> list[tuple[Pair, list[bytes]]]:
    """A few hundred streams: each piece, a short one behind it, whole and cut once."""
    short = frame(TEXT, b"hi")
    return [
        (pair, cut(piece + short, places))
        for pair in (PAIRS[0], PAIRS[4])
        for piece in (*WELL_MADE, *SPLIT, *BROKEN)
        for places in ([], [len(piece) - 1])
    ]


@pytest.mark.parametrize("wrong", [unmasked, unchecked, too_short, too_long, continued, reserved])
def test_a_wrong_short_path_is_found(
    wrong: Reader, steps: list[tuple[Pair, list[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "Inlet", functools.partial(PlainInlet, wrong))

    def find() -> None:
        for pair, segments in steps:
            pair.check(segments)

    with pytest.raises((AssertionError, IndexError)):
        find()


def test_the_reader_in_plain_python_is_as_right(
    steps: list[tuple[Pair, list[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is found above is found because of the reader."""
    monkeypatch.setattr(websocket, "Inlet", functools.partial(PlainInlet, right))
    for pair, segments in steps:
        pair.check(segments)
