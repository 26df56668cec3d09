"""What comes in: small text frames by the shortest way, all sockets through one epoll instance.

Sits beside `outbox`: that one writes to a connection, this one reads from it. A readable socket
costs Twisted's reactor a logging context, a dispatch and four calls before a protocol sees a byte.
Here one reader, the `Poller`, stands for all connections in the reactor: an epoll instance within
the reactor's own (epoll(7) allows it), whose sockets are read in one loop.
"""

import functools
import select
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd import wire
from relayd.logs import Logger

_CHUNK = 64 * 1024
_MOST_EVENTS = 512


class Owner(Protocol):
    """Whoever an inlet reads for."""

    def parse(self, data: bytes) -> None:
        """Takes bytes that are not a short frame, or not known to be one."""

    def failed(self) -> None:
        """`take` raised the exception that is being handled."""


class Inlet:
    """The bytes of one connection.

    Attributes:
        owner: gets what is not read here.
        take: gets the payload of every short text frame, and False: it is not binary.
        short: whether the next byte begins a frame: the WebSocket is open and the owner's parser
            holds nothing.
        longest: bytes of payload that a short frame may have, 125 at most.
        heard: set whenever bytes come.
        transport: whose socket is read, where the poller does it.
        recv: that socket's.
        taken: how many messages came.
    """

    __slots__ = ("heard", "longest", "owner", "recv", "short", "take", "taken", "transport")

    owner: Owner
    take: Callable[[bytes, bool], None]
    recv: Callable[[int], bytes]
    transport: Any

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.short = False
        self.longest = 0
        self.taken = 0
        self.heard = True

    def feed(self, data: bytes) -> None:
        """Reads bytes that came in: short frames here, the rest is for the owner.

        Both ways have the same effect for every input; the short one costs a tenth.
        """
        self.heard = True
        if self.short:
            read, longest = wire.read_short_frame, self.longest
            at, end = 0, len(data)
            while at < end and self.short:
                found = read(data, at, longest)
                if found is None:
                    break
                payload, at = found
                self.taken += 1
                try:
                    self.take(payload, False)
                except Exception:
                    self.owner.failed()
            if at == end:
                return
            data = data[at:]
        self.owner.parse(data)

    def ready(self) -> Exception | None:
        """Reads the socket, which has something to read; says why if that was its end."""
        try:
            data = self.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.feed(data)
        return None


@implementer(IReadDescriptor)
class Poller:
    """Reads all connections of the process.

    Args:
        reactor: reads the poller.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._inlets: dict[int, Inlet] = {}

    def start(self) -> None:
        """Begins to read."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Ends it; no connection is left then."""
        self._reactor.removeReader(self)
        self._epoll.close()

    def watch(self, port: Any) -> None:
        """Reads the connections that a listening port accepts from now on, if it can."""
        if isinstance(port, unix.Port):
            port.transport = functools.partial(_UnixServer, self)  # type: ignore[assignment]
        elif isinstance(port, tcp.Port):
            port.transport = functools.partial(_TcpServer, self)  # type: ignore[assignment]

    def add(self, inlet: Inlet) -> None:
        """Reads an inlet's socket. No effect if it is being read."""
        descriptor = inlet.transport.fileno()
        if self._inlets.get(descriptor) is not inlet:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._inlets[descriptor] = inlet

    def remove(self, inlet: Inlet) -> None:
        """Reads it no more. No effect if it is not being read."""
        descriptor = inlet.transport.fileno()
        if self._inlets.get(descriptor) is inlet:
            del self._inlets[descriptor]
            self._epoll.unregister(descriptor)

    def doRead(self) -> None:
        """Some sockets have something to read, or have ended (`IReadDescriptor`)."""
        inlets = self._inlets
        for descriptor, _ in self._epoll.poll(0, _MOST_EVENTS):
            # one that was read before may have ended it
            inlet = inlets.get(descriptor)
            if inlet is None:
                continue
            why: Exception | None
            try:
                why = inlet.ready()
            except Exception as error:
                self._log.failure("reading a connection failed")
                why = error
            if why is not None:
                self._end(inlet, why)

    def _end(self, inlet: Inlet, why: Exception) -> None:
        """What the reactor does with a socket that has ended."""
        self.remove(inlet)
        transport = inlet.transport
        try:
            if isinstance(why, ConnectionDone):
                transport.readConnectionLost(Failure(why))
            else:
                transport.connectionLost(Failure(why))
        except Exception:
            self._log.failure("ending a connection failed")

    def fileno(self) -> int:
        """The epoll instance's (`IReadDescriptor`)."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """What the reactor's log calls it."""
        return "relayd"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended (`IReadDescriptor`)."""


class PolledTransport:
    """A server transport of Twisted whose socket a poller reads.

    Attributes:
        inlet: where its bytes come in; first all of them are for its protocol.
    """

    inlet: Inlet
    _poller: Poller

    def __init__(self, poller: Poller, sock: Any, *args: Any) -> None:
        self._poller = poller
        self.inlet = Inlet(self)
        self.inlet.transport = self
        self.inlet.recv = sock.recv
        super().__init__(sock, *args)  # type: ignore[call-arg]

    def parse(self, data: bytes) -> None:
        """What came in is for the protocol (`Owner`)."""
        self.protocol.dataReceived(data)  # type: ignore[attr-defined]

    def failed(self) -> None:
        """Never called: nothing short is read before a WebSocket is open (`Owner`)."""

    def startReading(self) -> None:
        """Reads the socket from now on."""
        self._poller.add(self.inlet)

    def stopReading(self) -> None:
        """Reads it no more."""
        self._poller.remove(self.inlet)


class _TcpServer(PolledTransport, tcp.Server):
    """A TCP connection."""


class _UnixServer(PolledTransport, unix.Server):
    """A connection through a unix socket."""
