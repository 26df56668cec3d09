"""A stream of HTTP/2 as the channel of one request of twisted.web (RFC 9113 section 8).

Under `http2`, which has the connection and its state.
"""

from collections.abc import Callable
from typing import Any, Protocol

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.python.failure import Failure
from twisted.web.server import Site

OF_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Header fields that HTTP/2 does not have (RFC 9113 section 8.2.2)."""


class Connection(Protocol):
    """What a stream asks of its connection."""

    transport: Any
    site: Site

    def call_later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Makes a call later."""

    def send_headers(self, stream: Any, fields: list[tuple[bytes, bytes]]) -> None:
        """Sends the head of an answer, if the stream is still there."""

    def allow_for_event(self) -> None:
        """An event is written: its client may open both its windows for it."""

    def flush(self) -> None:
        """Sends what the windows of the peer allow."""

    def reset(self, stream: Any, code: ErrorCodes) -> None:
        """Ends a stream before its end."""


class Stream:
    """One request and its answer; the channel of a `twisted.web.http.Request`.

    Attributes:
        persistent: set by the request; a stream ends alone, so the connection goes on.
        method, target: of the request.
        complete: whether the whole request has come.
        waiting: bytes of the answer that are not sent yet.
        answered: whether the whole answer is in `waiting`, or sent.
    """

    transport = None
    persistent = True
    complete = False
    answered = False

    def __init__(
        self, connection: Connection, number: int, head: list[tuple[bytes, bytes]]
    ) -> None:
        self.number = number
        self.site = self.factory = connection.site
        self.waiting = bytearray()
        self.deadline: IDelayedCall | None = None
        self._connection = connection
        fields = dict(head)
        self.method, self.target = fields[b":method"], fields.get(b":path", b"")
        self.request: Any = connection.site.requestFactory(self)
        headers = self.request.requestHeaders
        for name, value in head:
            if not name.startswith(b":"):
                headers.addRawHeader(name, value)
        if b":authority" in fields:
            headers.setRawHeaders(b"Host", [fields[b":authority"]])
        if cookies := headers.getRawHeaders(b"Cookie"):
            headers.setRawHeaders(b"Cookie", [b"; ".join(cookies)])

    def begin(self) -> None:
        """The head is whole."""
        headers = self.request.requestHeaders
        length = headers.getRawHeaders(b"Content-Length")
        # h2 has checked that it is a number, and checks that the body is as long
        self.request.gotLength(int(length[0]) if length else None)
        self.request.parseCookies()
        expect = headers.getRawHeaders(b"Expect")
        if expect and expect[0].lower() == b"100-continue":
            self._connection.send_headers(self, [(b":status", b"100")])

    def receive(self, data: bytes) -> None:
        """A part of the body has come."""
        self.request.handleContentChunk(data)

    def drained(self) -> None:
        """Nothing waits any more: answers are not produced bit by bit."""

    def lose(self, reason: Failure) -> None:
        """The stream has ended."""
        if not self.request.finished:
            self.request.connectionLost(reason)

    def end(self) -> None:
        """The request is whole."""
        self.complete = True
        self.stop_deadline()
        self.request.requestReceived(self.method, self.target, b"HTTP/2")

    def stop_deadline(self) -> None:
        """The request is whole, or has ended."""
        deadline, self.deadline = self.deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    # What the request calls

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:  # noqa: N802
        """Sends the head of the answer."""
        fields = [
            (name.lower(), value)
            for name, values in headers.getAllRawHeaders()
            for value in values
            if name.lower() not in OF_CONNECTION
        ]
        self._connection.send_headers(self, [(b":status", code), *fields])

    def write(self, data: bytes) -> None:
        """Sends a part of the body, as the peer's windows allow."""
        self.waiting += data
        self._connection.flush()

    def writeSequence(self, parts: Any) -> None:
        """Sends parts of the body."""
        self.write(b"".join(parts))

    def requestDone(self, request: Any) -> None:
        """The answer is whole."""
        self.answered = True
        self._connection.flush()

    def loseConnection(self) -> None:
        """Ends the stream after what is written, not the connection."""
        if self.request.startedWriting:
            self.answered = True
            self._connection.flush()
        else:
            self._connection.reset(self, ErrorCodes.CANCEL)

    abortConnection = loseConnection

    def forceAbortClient(self) -> None:  # noqa: N802
        """Ends the stream at once, since its request comes too slowly."""
        self._connection.reset(self, ErrorCodes.CANCEL)

    def callLater(  # noqa: N802
        self, seconds: float, call: Callable[[], object]
    ) -> IDelayedCall:
        """Makes a call later, as a channel of twisted.web does."""
        return self._connection.call_later(seconds, call)

    def getPeer(self) -> IAddress:
        """The peer of the connection."""
        address: IAddress = self._connection.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        """The address at which the peer connected."""
        address: IAddress = self._connection.transport.getHost()
        return address

    def isSecure(self) -> bool:
        """HTTP/2 comes with TLS only."""
        return True
