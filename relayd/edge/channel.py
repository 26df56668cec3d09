"""The HTTP side of one connection: a twisted.web channel that handles one request at a time.

Sits under `frontdoor`, which collects each request head and gets the connection back after each
answer.
"""

from typing import Any, Protocol

from twisted.web.http import HTTPChannel, Request

from relayd import private
from relayd.edge.refusal import encode_refusal
from relayd.errors import ErrorCode, Refusal

_NOT_HTTP = "This is not an HTTP request that could be understood."


class Door(Protocol):
    """The owner of a channel."""

    def answered(self, rest: bytes) -> None:
        """A request is answered; `rest` came behind it."""

    def answers_read(self) -> None:
        """The peer has read all answers so far."""


@private.answers_bad_requests
class Channel(HTTPChannel):
    """A twisted.web channel that returns to the front door between requests."""

    transport: Any

    waiting = False
    """Whether answers wait for the peer to read them."""
    _rest = b""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door: Door | None = door

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
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has read the answers: the next request may come (`IPushProducer`)."""
        self.waiting = False
        super().resumeProducing()
        if self._door is not None:
            self._door.answers_read()

    def answer_bad_request(self) -> None:
        """Answers a request that Twisted cannot parse, in place of its bare status line."""
        if not (self.requests and self.requests[-1].startedWriting):
            self.transport.write(encode_refusal(Refusal(ErrorCode.BAD_REQUEST, _NOT_HTTP)))
        self.loseConnection()

    def leave(self) -> None:
        """Releases the transport and the timers of a connection that becomes a WebSocket."""
        self._door = None
        self.setTimeout(None)
        self.transport.unregisterProducer()
