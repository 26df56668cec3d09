"""From a request head to 101 or a refusal: a connection before it opens.

Sits under `websocket`, on Autobahn. Handles three cases that Autobahn does not: refusals with a
body; checks that take time while the peer disconnects or already sends; exceptions in our own code.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import txaio
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from relayd import forwarded, names, private
from relayd.access.identity import NOBODY
from relayd.connection.context import Context
from relayd.connection.heads import mend_head
from relayd.connection.opening import Head, Opening, read_head
from relayd.connection.pausing import Pause, Pausing
from relayd.connection.subprotocols import choose, find_token, shown
from relayd.edge.refusal import encode_refusal
from relayd.edge.seats import NO_SEAT, Seat
from relayd.errors import ErrorCode, Refusal, Unavailable
from relayd.hosts.authority import Asked, read_asked
from relayd.logs import Logger, printable
from relayd.names import Kind, Place

_ids = itertools.count(1)
feed_autobahn = private.parse_of(WebSocketServerProtocol)
"""Has Autobahn parse bytes that came to a connection."""
# Autobahn's own failures to understand a handshake
_CODES = {code.status: code for code in (ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.UPGRADE_REQUIRED)}
_OF_PAGES = (ErrorCode.ORIGIN_NOT_ALLOWED, ErrorCode.HOST_NOT_ALLOWED)
_LONGEST = 200


class Handshake(Pausing, WebSocketServerProtocol):  # type: ignore[misc]
    """A connection that is not open yet.

    `admit` decides, and `left` undoes the effects of `admit`: `left` is called exactly once for
    every connection whose `admit` was called, also if the peer disconnected during `admit`.
    """

    entry: Kind
    """The entry of its kind in the table of paths."""

    _log = Logger()
    log = txaio.make_logger("error")  # type: ignore[attr-defined]

    factory: Any
    transport: Any
    opening: Opening | None = None
    """Opens the connection after a usual handshake; None if Autobahn opens it after any."""
    seat: Seat = NO_SEAT  # of its TCP connection; the front door passes it on
    opening_size = 0
    """Bytes that had come when the head was read."""
    opened_usually = False
    """Whether `opening` opened the connection."""
    identity = NOBODY
    may_send = may_view = True
    """What the rights of its token allow on its path (`names.DIRECTIONS`)."""
    address = forwarded.UNIX
    """The client's own IP address, or `unix:`."""
    _opened_at = 0.0
    """When the handshake was answered, by the monotonic clock."""

    extension = ""
    """The value of `Sec-WebSocket-Extensions` in the answer; empty without an extension."""

    _number = 0
    _asked = False
    _name = ""
    _request: ConnectionRequest | None = None
    _segments: Sequence[str] = ()
    _key: str | None = None
    _admission: "Deferred[None] | None" = None
    _refusal: Refusal | None = None
    _early = b""
    _odd_origin: str | None = None

    @property
    def number(self) -> int:
        """The number of the connection in this process: `c17` in the log."""
        return self._number

    @property
    def kind(self) -> str:
        """The kind of its path, by name."""
        return self.entry.name

    @property
    def path(self) -> str:
        """The requested path, without the query, printable."""
        return "" if self._request is None else printable(self._request.path)

    @property
    def facts(self) -> dict[str, Any]:
        """The fields of every log line about this connection; private names are left out."""
        facts = {"conn": f"c{self._number}", "peer": self.peer, "kind": self.kind}
        path = self.entry.loggable(self.path)
        return {**facts, "path": path} if self._request is not None else facts

    @property
    def context(self) -> Context:
        """The context that all connections share."""
        context: Context = self.factory.context
        return context

    def locate(self, segments: list[str]) -> Place:
        """Finds the parts of the path.

        Args:
            segments: the path after `/ws/<kind>`, percent-encoded, without empty last part.

        Raises:
            Refusal: 404; 400 for an invalid name.
        """
        return self.entry.locate(segments, self.context.current.config)

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Decides whether the handshake is answered with 101.

        Args:
            place: the parts of the path.
            params: the query, as `urllib.parse.parse_qs` returns it.

        Raises:
            Refusal: the answer is its status and body.
            Unavailable: the answer is 503 with its code.
        """
        raise NotImplementedError

    def left(self) -> None:
        """The connection has ended: undoes `admit`, and `opened` if that was called."""

    def connectionMade(self) -> None:
        """The front door has handed over a connection."""
        self._number = next(_ids)
        if self.opening is None:
            super().connectionMade()
        else:
            self.opening.begin(self)
        address = self.transport.getPeer()
        self.address = host = forwarded.host_of(address)
        if host == forwarded.UNIX:
            self.peer = host
        else:
            self.peer = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"

    def onConnect(  # type: ignore[override]
        self, request: ConnectionRequest
    ) -> "Deferred[None]":
        """Autobahn has understood a handshake: admits it, at once or later."""
        if self._odd_origin is not None:
            request.headers["origin"] = self._odd_origin
        target = urlsplit(private.request_target(self, request))
        # Autobahn drops parameters without a value
        request.params = parse_qs(target.query, keep_blank_values=True)
        # Autobahn's path lacks everything after a semicolon, and has raw UTF-8 decoded as Latin-1
        path = target.path.encode("latin-1").decode(errors="replace")
        return self._consider(request, path, target.netloc if target.scheme else None)

    def _begin_usual(self, head: Head, data: bytes) -> None:
        """Begins the admission of a usual head, in place of Autobahn's `onConnect`."""
        request = private.set_head(self, head, data)
        request.params = head.params
        self.opening_size, self._key = len(data), head.key
        admission = self._consider(request, head.path)
        admission.addCallbacks(self.succeedHandshake, self._denied)

    def _denied(self, failure: Failure) -> None:
        """Refuses the handshake, as Autobahn does, with what `_admit` raised."""
        denied = failure.value
        if isinstance(denied, ConnectionDeny):
            self.failHandshake(str(denied.reason), denied.code)
        else:
            self.failHandshake(f"Internal server error: {denied}", 500)

    def _consider(
        self, request: ConnectionRequest, path: str, host: str | None = None
    ) -> "Deferred[None]":
        """Admits a handshake, at once or later.

        Args:
            request: the handshake, with its whole query.
            path: the path of its target, percent-encoded.
            host: the host of a target in the absolute form.

        Returns:
            Fails with ConnectionDeny if it is refused.
        """
        # `deflate` has read the offers; Autobahn would answer other parameters
        self.websocket_extensions = []
        self._request = request
        self._segments = names.split_path(path)[1]
        self._find_client(request)
        admission = Deferred.fromCoroutine(self._admit(request, host))
        if not admission.called:
            self._admission = admission
            self.context.connections.arrives(admission)
            admission.addTimeout(
                self.context.current.config.keepalive.handshake_timeout,
                self.context.clock,
                self._admission_timed_out,
            )
        return admission

    def _find_client(self, request: ConnectionRequest) -> None:
        """Sets `peer` to the client's own address if a trusted proxy forwards it."""
        settings = self.context.current.config.proxy
        value = request.headers.get(settings.header)
        if value is None:
            return
        proxies = forwarded.proxies(settings.trusted, settings.header)
        host, hinted = forwarded.host_of(self.transport.getPeer()), proxies.ignored
        self.address = client = proxies.client(host, value)
        if client != host:
            self.peer = client
        if proxies.ignored and not hinted:
            self._log.warn(
                "{host} sends {header}, but is not in [proxy] trusted: its own address is shown "
                "for all clients behind it",
                host=host,
                header=settings.header,
            )

    def _read_asked(self, request: ConnectionRequest, host: str | None) -> Asked:
        """The hosts and the origin that the handshake names."""
        settings = self.context.current.config.proxy
        proxies = forwarded.proxies(settings.trusted, settings.header)
        peer = forwarded.host_of(self.transport.getPeer())
        return read_asked(request.headers.get, host, proxies, peer)

    async def _admit(self, request: ConnectionRequest, host: str | None) -> None:
        context = self.context
        try:
            context.admission.check_address(self.address)
            self.seat.check_handshake(self.address)
            self.identity = await context.admission.admit(
                self.kind,
                asked=self._read_asked(request, host),
                token=find_token(request),
                cookies=request.headers.get("cookie"),
                connections=len(context.connections),
            )
            place = self.locate(list(self._segments))
            allowed = context.admission.check_rights(self.identity, self.entry, place)
            if len(allowed) < len(names.DIRECTIONS):  # few connections have these of their own
                self.may_send, self.may_view = "send" in allowed, "view" in allowed
            context.names.enter(self.kind, place.name, self.address)
            self._asked, self._name = True, place.name
            await self.admit(place, request.params)
            context.admission.check_again(self.identity, self.address, len(context.connections))
        except CancelledError:
            raise
        except Refusal as refusal:
            self._refuse(refusal)
        except Unavailable as error:
            self._refuse(Refusal(error.code, error.sentence, status=error.status))
        except Exception:
            self._log.failure("{conn} {path}: admitting it failed", **self.facts)
            self._refuse(Refusal(ErrorCode.INTERNAL))

    def _refuse(self, refusal: Refusal) -> None:
        """Refuses with a status; with `?refuse=close`, accepts and closes instead.

        A browser's script cannot read the status of a refused handshake; it can read a close code.
        """
        # without the frames that raised it, which hold this connection
        self._refusal = refusal.with_traceback(None)
        if refusal.is_failed_attempt:
            self.seat.failed()
        assert self._request is not None
        self._log_refusal(refusal, self.entry.loggable(self.path))
        refuse = self._request.params.get("refuse", ())
        if "close" not in refuse or not self.context.connections.may_refuse_with_close:
            raise ConnectionDeny(refusal.status, refusal.message)

    def _admission_timed_out(self, result: object, timeout: float) -> Failure | None:
        try:
            self._refuse(
                Refusal(
                    ErrorCode.STORE_UNAVAILABLE, "A store that is needed did not answer in time."
                )
            )
        except ConnectionDeny as denied:
            return Failure(denied)
        return None

    def succeedHandshake(self, res: object) -> None:
        """Answers with 101, unless the peer disconnected during `admit`."""
        self._admission = None
        if self.state == self.STATE_CONNECTING:
            assert self._request is not None
            protocol = self._choose_subprotocol(self._request.protocols)
            self.resume_reading(Pause.EARLY)
            if self.opening is None or self._key is None:
                headers = {"Sec-WebSocket-Extensions": self.extension} if self.extension else {}
                super().succeedHandshake((protocol, headers))
            else:
                self.opening.finish(self, self._key, protocol)
            if self._early:
                early, self._early = self._early, b""
                self.dataReceived(early)

    def _choose_subprotocol(self, offered: Sequence[str]) -> str | None:
        """The subprotocol of the answer; logs why a client that needs another one will leave."""
        chosen = choose(offered)
        if offered and chosen is None:
            self._log.info(
                "{conn} {path} from {peer} offers the subprotocols {offered}; none is answered: "
                "browsers and most libraries end the connection then; relayd speaks relayd alone",
                offered=shown(offered),
                **self.facts,
            )
        return chosen

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Answers with an error status, unless the peer disconnected meanwhile."""
        self._admission = None
        if self.state == self.STATE_CONNECTING:
            super().failHandshake(reason, code, responseHeaders)

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        """Writes a refusal as docs/protocol.md describes it: a flat JSON body with its length."""
        refusal = self._refusal
        if refusal is None:
            refusal = Refusal(_CODES.get(code, ErrorCode.BAD_REQUEST), f"{reason}.", status=code)
            # what it quotes of the head may hold a token
            self._log_refusal(refusal, printable(re.split("[\"':]", reason)[0].strip()))
        self.write_refusal(refusal, responseHeaders or ())

    def write_refusal(self, refusal: Refusal, headers: Any) -> None:
        """Writes a refusal as an HTTP answer, with further fields of its head."""
        self.transport.write(encode_refusal(refusal, headers))

    def _log_refusal(self, refusal: Refusal, what: str) -> None:
        self.context.tally.refused[refusal.code] += 1
        self._log.info(
            "{conn} {what} from {peer} refused: {status} {code}{because}",
            what=what,
            status=refusal.status,
            code=refusal.code.value,
            because=self._page() if refusal.code in _OF_PAGES else "",
            **self.facts,
        )

    def _page(self) -> str:
        """The origin and the host of a handshake, for an operator who has to allow them."""
        get = self._request.headers.get if self._request is not None else {}.get
        origin, host = (printable(get(name, "none")[:_LONGEST]) for name in ("origin", "host"))
        return f": its origin is {origin}, its host {host}"

    def dataReceived(self, data: bytes) -> None:
        """Passes bytes to Autobahn; keeps those behind the head until the connection is open."""
        if self._admission is not None:
            self._early += data
        elif self.state != self.STATE_CONNECTING or private.unparsed(self):
            feed_autobahn(self, data)
        else:
            end = data.find(b"\r\n\r\n") + 4
            if end > 3:
                data, self._early = data[:end], data[end:]
            head = None if self.opening is None else read_head(data)
            if head is not None:
                self._begin_usual(head, data)
            else:
                if end > 3:
                    data, self._odd_origin = mend_head(data)
                feed_autobahn(self, data)
        limit = self.context.current.config.limits.max_head_size
        if len(self._early) > limit and self._admission is not None:
            self.pause_reading(Pause.EARLY)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection has ended, in any state."""
        super().connectionLost(reason)
        self.is_closed.addBoth(lambda connection: None)  # its result is this connection
        self.seat.leave()
        self._leave()
        if self._admission is not None:
            self._log.info("{conn} {path}: {peer} went away before it was let in", **self.facts)
            self._admission.cancel()

    def _leave(self) -> None:
        """Calls `left` once, if `admit` was called."""
        if not self._asked:
            return
        self._asked = False
        self.context.names.leave(self.kind, self._name, self.address)
        try:
            self.left()
        except Exception:
            self._log.failure("{conn} {path}: leaving failed", **self.facts)
