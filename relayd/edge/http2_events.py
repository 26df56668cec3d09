"""A stream of HTTP/2 as the transport of a client of server-sent events.

Beside `http2_stream`, under `http2`. The protocol on it is that of a relay, as on a connection of
HTTP/1.1; the bytes that its peer does not read wait in its outbox.
"""

from collections.abc import Iterable
from typing import Any

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.python.failure import Failure

from relayd.edge.http2_stream import OF_CONNECTION, Connection

BUFFER = 64 * 1024
"""Bytes that may wait here before the outbox keeps what follows."""


class EventStream:
    """One stream, which has `http2_stream.Stream`'s side to its connection.

    Args:
        connection: of the stream.
        number: of the stream.
        head: the fields of the request.
        protocol: of the client.

    Attributes:
        complete: whether the whole request has come.
        waiting: bytes of the answer that are not sent yet.
        answered: whether the whole answer is in `waiting`, or sent.
    """

    complete = False
    answered = False

    def __init__(
        self, connection: Connection, number: int, head: list[tuple[bytes, bytes]], protocol: Any
    ) -> None:
        self.number = number
        self.waiting = bytearray()
        self.deadline: IDelayedCall | None = None
        self._connection = connection
        self._protocol = protocol
        self._producer: Any = None
        self._paused = False
        fields = dict(head)
        self._target = fields.get(b":path", b"").decode("latin-1")
        host = fields.get(b":authority")
        self._fields = [] if host is None else [("Host", host.decode("latin-1"))]
        self._fields += [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in head
            if not name.startswith(b":") and not (name == b"host" and host is not None)
        ]

    # What the connection calls

    def begin(self) -> None:
        """The head is whole."""
        self._protocol.makeConnection(self)

    def receive(self, data: bytes) -> None:
        """Drops a part of a body: a GET needs none."""

    def end(self) -> None:
        """The request is whole."""
        self.complete = True
        self.stop_deadline()
        self._protocol.begin(self._target, self._fields)

    def stop_deadline(self) -> None:
        """The request is whole, or has ended."""
        deadline, self.deadline = self.deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def drained(self) -> None:
        """Nothing waits any more."""
        if self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()

    def lose(self, reason: Failure) -> None:
        """The stream has ended."""
        self._producer = None
        self._protocol.connectionLost(reason)

    # What the protocol calls (`ITransport`, `IConsumer`)

    @property
    def transport(self) -> Any:
        """The transport of the connection."""
        return self._connection.transport

    def write_head(self, status: int, fields: Iterable[tuple[str, str]]) -> None:
        """Sends the head of the answer."""
        pairs = [(name.lower().encode(), value.encode()) for name, value in fields]
        kept = [pair for pair in pairs if pair[0] not in OF_CONNECTION]
        self._connection.send_headers(self, [(b":status", b"%d" % status), *kept])

    def write(self, data: bytes) -> None:
        """Sends bytes, as the peer's windows allow."""
        if self.answered:
            return
        self.waiting += data
        self._connection.allow_for_event()
        self._connection.flush()
        if len(self.waiting) > BUFFER and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Has a producer paused while too much waits."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """No producer is paused any more."""
        self._producer = None
        self._paused = False

    def loseConnection(self) -> None:
        """Ends the stream after what is written, not in this call."""
        self.answered = True
        self._connection.call_later(0, self._connection.flush)

    def abortConnection(self) -> None:
        """Ends the stream at once, but not in this call."""
        self.answered = True
        self.waiting.clear()
        self._connection.call_later(0, self._reset)

    def _reset(self) -> None:
        self._connection.reset(self, ErrorCodes.CANCEL)

    def pauseProducing(self) -> None:
        """Nothing more comes from the client, which could be paused."""

    def resumeProducing(self) -> None:
        """As `pauseProducing`."""

    def getPeer(self) -> IAddress:
        """The peer of the connection."""
        address: IAddress = self._connection.transport.getPeer()
        return address
