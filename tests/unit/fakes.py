"""Shared by the unit tests: a TCP transport in memory, a client, stand-ins for brokers' parts.

No real time and no real I/O: everything runs on a `twisted.internet.task.Clock`. The transport
behaves as Twisted's TCP connections do: it tells its producer to pause above 64 KiB and to go on
when all was read, ends a connection only after what was written is gone, and reports the end from
the reactor, never from inside `loseConnection`. The client is the sans-IO core of `websockets`, so
frames and handshakes are read by code that shares nothing with relayd or Autobahn.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.streams import StreamReader
from websockets.uri import parse_uri
from zope.interface import implementer

from relayd.config import Config
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.connection.context import Context
from relayd.connection.keepalive import Keepalive
from relayd.connection.receiving import Receiving
from relayd.connection.registry import Connections
from relayd.drops import Drops
from relayd.edge.seats import Seats
from relayd.quotas.creation import Creators
from relayd.quotas.names import NamesInUse
from relayd.quotas.usage import Creation, RoomTally
from relayd.relays.paths import KINDS
from relayd.storage.draws import Draw
from relayd.wire import ChatDraft, ChatEntry, ChatPage

T = TypeVar("T")

BUFFER = 64 * 1024
"""Bytes that a Twisted transport holds before it pauses its producer."""

OPEN = (0, "")
"""What stands for the code and reason of a connection that was not closed."""

NOW = 1_750_000_000.0
"""The Unix time at which every test begins."""


def success(deferred: "Deferred[T]") -> T:
    """What a Deferred has fired with."""
    results: list[T] = []
    failures: list[Failure] = []
    deferred.addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    assert results, "the Deferred has not fired"
    return results[0]


def failure(deferred: "Deferred[Any]", kind: type[BaseException]) -> BaseException:
    """What a Deferred has failed with, which must be of that kind."""
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    assert failures, "the Deferred has not failed"
    assert isinstance(failures[0].value, kind), failures[0]
    return failures[0].value


def has_fired(deferred: "Deferred[Any]") -> bool:
    """Whether a Deferred has fired; a failure stays in it."""
    return bool(deferred.called)


@contextmanager
def logged_failures() -> Iterator[list[LogEvent]]:
    """What is logged as an error meanwhile."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"].name in ("error", "critical"):
            events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observe)


@contextmanager
def logged_lines(namespace: str) -> Iterator[list[str]]:
    """What a part of relayd logs meanwhile, as text."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith(namespace):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)


@implementer(ITransport, IConsumer, IPushProducer)
class Transport:
    """The server's end of a TCP connection.

    Attributes:
        arrived: what the peer has read and not yet taken out.
        peer_reads: whether the peer reads; if not, what is written waits here.
        reading: whether the server takes bytes.
        writing_closed: the server has ended its direction alone (`loseWriteConnection`).
        aborted: the server has dropped the connection.
        negotiatedProtocol: what TLS has chosen; None without it.
    """

    negotiatedProtocol: bytes | None = None  # noqa: N815

    def __init__(self, clock: Clock, *, peer_reads: bool = True) -> None:
        self._clock = clock
        self.protocol: Any = None
        self.arrived = b""
        self.peer_reads = peer_reads
        self.reading = True
        self.connected = True
        self.disconnecting = False
        self.aborted = False
        self.writing_closed = False
        self.producer: IPushProducer | None = None
        self._producer_paused = False
        self._waiting = b""
        self._undelivered = b""

    # -- what the server's protocol calls

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), data
        if not self.connected or self.aborted or self.writing_closed:
            return
        if self.peer_reads:
            self.arrived += data
            return
        self._waiting += data
        if self.producer is not None and len(self._waiting) > BUFFER:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer already, and it was never unregistered")
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._producer_paused = False
        self._end_if_written()

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.reading = False
            self._end_if_written()

    def loseWriteConnection(self) -> None:  # noqa: N802
        self.writing_closed = True

    def abortConnection(self) -> None:
        if self.connected and not self.aborted:
            self.aborted = True
            self.reading = False
            self._clock.callLater(0, self.end, ConnectionAborted())

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting and not self.aborted:
            self.reading = True
            self._clock.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 50000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 8080)

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        pass

    # -- what the peer and the network do

    def deliver(self, data: bytes) -> None:
        """The peer sends; what the server does not read now, it reads later."""
        self._undelivered += data
        self._deliver()

    def read(self) -> None:
        """The peer reads everything, and goes on reading."""
        self.peer_reads = True
        while self._waiting:
            self.read_some()
        self._end_if_written()

    def read_some(self) -> None:
        """The peer reads what waits in the transport now, and then no more."""
        self.arrived += self._waiting
        self._waiting = b""
        if self.producer is not None and self._producer_paused:
            self._producer_paused = False
            self.producer.resumeProducing()
        self._end_if_written()

    def end(self, reason: Exception | None = None) -> None:
        """The TCP connection ends, by a FIN of the peer if no reason is given."""
        if self.connected:
            self.connected = False
            self.reading = False
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def reset(self) -> None:
        """The peer resets the connection."""
        self.end(ConnectionLost())

    def _deliver(self) -> None:
        if self.reading and self.connected and self._undelivered:
            data, self._undelivered = self._undelivered, b""
            self.protocol.dataReceived(data)

    def _end_if_written(self) -> None:
        if self.disconnecting and not self._waiting:
            self._clock.callLater(0, self.end)


class Client:
    """A WebSocket client on a transport of its own.

    Args:
        clock: the clock of the server.
        factory: builds the server's protocol.
        path: what to ask for.
        headers: more headers of the handshake.
        head: the handshake, if not the usual one.
        behind: bytes that come in the same segment as the handshake.
        answers: whether pings and closes are answered at once.
        peer_reads: whether the client reads.
    """

    def __init__(
        self,
        clock: Clock,
        factory: Factory,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        head: bytes | None = None,
        behind: bytes = b"",
        answers: bool = True,
        peer_reads: bool = True,
    ) -> None:
        self._clock = clock
        self._answers = answers
        self._taken: list[Frame] = []
        self.response: Response | None = None
        self.transport = Transport(clock, peer_reads=peer_reads)
        protocol = factory.buildProtocol(self.transport.getPeer())
        assert isinstance(protocol, Protocol)
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)
        self._core = ClientProtocol(parse_uri(f"ws://relay.example{path}"), max_size=None)
        request = self._core.connect()
        # parse_uri drops what is behind a semicolon
        if ";" in path:
            request.path = path
        for name, value in (headers or {}).items():
            request.headers[name] = value
        self._core.send_request(request)
        self.head = b"".join(self._core.data_to_send())
        self.transport.deliver((self.head if head is None else head) + behind)
        self.pump()

    @staticmethod
    def head_for(path: str) -> bytes:
        """A good handshake."""
        return ClientProtocol(parse_uri(f"ws://relay.example{path}")).connect().serialize()

    @property
    def server(self) -> Any:
        """The server's protocol for this connection."""
        return self.transport.protocol

    def pump(self) -> None:
        """Lets everything happen that is due now, in both directions."""
        for _ in range(20):
            self._clock.advance(0)
            data, self.transport.arrived = self.transport.arrived, b""
            if data:
                self._core.receive_data(data)
            for event in self._core.events_received():
                if isinstance(event, Response):
                    self.response = event
                elif isinstance(event, Frame):
                    self._taken.append(event)
            out = b"".join(self._core.data_to_send()) if self._answers else b""
            if out:
                self.transport.deliver(out)
            if not data and not out:
                return

    def send(self, payload: str | bytes | dict[str, Any]) -> None:
        """Sends a message: an object as JSON text, a string as text, bytes as binary."""
        if isinstance(payload, bytes):
            self._core.send_binary(payload)
        elif isinstance(payload, str):
            self._core.send_text(payload.encode())
        else:
            self._core.send_text(json.dumps(payload).encode())
        self._flush()

    def pass_time(self, seconds: float) -> None:
        """Lets time pass in steps of half a second, in which the client reads and answers."""
        for _ in range(round(seconds / 0.5)):
            self._clock.advance(0.5)
            self.pump()

    def begin_close(self) -> None:
        """Sends a CLOSE with code 1000."""
        self._core.send_close(CloseCode.NORMAL_CLOSURE)
        self._flush()

    def _flush(self) -> None:
        self.transport.deliver(b"".join(self._core.data_to_send()))
        self.pump()

    def frames(self) -> list[Frame]:
        """The frames that came since the last call."""
        self.pump()
        taken, self._taken = self._taken, []
        return taken

    def payloads(self) -> list[bytes]:
        """The payloads of the text frames among them."""
        return [bytes(frame.data) for frame in self.frames() if frame.opcode is Opcode.TEXT]

    def objects(self) -> list[Any]:
        """The JSON objects among them."""
        return [json.loads(payload) for payload in self.payloads()]

    @property
    def status(self) -> int:
        """The HTTP status that answered the handshake; 0 for none so far."""
        self.pump()
        return 0 if self.response is None else self.response.status_code

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and error code of a refused handshake, whose form is checked here."""
        assert self.status >= 400, self.status
        assert self.response is not None
        headers, body = self.response.headers, self.response.body
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert ("WWW-Authenticate" in headers) == (self.status == 401)
        assert body is not None
        assert int(headers["Content-Length"]) == len(body)
        assert ("Retry-After" in headers) == (self.status in (429, 503))
        error = json.loads(body)
        assert set(error) == {"error", "message"}
        assert error["message"].endswith(".")
        return self.status, error["error"]

    def closed(self) -> tuple[int, str]:
        """Code and reason of the CLOSE that the server sent; `OPEN` if it did not."""
        self.pump()
        close = self._core.close_rcvd
        return OPEN if close is None else (int(close.code), close.reason)


# no unit test depends on how quick the machine is; those of the slices set a turn of their own
Receiving.turn = 10**12


class World:
    """The parts of one process below its relays, on one clock; clients of them.

    Attributes:
        clock_step: seconds by which the wall clock was set; the clock of the timers is another one.
    """

    clock_step = 0.0

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.clock = Clock()
        self.current = Current(self.config)
        seats = Seats(self.current, self.clock.seconds)
        self.context = Context(
            current=self.current,
            clock=self.clock,
            admission=Admission(
                *(self.current, self.clock),
                *(lambda: NOW + self.clock.seconds() + self.clock_step, KINDS),
            ),
            connections=Connections(),
            keepalive=Keepalive(self.clock, self.current),
            drops=Drops(),
            seats=seats,
            names=NamesInUse(lambda: self.current.config.limits, seats.addresses.is_exempt),
        )
        self.clients: list[Client] = []

    def connect(self, factory: Factory, path: str, **options: Any) -> Client:
        """A client that has sent its handshake."""
        client = Client(self.clock, factory, path, **options)
        self.clients.append(client)
        return client

    def end(self) -> None:
        """Ends every connection; nothing may stay behind of them."""
        for client in self.clients:
            client.transport.end()
        self.clock.advance(0)
        assert len(self.context.connections) == 0
        assert self.clock.getDelayedCalls() == []


@contextmanager
def make_world(config: Config | None = None) -> Iterator[tuple[World, list[LogEvent]]]:
    """A world, and what is logged in it as an error; a test must take out what it expects."""
    world = World(config)
    with logged_failures() as failures:
        yield world, failures
        world.end()
    assert failures == []


class FakeObserver:
    """An observer that notes what it hears (`sockets.observer.Observer`)."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def received(self, payload: bytes, is_binary: bool) -> None:
        self.events.append(("received", payload, is_binary))

    def pinged(self, payload: bytes) -> None:
        self.events.append(("pinged", payload))

    def ponged(self, payload: bytes) -> None:
        self.events.append(("ponged", payload))

    def sent(self, frames: bytes, waits: bool) -> None:
        self.events.append(("sent", frames, waits))

    def close_received(self, code: int | None, reason: bytes | None) -> None:
        self.events.append(("close_received", code, reason))

    def close_sent(self, code: int | None, reason: bytes | None) -> None:
        self.events.append(("close_sent", code, reason))

    def ended(self) -> None:
        self.events.append(("ended",))


class FakeDraws:
    """Draws that answer when they are told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Deferred[Draw | None]]] = []

    def draw(self, difficulty: int, pair: str = "") -> "Deferred[Draw | None]":
        deferred: Deferred[Draw | None] = Deferred()
        self.asked.append((difficulty, deferred))
        return deferred

    def answer(self, number: int, draw: Draw | Exception | None) -> None:
        """Answers the request of that number, counted from 0."""
        deferred = self.asked[number][1]
        if isinstance(draw, Exception):
            deferred.errback(Failure(draw))
        else:
            deferred.callback(draw)


def make_creators(clock: Clock) -> Creators:
    """Any address may create any number of rooms."""
    return Creators(clock.seconds, RoomTally(), per_hour=lambda: 0)


class FakeHistory:
    """A history in memory, with ids from 1 on, that can be made to wait and to fail.

    Attributes:
        before_read: while it is a list, reads wait in it before they look at the messages.
        after_read: while it is a list, reads wait in it after they have looked.
        kept: while it is a list, who says something waits in it until `tell`, though the message
            is kept.
        error: what everything fails with, if it fails.
        pages: position and limit of each `since`.
        hole: the last id of a lost part; 0 for none.
        skipped: how many ids the next message skips.
    """

    def __init__(self, keep: int = 10_000) -> None:
        self._keep = keep
        self._entries: dict[str, list[ChatEntry]] = {}
        self.before_read: list[Deferred[None]] | None = None
        self.after_read: list[Deferred[None]] | None = None
        self.kept: list[tuple[Deferred[ChatEntry], ChatEntry]] | None = None
        self.hole = 0
        self.skipped = 0
        self.error: Exception | None = None
        self.pages: list[tuple[int, int]] = []
        self._settling: list[Deferred[None]] = []
        self._tagged: dict[str, ChatEntry] = {}

    def append(
        self,
        room: str,
        message: str,
        user: str | None = None,
        creation: Creation | None = None,
        source: object = None,
        tag: str = "",
    ) -> "Deferred[ChatEntry]":
        deferred: Deferred[ChatEntry] = Deferred()
        if self.error is not None:
            deferred.errback(Failure(self.error))
            return deferred
        entries = self._entries.setdefault(room, [])
        if tag in self._tagged:
            again = self._tagged[tag]
            deferred.callback(ChatEntry(again.id, again.body, repeated=True))
            return deferred
        id = entries[-1].id + 1 if entries else 1
        id, self.skipped = id + self.skipped, 0
        entries.append(ChatDraft.of(message, 1_767_323_045_678, user, tag).entry(id))
        if tag:
            self._tagged[tag] = entries[-1]
        del entries[: -self._keep]
        if self.kept is None:
            deferred.callback(entries[-1])
        else:
            self.kept.append((deferred, entries[-1]))
        return deferred

    def watch(self, found: object) -> None:
        pass

    def tell(self, count: int = 1_000_000) -> None:
        """Tells the first ones who wait in `kept` that their messages are kept."""
        assert self.kept
        going, self.kept[:] = self.kept[:count], self.kept[count:]
        for deferred, entry in going:
            deferred.callback(entry)
        if not self.kept:
            settling, self._settling = self._settling, []
            for settled in settling:
                settled.callback(None)

    async def settled(self) -> None:
        if self.kept:
            self._settling.append(Deferred())
            await self._settling[-1]

    async def last(self, room: str, count: int, limit: int = 2**31, size: int = 2**31) -> ChatPage:
        await self._wait(self.before_read)
        found = self._entries.get(room, [])[-count:]
        page = _page(found, limit, size)
        await self._wait(self.after_read)
        return page

    async def since(self, room: str, id: int, limit: int = 2**31, size: int = 2**31) -> ChatPage:
        await self._wait(self.before_read)
        self.pages.append((id, limit))
        entries = self._entries.get(room, [])
        first, last = (entries[0].id, entries[-1].id) if entries else (1, 0)
        unmet = not first - 1 <= id <= last
        lost = not unmet and id < self.hole
        page = _page([entry for entry in entries if id > last or entry.id > id], limit, size)
        await self._wait(self.after_read)
        return page._replace(gap=unmet or lost, from_start=id > last, lost=lost)

    async def _wait(self, place: "list[Deferred[None]] | None") -> None:
        if self.error is not None:
            raise self.error
        if place is not None:
            deferred: Deferred[None] = Deferred()
            place.append(deferred)
            await deferred


def _page(entries: list[ChatEntry], limit: int, size: int) -> ChatPage:
    """The first of some messages, within the bounds of a page."""
    page: list[ChatEntry] = []
    for entry in entries[:limit]:
        size -= len(entry.body)
        if page and size < 0:
            break
        page.append(entry)
    return ChatPage(page, more=len(page) < len(entries))


def let_go(waiting: "list[Deferred[None]] | None") -> None:
    """Lets all go on who wait in a place of a `FakeHistory`."""
    assert waiting
    going = waiting[:]
    waiting.clear()
    for deferred in going:
        deferred.callback(None)


def parse_frames(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Complete unmasked frames, as `websockets` reads them; nothing may be left over."""
    found = []
    while data:
        frame, data = parse_frame(data)
        found.append((frame.opcode, bytes(frame.data)))
    return found


def parse_frame(data: bytes) -> tuple[Frame, bytes]:
    """The first unmasked frame of some bytes, as `websockets` reads it, and the rest."""
    stream = StreamReader()
    stream.feed_data(data)
    parsing = Frame.parse(stream.read_exact, mask=False)
    try:
        next(parsing)
    except StopIteration as end:
        frame: Frame = end.value
    else:
        raise AssertionError("a frame ends too early")
    return frame, bytes(stream.buffer)


class InletOwner:
    """An owner of an inlet (`sockets.poller.Owner`) of which a test needs a part."""

    def parse(self, data: bytes) -> None:
        raise AssertionError(data)

    def failed(self) -> None:
        raise AssertionError

    def hold_reading(self) -> None:
        raise AssertionError

    def read_on(self) -> None:
        raise AssertionError

    def over_rate(self) -> None:
        raise AssertionError

    def abort(self) -> None:
        raise AssertionError


def mask_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A frame as a client sends it (RFC 6455 section 5.3)."""
    return Frame(Opcode(opcode), payload, fin=fin).serialize(mask=True)


def unmasked_frame(opcode: int, payload: bytes) -> bytes:
    """A frame as a server sends it."""
    return Frame(Opcode(opcode), payload).serialize(mask=False)
