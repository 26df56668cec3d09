"""One port for WebSocket and HTTP: reads each request head and dispatches the connection.

The first protocol of every connection. Sits below relays and web, and gets their factories as
arguments. A head that requests a WebSocket or events moves the connection to the relay's protocol.
Any other head goes to a twisted.web channel, which returns the connection after each answer, so
that a proxy may reuse a kept-alive connection for an upgrade. Where TLS has chosen h2, `http2`
takes over.
"""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.server import Site

from relayd.config.current import Current
from relayd.edge.channel import Channel
from relayd.edge.dispatch import Relay, Relays
from relayd.edge.dropping import Dropped, drop
from relayd.edge.half_closed import HalfClosing
from relayd.edge.handover import Handover
from relayd.edge.http2 import Http2
from relayd.edge.ports import proxied_transport
from relayd.edge.refusal import encode_refusal
from relayd.edge.replacing import replace_protocol
from relayd.edge.seats import Seat, Seats
from relayd.edge.turns import Turns
from relayd.errors import ErrorCode, Refusal
from relayd.forwarded import host_of, proxies
from relayd.logs import Logger
from relayd.tally import Tally

_END = b"\r\n\r\n"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
_LINGER = 2.0


class FrontDoor(HalfClosing):
    """One TCP connection until its first request head is whole, and between HTTP requests."""

    _log = Logger()

    factory: "FrontDoorFactory"

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._head = b""
        self._searched = 0
        self._channel: Channel | None = None
        self._http2: Http2 | None = None
        self._busy = self._ended = self._late = self._refused = False
        self._pending = b""  # a head that waits for its turn
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Waits for a request head, at most `handshake_timeout` seconds."""
        if ITCPTransport.providedBy(self.transport):
            # Autobahn tries to, but reads an attribute that it has not set yet
            self.transport.setTcpNoDelay(True)
        self.factory.seats.fresh[self] = None
        self._start_timer()
        layer = self.transport
        while isinstance(layer, ProtocolWrapper):  # TLS is around the proxy's header, or in it
            if isinstance(layer, proxied_transport()):
                self._check_proxy(host_of(layer.getPeer()))
            layer = layer.transport

    def _check_proxy(self, host: str) -> None:
        """Drops a peer of a `haproxy:` port that is not a trusted proxy: its header could lie."""
        settings = self.factory.current.config.proxy
        if not proxies(settings.trusted, settings.header).trusts(host):
            self._log.warn("{host} is not in [proxy] trusted: dropped", host=host)
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Collects a head, or passes on the body of a request in progress."""
        if self._pending:
            self._pending += data
        elif self._busy:
            channel = self._http2 or self._channel
            assert channel is not None
            channel.dataReceived(data)
        elif not self._refused:
            self._head += data
            if not self._must_wait():
                self._look()

    def answered(self, rest: bytes) -> None:
        """The HTTP channel has answered; `rest` came behind that request."""
        self._busy = False
        self._head = rest
        self.factory.seats.kept[self] = None
        if rest:
            # no further bytes meanwhile: each turn takes one request, and may read hundreds
            self.transport.pauseProducing()
            self.factory.turns.later(self._go_on)
        self.end_if_half_closed()

    def is_answering(self) -> bool:
        """Whether a whole request waits for its answer (`half_closed.HalfClosing`)."""
        waits = (self._busy and self not in self.factory.seats.sending) or _END in self._head
        return waits and self._http2 is None and not self._refused

    def _go_on(self) -> None:
        """Looks at the next request of several that have come at once."""
        if self._channel is None or self._must_wait():
            return
        self.transport.resumeProducing()
        if self._head and not self._busy:
            self._look()

    def body_begins(self) -> None:
        """The head of an HTTP request is complete, and its body is not."""
        self.factory.seats.sending[self] = None

    def body_complete(self) -> None:
        """A whole HTTP request has arrived."""
        self.factory.seats.sending.pop(self, None)

    def answers_read(self) -> None:
        """The peer has read all answers so far."""
        if self._head and not self._busy:
            self._look()

    def _must_wait(self) -> bool:
        """Whether the next request waits until the peer reads its answers; reading pauses then."""
        if self._channel is None or not self._channel.waiting:
            return False
        self.transport.pauseProducing()
        return True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The peer has disconnected."""
        self._ended = True
        self._seat.leave()
        self.factory.seats.kept.pop(self, None)
        self.factory.seats.sending.pop(self, None)
        self.factory.understood(self)
        self._stop_timer()
        http2, self._http2 = self._http2, None
        if http2 is not None:
            http2.connectionLost(reason)
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.connectionLost(reason)

    def _look(self) -> None:
        """Hands the head over as soon as it is whole."""
        self.factory.seats.kept.pop(self, None)
        if self._searched == 0:
            # RFC 9112 section 2.2: an empty line before the request line is ignored
            self._head = self._head.lstrip(b"\r\n")
        end = self._head.find(_END, max(0, self._searched - 3))
        limit = self.factory.current.config.limits.max_head_size
        if end < 0 and len(self._head) <= limit:
            self._searched = len(self._head)
            if self._timer is None:
                # the first bytes of a further request on a kept-alive connection
                self._start_timer()
            return
        self._searched = 0
        if end < 0 or end + len(_END) > limit:
            self._refuse(
                Refusal(ErrorCode.HEAD_TOO_LARGE, f"The request head is over {limit} bytes.")
            )
            return
        self._stop_timer()
        self._seat.understood()
        data, self._head = self._head, b""
        relay = self.factory.relays.build(data, end + 2, self.transport.getPeer())
        if relay is not None:
            self._become(relay, data)
        elif data.startswith(_PREFACE) and self._speaks_http2():
            self._become_http2(data)
        else:
            self._busy, self._pending = True, data
            if not self.factory.turns.run(self._to_http):
                self._late = True
                self.transport.pauseProducing()
        self.factory.understood(self)

    def _become(self, relay: Any, data: bytes) -> None:
        """Makes the protocol of a relay that of the connection, here or in another worker."""
        if self._channel is not None:
            self._channel.leave()
            self._channel = None
        handover = self.factory.handover
        if handover is not None and handover.hand_over(self.transport, data):
            self._seat.leave()
            return
        relay.seat = self._seat
        replace_protocol(self.transport, self, relay)
        relay.dataReceived(data)

    def _speaks_http2(self) -> bool:
        """Whether client and server chose HTTP/2 in the handshake of TLS."""
        return self._channel is None and getattr(self.transport, "negotiatedProtocol", "") == b"h2"

    def _become_http2(self, data: bytes) -> None:
        self._http2 = self.factory.build_http2(self)
        self._busy = True
        self._http2.start()
        self._http2.dataReceived(data)

    def rests(self, rests: bool) -> None:
        """A connection of HTTP/2 has no request in progress, or has one."""
        if rests:
            self.factory.seats.kept[self] = None
        else:
            self.factory.seats.kept.pop(self, None)

    def _to_http(self) -> None:
        if self._ended:
            return
        if self._channel is None:
            self._channel = self.factory.build_channel(self)
            self._channel.makeConnection(self.transport)
        if self._late:
            self._late = False
            self.transport.resumeProducing()
        data, self._pending = self._pending, b""
        self._channel.begin(data)

    def _refuse(self, refusal: Refusal) -> None:
        """Answers, then discards input for a moment, since a reset could discard the answer."""
        self._refused = True
        self.factory.understood(self)
        self._head = b""
        self._stop_timer()
        self.factory.tally.refused[refusal.code] += 1
        self._log.info(
            "a request head from {peer} was refused: {status} {code}: {why}",
            peer=host_of(self.transport.getPeer()),
            status=refusal.status,
            code=refusal.code.value,
            why=refusal.message,
        )
        self.transport.write(encode_refusal(refusal))
        if ISSLTransport.providedBy(self.transport):
            # TLS has no half-closed connections in Twisted
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self._timer = self.factory.clock.callLater(_LINGER, self._abort)

    def _timed_out(self) -> None:
        self._timer = None
        if not self._head:
            self._abort()
            return
        seconds = self.factory.current.config.keepalive.handshake_timeout
        self._refuse(
            Refusal(ErrorCode.TIMEOUT, f"No whole request head came in {seconds:g} seconds.")
        )

    def drop(self) -> None:
        """Ends the connection at once, so that another one gets its seat (`seats.Visitor`)."""
        self._seat.yielded = True
        self.factory.seats.leaving += 1
        drop(self.transport)

    def end(self) -> None:
        """Ends the connection when its answers are sent, which may take a moment."""
        if self._http2 is not None:
            self._http2.close()
            return
        self._stop_timer()
        self._timer = self.factory.clock.callLater(_LINGER, self._abort)
        self.transport.loseConnection()

    def _abort(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _start_timer(self) -> None:
        self._timer = self.factory.clock.callLater(
            self.factory.current.config.keepalive.handshake_timeout, self._timed_out
        )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class FrontDoorFactory(Factory):
    """Builds the front doors of one listening process.

    Args:
        current: holds the configuration.
        clock: for the time a head may take.
        seats: of all TCP connections.
        relays: the factories by the name of their kind of path.
        unknown: answers WebSocket handshakes on any other path.
        site: answers plain HTTP.
        tally: refused heads are counted there.
        handover: hands WebSockets over to the worker of their group; None in a process without
            other workers.
    """

    noisy = False
    protocol = FrontDoor  # type: ignore[assignment]

    def __init__(
        self,
        current: Current,
        clock: IReactorTime,
        seats: Seats,
        relays: Mapping[str, Relay],
        unknown: Relay,
        site: Site,
        tally: Tally,
        handover: Handover | None = None,
    ) -> None:
        self.current = current
        self.clock = clock
        self.seats = seats
        self.turns = Turns(clock)
        self.relays = Relays(relays, unknown)
        self._site = site
        self.tally = tally
        self.handover = handover
        self._settling: list[Deferred[None]] = []

    def settled(self) -> "Deferred[None]":
        """Ends kept-alive connections; fires when each fresh one is dispatched, or has ended."""
        for door in tuple(self.seats.kept):
            door.end()
        settled: Deferred[None] = Deferred()
        self._settling.append(settled)
        self._report_if_settled()
        return settled

    def understood(self, door: FrontDoor) -> None:
        """A connection is dispatched, refused or ended."""
        self.seats.fresh.pop(door, None)
        self._report_if_settled()

    def _report_if_settled(self) -> None:
        if self._settling and not self.seats.fresh:
            settling, self._settling = self._settling, []
            for settled in settling:
                settled.callback(None)

    def doStart(self) -> None:
        """Starts the site too, which keeps the cached date of HTTP answers."""
        super().doStart()
        self._site.doStart()

    def doStop(self) -> None:
        """Stops the site too."""
        self._site.doStop()
        super().doStop()

    def logPrefix(self) -> str:
        """The name of the listening port in twistd's log."""
        return "relayd"

    def build_channel(self, door: FrontDoor) -> Channel:
        """A twisted.web channel for one connection, set up as `HTTPFactory.buildProtocol` does."""
        channel: Any = Channel(door, self.current)
        channel.callLater = self.clock.callLater
        channel.timeOut = self._site.timeOut
        channel.requestFactory = self._site.requestFactory
        channel.site = self._site
        channel.factory = self._site
        assert isinstance(channel, Channel)
        return channel

    def build_http2(self, door: FrontDoor) -> Http2:
        """What serves a connection of HTTP/2."""
        limit = self.current.config.limits.max_head_size
        site: Any = self._site

        def events(target: bytes) -> Any:
            relay = self.relays.build_events(target)
            if relay is not None:
                relay.seat = self.seats.share(host_of(door.transport.getPeer()))
            return relay

        return Http2(door.transport, site, self.clock, limit, site.closing, door.rests, events)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A front door for a connection that was just accepted, or its end if no seat is free."""
        seat = self.seats.take(host_of(addr))
        if seat is None:
            return Dropped()
        door = FrontDoor(seat)
        door.factory = self
        return door
