"""Server-sent events in place of frames: `/sse/...` beside `/ws/...` (WHATWG HTML, section 9.2).

Beside `deflate`, on `handshake`. The class comes before its relay among the bases, so that the
relay, and all that holds for its connections, is the same: tokens, limits, bans, counts, drain,
slow readers. A handshake is a GET here, its answer 200 and an endless body; each frame is an event.
The client sends nothing, so its TCP shows whether it lives (`sockets.acknowledged`). The body ends
with its connection: intermediaries need no chunks for that (RFC 9112 section 6.3).
"""

import random
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from autobahn.websocket.types import ConnectionRequest

from relayd import names
from relayd.close_codes import CloseCode
from relayd.connection.handshake import Handshake
from relayd.edge.http2_events import EventStream
from relayd.edge.refusal import encode_refusal, refusal_parts
from relayd.errors import ErrorCode, Refusal
from relayd.event_stream import (
    CONTENT_TYPE,
    HEARTBEAT,
    encode_close,
    encode_event,
    encode_hello,
    read_events,
)
from relayd.hosts.origins import fields_for_readers
from relayd.names import Place
from relayd.native.framing import payload_of
from relayd.sockets.acknowledged import has_acknowledged

_LINE = re.compile(rb"GET (\S+) HTTP/1\.[01]")
_FIELD = re.compile(r"([\w!#$%&'*+.^`|~-]+):[ \t]*(.*?)[ \t]*", re.ASCII)
_NOT_HTTP = "This is not an HTTP request that could be understood."
_FIELDS = {
    "Server": "relayd",
    "Connection": "close",
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect events
    "X-Content-Type-Options": "nosniff",
}
_SOON, _LATER, _LONG = (1.0, 5.0), (5.0, 15.0), (60.0, 120.0)
"""Between how many seconds the time is drawn after which a client may connect again."""
_LATER_CODES = (CloseCode.TOO_SLOW, CloseCode.RATE_LIMIT)


class Events(Handshake):
    """A connection that gets events; comes before its relay among the bases."""

    outbox: Any
    localCloseCode: Any  # noqa: N815
    localCloseReason: Any  # noqa: N815
    wasClean: bool
    _inlet: Any
    _observer: Any
    _abort_later: Any
    _pinged: float | None = None

    read_sent = staticmethod(read_events)

    # -- the request and its answer

    def dataReceived(self, data: bytes) -> None:
        """Reads the request head, which comes whole; drops all other bytes."""
        if self._request is not None or self.state != self.STATE_CONNECTING:
            return
        line, *lines = data[: data.find(b"\r\n\r\n")].split(b"\r\n")
        found = _LINE.fullmatch(line)
        fields = [_FIELD.fullmatch(each.decode("latin-1")) for each in lines]
        if found is None or None in fields:
            self._refuse_request()
        else:
            pairs = [(field[1], field[2]) for field in fields if field is not None]
            self.begin(found[1].decode("latin-1"), pairs)

    def begin(self, target: str, fields: Sequence[tuple[str, str]]) -> None:
        """Begins the admission of a request.

        Args:
            target: its target (RFC 9112 section 3.2), in Latin-1.
            fields: the fields of its head, in their order.
        """
        headers: dict[str, str] = {}
        for name, value in fields:
            name = name.lower()
            if name == "host" and name in headers:  # RFC 9112 section 3.2
                self._refuse_request()
                return
            separator = "; " if name == "cookie" else ", "
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
        try:
            parts = urlsplit(target)
            host = parts.netloc if parts.scheme else None
            params = parse_qs(parts.query, keep_blank_values=True)
        except ValueError:
            self._refuse_request()
            return
        params.pop("refuse", None)  # a client of events reads the status
        if last := headers.get("last-event-id"):
            params["since"] = [last]
        request: Any = ConnectionRequest(
            *(self.peer, headers, headers.get("host", ""), parts.path, params),
            *(13, headers.get("origin"), [], []),
        )
        path = parts.path.encode("latin-1").decode(errors="replace")
        admission = self._consider(request, names.websocket_path(path), host)
        admission.addCallbacks(self.succeedHandshake, self._denied)

    def _refuse_request(self) -> None:
        self._refusal = Refusal(ErrorCode.BAD_REQUEST, _NOT_HTTP)
        self._log_refusal(self._refusal, "a request for events")
        self.failHandshake(_NOT_HTTP)

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Decides as the relay does. Raises Refusal: 403, too, the client may not view."""
        if not self.may_view:
            raise Refusal(ErrorCode.FORBIDDEN, "The token does not let you view this path.")
        await super().admit(place, params)

    def succeedHandshake(self, res: object) -> None:
        """Answers with 200, unless the peer disconnected meanwhile."""
        self._admission = None
        if self.state != self.STATE_CONNECTING:
            return
        fields = {**_FIELDS, **self._cors()}
        if isinstance(self.transport, EventStream):
            self.transport.write_head(200, fields.items())
        else:
            lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields.items())]
            self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.state = self.STATE_OPEN
        self.onOpen()

    def write_refusal(self, refusal: Refusal, headers: Any) -> None:
        """Writes a refusal that pages of allowed origins may read."""
        headers = [*headers, *self._cors().items()]
        if isinstance(self.transport, EventStream):
            fields, body = refusal_parts(refusal, headers)
            self.transport.write_head(refusal.status, fields)
            self.transport.write(body)
        else:
            self.transport.write(encode_refusal(refusal, headers))

    def _cors(self) -> dict[str, str]:
        origin = None if self._request is None else self._request.headers.get("origin")
        return fields_for_readers(origin, self.context.current.config.api.allowed_origins)

    # -- the open connection

    def _greet(self) -> None:
        self.outbox.events = True
        admission, settings = self.context.admission, self.context.current.config.keepalive
        hello = encode_hello(admission.now(), settings.ping_interval, random.uniform(*_SOON))
        self.outbox.write(hello)
        super()._greet()  # type: ignore[misc]

    def _open_inlet(self) -> None:
        super()._open_inlet()  # type: ignore[misc]
        self._inlet.longest = 0  # what comes is no frame

    def parse(self, data: bytes) -> None:
        """Drops what the client sends (`sockets.poller.Owner`)."""

    def send_payload(self, payload: bytes) -> None:
        """Sends a JSON payload as one event."""
        if self.outbox is not None:
            self.factory.answers += 1
            self.outbox.write(encode_event(payload))

    def send(self, frame: bytes) -> None:
        """Sends the payload of a complete frame as one event."""
        self.send_payload(bytes(payload_of(frame)))

    def ping(self) -> None:
        """Sends a heartbeat, also as an event if the client has asked for it (`keepalive.Peer`)."""
        self._pinged = self.context.clock.seconds()
        self.outbox.write(HEARTBEAT)
        self._send_heartbeat()  # type: ignore[attr-defined]

    @property
    def alive(self) -> bool:
        """Whether the peer has acknowledged bytes since the last heartbeat (`keepalive.Peer`)."""
        if self._pinged is None:
            return False
        return has_acknowledged(self.transport, self.context.clock.seconds() - self._pinged)

    @alive.setter
    def alive(self, value: bool) -> None:
        if not value:
            self._pinged = None

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Sends the last event, behind everything else, and ends the connection."""
        if self._observer is not None:
            self._observer.close_sent(code, reasonUtf8)
        # events that its groups published before precede the last
        self._leave()
        self.outbox.finish()
        self.localCloseCode, self.localCloseReason, self.wasClean = code, reasonUtf8, True
        self.state = self.STATE_CLOSING
        reason = (reasonUtf8 or b"").decode()
        self.transport.write(encode_close(code or 0, reason, _retry_after(code)))
        self.transport.loseConnection()
        self._abort_later()


def _retry_after(code: int | None) -> float:
    """Seconds after which a client may connect again: different ones, so that not all come at once.

    Args:
        code: the close code.
    """
    known = next((each for each in CloseCode if each == code), None)
    if known is None or not known.reconnect:
        return random.uniform(*_LONG)
    return random.uniform(*(_LATER if known in _LATER_CODES else _SOON))
