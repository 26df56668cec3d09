"""Shared by the tests of the two receive paths: both ways to read, and the parts of streams.

One connection reads as it is: small whole text frames by `native.inlet.Inlet`, the rest by
Autobahn. The other one has Autobahn's parser alone. `Pair.check` gives both the same bytes, cut at
the same places, and compares everything that can be seen of them, in its order.
"""

import itertools
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd.close_codes import CloseCode
from relayd.config import Config, Keepalive, Limits, Server
from relayd.connection.handshake import Handshake
from relayd.connection.pausing import Pause
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ClientError, ErrorCode
from relayd.names import Place
from relayd.native.framing import binary_frame, text_frame
from relayd.relays.paths import KINDS
from tests.frames import BINARY, CLOSE, MASK, PING, PONG, TEXT, frame
from tests.unit.fakes import Client, Transport, World

CLOSE_TIMEOUT = 5
HEAD = Client.head_for("/ws/test")
OFFER = HEAD[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
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
        self.events.append(("message", payload, is_binary, self.alive))
        what = payload[:1]
        if what == RAISE:
            raise RuntimeError("a bug")
        if what == REFUSE:
            raise ClientError(ErrorCode.BAD_JSON, "No.")
        if what == SHUT:
            self.close(CloseCode.RATE_LIMIT, "enough")
        elif what == ABORT:
            self.abort()
        elif what == PAUSE:
            self.pause_reading(Pause.EARLY)
        elif what == HOLD:
            self.held.append(len(payload))
            self.hold(len(payload))
        elif what != SILENT:
            self.send(binary_frame(payload) if is_binary else text_frame(payload))

    def go_on(self) -> None:
        """Lets go of what is held, and reads again."""
        while self.held:
            self.release(self.held.pop())
        self.resume_reading(Pause.EARLY)

    def fail(self, what: str, failure: Failure | None = None) -> None:
        self.events.append(("failed", what))
        super().fail(what, failure)

    def left(self) -> None:
        self.events.append(("left",))


class Slow(Relay):
    """Reads with Autobahn's parser alone."""

    def dataReceived(self, data: bytes) -> None:
        self.alive = True
        Handshake.dataReceived(self, data)


class Factory(RelayFactory):
    """Builds connections of one of the two."""

    def __init__(self, world: World, protocol: type[Relay]) -> None:
        super().__init__(world.context)
        self.protocol = protocol


class Side:
    """One way to read, in a world of its own: opens a connection, feeds it, says what was seen."""

    def __init__(self, limits: Limits, protocol: type[Relay], deflate: bool = False) -> None:
        keepalive = Keepalive(close_timeout=CLOSE_TIMEOUT)
        server = Server(deflate=deflate)
        self._world = World(Config(server=server, limits=limits, keepalive=keepalive))
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
        transport.deliver(OFFER)
        assert relay.state == relay.STATE_OPEN
        del events[:]
        for number, segment in enumerate(segments, 1):
            # keepalive clears it from time to time
            relay.alive = False
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
            relay.alive,
            relay.reading,
            relay.wasClean,
            relay.state == relay.STATE_OPEN and relay.failedByMe,
            relay.localCloseCode,
            relay.localCloseReason,
            relay.remoteCloseCode,
            relay.remoteCloseReason,
            # what comes after our close is skipped, and after the end nothing is looked at
            relay.state == relay.STATE_OPEN
            and (
                relay.data,
                relay.inside_message,
                frame and (frame.opcode, frame.fin, frame.rsv, frame.length, frame.mask),
            ),
        )


class Pair:
    """Both ways to read, under the same limits."""

    def __init__(self, size: int, rate: float = 0, deflate: bool = False) -> None:
        self._deflate = deflate
        self._limits = Limits(
            max_message_size=size, messages_per_second=rate, max_waiting=3, send_buffer=500
        )
        self._build()

    def _build(self) -> None:
        self._short = Side(self._limits, Relay, self._deflate)
        self._long = Side(self._limits, Slow, self._deflate)

    def check(self, segments: Sequence[bytes], resume_every: int = 0) -> list[tuple[Any, ...]]:
        """Compares them; returns what both did."""
        try:
            short = self._short.run(segments, resume_every)
            assert short == self._long.run(segments, resume_every)
        except Exception:
            # what was under way stays in these worlds, and is not to be seen by the next stream
            self._build()
            raise
        return short


def close(code: int, reason: bytes = b"") -> bytes:
    """The payload of a CLOSE."""
    return code.to_bytes(2) + reason


def packed_of(payload: bytes) -> bytes:
    """A payload as permessage-deflate compresses it (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


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

# compressed messages, whole and in fragments; some are too long when they are inflated
COMPRESSED = tuple(
    frame(TEXT, packed[:at], rsv=DEFLATE, fin=False) + between + frame(0, packed[at:])
    for packed in map(packed_of, (*WORDS, *DEEDS[::3], *INVALID[:2], b"z" * 999, b"z" * 1001))
    for at in (0, len(packed) // 2)
    for between in (b"", frame(PING, b"in"))
) + tuple(
    frame(opcode, packed_of(payload), rsv=DEFLATE)
    for opcode in (TEXT, BINARY)
    for payload in (*WORDS, *DEEDS[::2], *INVALID, *EDGES, b"z" * 1000, b"z" * 100_000)
)

# most of a stream is harmless, so that what is not comes upon an open connection
HARMLESS = tuple(
    frame(TEXT, payload, mask=mask)
    for mask in MASKS
    for payload in (*WORDS, RAISE, REFUSE, PAUSE, HOLD, SILENT, SILENT + b"x" * 99)
)
UNUSUAL = SPLIT + CONTROL + BROKEN + CLOSES + BINARIES + COMPRESSED

SIZES = (1000, 1000, 1000, 125, 124, 100, 4)
PAIRS = [Pair(size) for size in SIZES] + [Pair(1000, rate=1), Pair(125, rate=0.5)]
PAIRS += [Pair(1000, deflate=True), Pair(125, deflate=True)]


def drawn_text(random: Random) -> bytes:
    """Up to 8 code points of 1 to 4 bytes each, as UTF-8."""
    ranges = ((0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x110000))
    points = [random.randrange(*random.choice(ranges)) for _ in range(random.randint(0, 8))]
    return "".join(map(chr, points)).encode()


def drawn_frame(random: Random) -> bytes:
    """A frame whose parts are drawn each for itself."""
    payload = random.choice(
        (
            random.choice(PAYLOADS),
            random.randbytes(random.randint(0, 12)),
            drawn_text(random),
        )
    )
    return frame(
        random.choice((TEXT, TEXT, TEXT, 0, BINARY, PING, PONG, CLOSE, 3)),
        payload,
        fin=random.random() < 0.75,
        rsv=DEFLATE if random.random() < 1 / 8 else 0,
        mask=random.choice((random.choice(MASKS), random.randbytes(4), None)),
    )


def drawn_piece(random: Random) -> bytes:
    """A part of a stream: a harmless frame half of the time."""
    kind = random.randrange(6)
    if kind < 3:
        return random.choice(HARMLESS)
    if kind == 5:
        return drawn_frame(random)
    return random.choice(WELL_MADE if kind == 3 else UNUSUAL)


def drawn_case(number: int) -> tuple[Pair, list[bytes], int]:
    """A stream of 1 to 8 pieces, damaged in two of five cases: what `Pair.check` takes.

    Plain `random` with the number as its seed: Hypothesis takes as long to draw a stream as both
    connections take to read it.
    """
    random = Random(number)
    stream = b"".join(drawn_piece(random) for _ in range(random.randint(1, 8)))
    if random.random() < 0.4:
        # the stream ends in the middle of a frame, or a byte somewhere is another one
        at = random.randint(0, 400) % len(stream)
        stream, rest = stream[:at], stream[at + 1 :]
        if random.random() < 0.5:
            stream += random.randbytes(1) + rest
    places = None
    if random.random() < 5 / 6:
        places = [random.randint(0, 400) for _ in range(random.randint(0, 6))]
    return random.choice(PAIRS), cut(stream, places), random.randint(0, 3)


def smallest(pair: Pair, segments: list[bytes], resume_every: int) -> list[bytes]:
    """Of segments that differ, those without which they do not: to be read by whoever mends it."""
    for at in reversed(range(len(segments))):
        fewer = segments[:at] + segments[at + 1 :]
        try:
            pair.check(fewer, resume_every)
        except AssertionError:
            segments = fewer
    return segments


def cut(stream: bytes, places: Sequence[int] | None) -> list[bytes]:
    """The stream in segments, cut at these places, or everywhere."""
    if places is None:
        return [stream[at : at + 1] for at in range(len(stream))]
    within = sorted({place % (len(stream) + 1) for place in places})
    return [stream[a:b] for a, b in itertools.pairwise((0, *within, len(stream))) if a != b]


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
