"""Listening ports: opened as `[server] listen` says, or inherited from a process that opened them.

Sits under `node` and `workers`, which open and close them. Knows Twisted's endpoints; the factory
behind the ports is an argument. An `ssl:` endpoint is a `tcp:` one with TLS of `relayd.tls` on it.
"""

import functools
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast, overload

from twisted.internet import endpoints, tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd import private
from relayd.tls import descriptions
from relayd.tls.pair import BrokenPair
from relayd.tls.served import Certificate, Certificates

BACKLOG = 4096
"""Connections that the kernel keeps for a port until they are accepted.

The default of net.core.somaxconn since Linux 5.4.

Twisted's default is 50. The kernel drops the SYNs of all others, and their clients try again after
1, 3 and 7 s (tcp(7), tcp_syn_retries). net.core.somaxconn cuts it (listen(2)).
"""
NAMED_BACKLOG = re.compile(r":backlog=(\d+)")
"""Finds the backlog in the description of an endpoint that names one."""


class Ports(Sequence[IListeningPort]):
    """The listening ports of one process; empty before `open` and after `close`.

    Args:
        listener: where the endpoints listen: the reactor, or `Inherited`.
        descriptions: Twisted endpoints.
        watch: called with each port as soon as it is open.
        certificates: of the endpoints with TLS.
    """

    def __init__(
        self,
        listener: Any,
        descriptions: Sequence[str],
        watch: Callable[[IListeningPort], object],
        certificates: Certificates,
    ) -> None:
        self._listener = listener
        self._descriptions = tuple(descriptions)
        self._watch = watch
        self._certificates = certificates
        self._ports: list[IListeningPort] = []

    def open(self, factory: IProtocolFactory) -> None:
        """Opens the ports, while the process may still be root; accepts no connection yet.

        Args:
            factory: gets the connections of all of them.

        Raises:
            SystemExit: a port cannot be opened; the text says which and why.
        """
        for description in self._descriptions:
            port = self._open_one(description, factory)
            self._watch(port)
            port.stopReading()  # type: ignore[attr-defined]
            self._ports.append(port)

    def _open_one(self, description: str, factory: IProtocolFactory) -> IListeningPort:
        try:
            endpoint = self._endpoint(description)
        except BrokenPair as broken:
            raise SystemExit(f"relayd: cannot listen on {description}: {broken}") from broken
        opened: list[IListeningPort] = []
        failures: list[Failure] = []
        endpoint.listen(factory).addCallbacks(opened.append, failures.append)
        for failure in failures:
            error = failure.value
            reason = error.socketError if isinstance(error, CannotListenError) else error
            raise SystemExit(f"relayd: cannot listen on {description}: {reason}")
        return opened[0]

    def _endpoint(self, description: str) -> IStreamServerEndpoint:
        """An endpoint, with `BACKLOG` unless its description names another."""
        if description.startswith("haproxy:ssl:"):
            return proxyEndpoint(self._endpoint(description.removeprefix("haproxy:")))
        if description.startswith("ssl:"):
            parsed = descriptions.parse(description)
            plain = self._endpoint(parsed.plain)
            return _Encrypted(plain, self._certificates, self._certificates.find(parsed.files))
        if not NAMED_BACKLOG.search(description):
            try:
                longest = f"{description}:backlog={BACKLOG}"
                return endpoints.serverFromString(self._listener, longest)
            except (TypeError, ValueError):
                pass  # the backlog is named by its position, or endpoints of this kind have none
        return endpoints.serverFromString(self._listener, description)

    def accept(self) -> None:
        """Accepts connections from now on."""
        for port in self._ports:
            port.startReading()  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Closes the ports."""
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self._ports.clear()

    def places(self) -> list[str]:
        """The addresses of the ports, for people (`describe`).

        The reactor closes a port whose socket another process has shut down; such a port has no
        address.
        """
        return [describe(port) for port in self._ports if getattr(port, "connected", True)]

    def __len__(self) -> int:
        return len(self._ports)

    @overload
    def __getitem__(self, index: int) -> IListeningPort: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[IListeningPort]: ...

    def __getitem__(self, index: int | slice) -> IListeningPort | Sequence[IListeningPort]:
        return self._ports[index]


@implementer(IStreamServerEndpoint)
class _Encrypted:
    """An endpoint whose connections speak TLS."""

    def __init__(
        self, plain: IStreamServerEndpoint, certificates: Certificates, certificate: Certificate
    ) -> None:
        self._plain = plain
        self._clock = certificates.clock
        self._certificate = certificate

    def listen(self, factory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Listens (`IStreamServerEndpoint`)."""
        encrypted = TLSMemoryBIOFactory(self._certificate, False, factory, self._clock)
        return self._plain.listen(encrypted)


def describe(port: IListeningPort) -> str:
    """The address of a listening port, as a URL for a browser where there is one."""
    address = port.getHost()
    if isinstance(address, UNIXAddress):
        return f"unix:{(address.name or b'').decode(errors='replace')}"
    if isinstance(address, IPv4Address | IPv6Address):
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address.host, address.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        encrypted = isinstance(getattr(port, "factory", None), TLSMemoryBIOFactory)
        scheme = "https" if encrypted else "http"
        return f"{scheme}://{host}:{address.port}"
    return str(address)


@functools.cache
def proxied_transport() -> type[ProtocolWrapper]:
    """The class of the transports behind a `haproxy:` endpoint (PROXY protocol).

    Twisted has no public name for it, but passes a factory of it to any endpoint that it wraps.
    """
    shown: list[Any] = []

    @implementer(IStreamServerEndpoint)
    class Endpoint:
        def listen(self, protocolFactory: Any) -> "Deferred[IListeningPort]":
            shown.append(protocolFactory)
            return Deferred()

    proxyEndpoint(Endpoint()).listen(Factory())
    found: type[ProtocolWrapper] = shown[0].protocol
    return found


def peer_of(sock: socket.socket) -> IAddress:
    """The address at the other end of a connection, as a listening port gives it to its factory.

    Raises:
        OSError: the peer has disconnected.
    """
    address = sock.getpeername()
    if sock.family == socket.AF_UNIX:
        return UNIXAddress(address)
    kind = IPv6Address if sock.family == socket.AF_INET6 else IPv4Address
    return kind("TCP", *address)


class Inherited:
    """Stands in for the reactor, for the endpoints of a worker.

    Each endpoint listens on the next of the sockets that another process has opened for the same
    descriptions; its address, mode and backlog are ignored. A second listen(2) would change the
    backlog, but the process that opened a socket has decided on it (`Backlog=` in a socket unit of
    systemd, whose default is the kernel's maximum), and cannot be asked. Closing such a port closes
    the socket in this process only. An endpoint that has no such socket is opened here.

    Args:
        reactor: reads the sockets.
        descriptors: of listening sockets, in the order of the endpoints; the ports own them. None
            for an endpoint without one.
    """

    def __init__(self, reactor: Any, descriptors: Sequence[int | None]) -> None:
        self._reactor = reactor
        self._descriptors = iter(descriptors)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """The next socket, IPv4 or IPv6 (`IReactorTCP`)."""
        descriptor = next(self._descriptors)
        if descriptor is None:
            return self._reactor.listenTCP(port, factory, backlog, interface)
        with socket.socket(fileno=descriptor) as opened:
            adopted: IListeningPort = self._reactor.adoptStreamPort(
                descriptor, opened.family, factory
            )
        return adopted

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """The next socket (`IReactorUNIX`)."""
        descriptor = next(self._descriptors)
        if descriptor is None:
            return self._reactor.listenUNIX(address, factory, backlog, mode, wantPID)
        # not adoptStreamPort: that sets the mode anew, and its port removes the file in the end
        return adopt_unix(self._reactor, socket.socket(fileno=descriptor), factory)


def adopt_unix(reactor: Any, listening: socket.socket, factory: IProtocolFactory) -> IListeningPort:
    """Accepts connections on a listening unix socket, and never touches its file.

    Args:
        reactor: reads the socket.
        listening: the port owns it from then on.
        factory: gets its connections.
    """
    port = _UnixPort(reactor, listening, factory)
    port.startListening()
    adopted: Any = port
    return cast(IListeningPort, adopted)


class _UnixPort(unix.Port):
    """A unix socket whose file belongs to another process."""

    def __init__(self, reactor: Any, listening: socket.socket, factory: IProtocolFactory) -> None:
        super().__init__(listening.getsockname(), factory, reactor=reactor)
        self._listening = listening
        private.close_alone(self)

    def startListening(self) -> None:
        opened = self._listening
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        self.socket = opened
        self.fileno = opened.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)
