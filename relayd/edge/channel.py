"""The HTTP side of one connection: a twisted.web channel that handles one request at a time.

Sits under `frontdoor`, which collects each request head and gets the connection back after each
answer.
"""

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from relayd import private
from relayd.config.current import Current
from relayd.edge.refusal import encode_refusal
from relayd.errors import ErrorCode, Refusal

_NOT_HTTP = "This is not an HTTP request that could be understood."


class Door(Protocol):
    """The owner of a channel."""

    def answered(self, rest: bytes) -> None:
        """A request is answered; `rest` came behind it."""

    def answers_read(self) -> None:
        """The peer has read all answers so far."""

    def body_begins(self) -> None:
        """The head of a request is complete, and its body is not."""

    def body_complete(self) -> None:
        """A whole request has arrived."""


@private.answers_bad_requests
class Channel(HTTPChannel):
    """A twisted.web channel that returns to the front door between requests."""

    transport: Any

    waiting = False
    """Whether answers wait for the peer to read them."""
    method = target = b""
    """Method and target of the request whose head came last, before its body is complete."""
    _rest = b""
    _unread: IDelayedCall | None = None

    def __init__(self, door: Door, current: Current) -> None:
        super().__init__()
        self._current = current
        self._door: Door | None = door

    def begin(self, head: bytes) -> None:
        """Reads a whole request head, and the bytes behind it."""
        line = head[: head.find(b"\r\n")].split(b" ")
        self.method, self.target = line[:2] if len(line) == 3 else (b"", b"")
        self.dataReceived(head)

    def allHeadersReceived(self) -> None:  # noqa: N802
        """The head of a request is complete."""
        if self.length != 0 and self._door is not None:
            self._door.body_begins()
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """A whole request has arrived."""
        if self._door is not None:
            self._door.body_complete()
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """An answer is complete: the bytes behind its request are a new head for the door."""
        super().requestDone(request)
        door = self._door
        if door is not None and self.persistent:
            rest, self._rest = self._rest, b""
            door.answered(rest)

    def setLineMode(self, extra: bytes = b"") -> None:
        """Keeps `extra`, the bytes behind a request that came before its answer was complete."""
        self._rest = self.clearLineBuffer() + extra
        super().setLineMode()

    def pauseProducing(self) -> None:
        """The peer does not read its answers (`IPushProducer`)."""
        self.waiting = True
        if self._unread is None and self._door is not None:
            self._unread = self.callLater(
                self._current.config.keepalive.request_timeout, self._not_read
            )
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has read the answers: the next request may come (`IPushProducer`)."""
        self.waiting = False
        self._forget_unread()
        super().resumeProducing()
        if self._door is not None:
            self._door.answers_read()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The peer has disconnected."""
        self._forget_unread()
        super().connectionLost(reason)

    def _not_read(self) -> None:
        self._unread = None
        self.transport.abortConnection()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def answer_bad_request(self) -> None:
        """Answers a request that Twisted cannot parse, in place of its bare status line."""
        if not (self.requests and self.requests[-1].startedWriting):
            self.transport.write(encode_refusal(Refusal(ErrorCode.BAD_REQUEST, _NOT_HTTP)))
        self.loseConnection()

    def leave(self) -> None:
        """Releases the transport and the timers of a connection that becomes a WebSocket."""
        self._door = None
        self._forget_unread()
        self.setTimeout(None)
        self.transport.unregisterProducer()
