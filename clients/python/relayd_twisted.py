"""relayd from Twisted: copy this and relayd_client.py; `pip install autobahn[twisted] pyOpenSSL`.

    from twisted.internet import reactor
    from relayd_client import Camera, Pose
    from relayd_twisted import TwistedNetwork

    def notice(event):
        if isinstance(event, Pose):
            print(event.x, event.z)

    camera = Camera("wss://relay.example", "demo", network=TwistedNetwork(reactor), on_event=notice)
    camera.connect()
    reactor.run()

All classes are those of relayd_client.py. `async with` and `async for` work in a coroutine of
`Deferred.fromCoroutine`, and `Phone.ask` returns a Deferred.
"""

import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from relayd_client import Link, Listener, Promise, Timer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.python.failure import Failure

__all__ = ["TwistedNetwork"]


class _Promise:
    """A Deferred that nobody has to await."""

    def __init__(self) -> None:
        self.awaitable: Deferred[None] = Deferred()

    def resolve(self) -> None:
        if not self.awaitable.called:
            self.awaitable.callback(None)

    def reject(self, error: Exception) -> None:
        if not self.awaitable.called:
            self.awaitable.errback(error)


class TwistedNetwork:
    """Connections of Autobahn.

    Args:
        reactor: for connections and timers.
        tls: the options of TLS connections, for a host; by default those of Twisted, which trust
            the authorities of the system.
    """

    def __init__(self, reactor: Any, tls: Callable[[str], Any] | None = None) -> None:
        self._reactor = reactor
        self._tls = tls

    def dial(self, url: str, headers: dict[str, str], listener: Listener) -> Link:
        """Begins to connect."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        secure = parts.scheme == "wss"
        endpoint: Any = HostnameEndpoint(self._reactor, host, parts.port or (443 if secure else 80))
        if secure:
            endpoint = wrapClientTLS(self._options(host), endpoint)
        return _TwistedLink(endpoint, url, headers, listener, self._reactor)

    def _options(self, host: str) -> Any:
        if self._tls is not None:
            return self._tls(host)
        from twisted.internet.ssl import optionsForClientTLS  # needs pyOpenSSL

        return optionsForClientTLS(host)

    def later(self, seconds: float, action: Callable[[], Any]) -> Timer:
        """Calls something later."""
        timer: Timer = self._reactor.callLater(seconds, action)
        return timer

    def settle(
        self, value: Any, done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Passes on a value, or what a coroutine or a Deferred gives."""
        if inspect.iscoroutine(value):
            value = Deferred.fromCoroutine(value)
        if isinstance(value, Deferred):
            value.addCallbacks(done, lambda failure: failed(failure.value))
        else:
            done(value)

    def promise(self) -> Promise:
        """Something to await: a Deferred."""
        return _Promise()


class _Protocol(WebSocketClientProtocol):
    """Autobahn's side of a link."""

    factory: "_Factory"
    transport: Any
    may_send = is_busy = False

    def pauseProducing(self) -> None:
        """The transport has much to send (`IPushProducer`)."""
        self.is_busy = True

    def resumeProducing(self) -> None:
        """The transport has sent it."""
        self.is_busy = False

    def stopProducing(self) -> None:
        """The connection ends."""

    def processHandshake(self) -> None:
        """Waits for the whole body of a refusal."""
        head, end, body = self.data.partition(b"\r\n\r\n")
        if end and b" 101 " not in head.split(b"\r\n")[0]:
            status, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            length = headers.get("content-length", "0")
            if length.isdigit() and len(body) < int(length):
                return
            words = status.split()
            if len(words) > 1 and words[1].isdigit():
                self.factory.link.refused(int(words[1]), headers, body)
        super().processHandshake()

    def onOpen(self) -> None:
        self.may_send = True
        self.transport.registerProducer(self, True)
        self.factory.link.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.link.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        close = self.remoteCloseCode
        self.factory.link.closed(
            *((close, self.remoteCloseReason or "") if close else (1006, reason or ""))
        )


class _Factory(WebSocketClientFactory):
    """Makes the protocol of a link, and logs nothing about it."""

    protocol: Any = _Protocol
    noisy = False

    def __init__(
        self, link: "_TwistedLink", url: str, headers: dict[str, str], reactor: Any
    ) -> None:
        super().__init__(url, headers=headers, reactor=reactor)
        self.link = link
        # the client has its own limits, and relayd's heartbeat notices dead networks
        self.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=2, failByDrop=False)


class _TwistedLink:
    """A connection of Autobahn."""

    def __init__(
        self, endpoint: Any, url: str, headers: dict[str, str], listener: Listener, reactor: Any
    ) -> None:
        self._listener = listener
        self._protocol: _Protocol | None = None
        self._over = False
        self._ended: list[Deferred[None]] = []
        self._dialling = endpoint.connect(_Factory(self, url, headers, reactor))
        self._dialling.addCallbacks(self._dialled, self._failed)

    @property
    def is_busy(self) -> bool:
        return self._protocol is not None and self._protocol.is_busy

    def send(self, text: str) -> None:
        if self._protocol is not None:
            self._protocol.sendMessage(text.encode())

    def close(self) -> None:
        if self._protocol is not None and self._protocol.may_send:
            self._protocol.sendClose(1000)
        else:
            self.abort()

    def abort(self) -> None:
        if self._protocol is None:
            self._dialling.cancel()
        else:
            self._protocol.transport.abortConnection()

    def pause(self) -> None:
        if self._protocol is not None:
            self._protocol.transport.pauseProducing()

    def resume(self) -> None:
        if self._protocol is not None:
            self._protocol.transport.resumeProducing()

    def ended(self) -> "Deferred[None]":
        ended: Deferred[None] = Deferred()
        if self._over:
            ended.callback(None)
        else:
            self._ended.append(ended)
        return ended

    # -- from Autobahn

    def _dialled(self, protocol: _Protocol) -> None:
        self._protocol = protocol

    def _failed(self, failure: Failure) -> None:
        self._finish(lambda: self._listener.failed(str(failure.value)))

    def opened(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self._listener.opened()

    def received(self, payload: bytes) -> None:
        self._listener.received(payload.decode(errors="replace"))

    def refused(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._finish(lambda: self._listener.refused(status, headers, body))

    def closed(self, code: int, reason: str) -> None:
        self._finish(lambda: self._listener.closed(code, reason))

    def _finish(self, tell: Callable[[], None]) -> None:
        if self._over:
            return
        self._over = True
        tell()
        for ended in self._ended:
            ended.callback(None)
