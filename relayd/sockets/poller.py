"""Reads all sockets through one epoll instance, in one compiled loop.

Sits beside `outbox`, which writes to a connection, and `entrance`, which reads its first bytes. A
readable socket costs Twisted's reactor a logging context, a dispatch and four calls before a
protocol gets a byte. The epoll instance of the `Poller` contains all connections and the reactor's
own instance (epoll(7) allows that); the reactor waits for the poller's, and gets a turn when it has
something to do. The loop makes the `Poller.calls` between reads. (A reactor without epoll, or one
that `private` does not know, has the poller as a reader.) Short whole text frames go straight to
the `receive` of an `Inlet`; all other bytes go to the parser of its owner.
"""

import fcntl
import functools
import select
import sys
import termios
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import abstract, tcp, unix
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd import private
from relayd.logs import Logger
from relayd.native.calls import Calls
from relayd.native.inlet import Inlet
from relayd.native.reading import ReactorEpoll, Turns
from relayd.native.sending import Sender
from relayd.sockets.entrance import Entrance

__all__ = ["Inlet", "Owner", "PolledTransport", "Poller"]


class Owner(Protocol):
    """The owner of an inlet, whose connection the inlet reads."""

    def parse(self, data: bytes) -> None:
        """Parses bytes that are not a short frame, or not known to be one."""

    def failed(self) -> None:
        """Handles the current exception (`sys.exc_info`), which `receive` raised."""

    def hold_reading(self) -> None:
        """Stops reading, since a group holds the connection."""

    def read_on(self) -> None:
        """Reads again, since no group holds the connection any more."""

    def over_rate(self) -> None:
        """Handles that more came than `Inlet.limit` allows."""

    def abort(self) -> None:
        """Drops the connection, since too much came after its close."""


@implementer(IReadDescriptor)
class Poller:
    """Reads all connections of the process; one for each reactor.

    Args:
        reactor: an `EPollReactor` waits for the poller's epoll instance in place of its own, if
            `private` knows its attributes; any other has the poller as a reader.
        out_of_files: called with the number of connections that were dropped, because no open file
            was left for them.

    Attributes:
        calls: `hub.Timing`, for frequent calls. The loop that reads makes the calls; the reactor
            does before `start`, after `stop`, and where it has the poller as a reader.
        entrance: accepts connections and reads their first bytes.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, out_of_files: Callable[[int], object] = lambda dropped: None
    ) -> None:
        self.calls = Calls(reactor)
        self.entrance = Entrance(reactor, out_of_files=out_of_files)
        self._reactor = reactor
        self._epoll = select.epoll()
        self._inlets: dict[int, Inlet] = {}
        self._turns = Turns(self._epoll.fileno(), self._inlets, self._end)
        self._reactor_epoll: ReactorEpoll | None = None
        self._woken: IDelayedCall | None = None

    def start(self) -> None:
        """Begins to read."""
        reactor = self._reactor
        names = private.reactor_names(reactor) if isinstance(reactor, EPollReactor) else None
        if names is not None:
            self._reactor_epoll = ReactorEpoll(reactor, names, self._epoll, self._turns, self.calls)
        else:
            self._reactor.addReader(self)
        self.entrance.start()

    def stop(self) -> None:
        """Ends the reading; called without connections. The reactor makes the calls from now on."""
        self.entrance.stop()
        if self._reactor_epoll is not None:
            self._reactor_epoll.release()
        else:
            self._reactor.removeReader(self)
        if self._woken is not None:
            self._woken.cancel()
            self._woken = None
        self._epoll.close()

    def watch(self, port: Any) -> None:
        """Reads the connections that a TCP or unix port accepts from its `startReading` on."""
        if isinstance(port, tcp.Port):
            transport = _UnixServer if isinstance(port, unix.Port) else _TcpServer
            port.transport = functools.partial(transport, self)  # type: ignore[assignment]
            self.entrance.watch(port)

    def add(self, inlet: Inlet) -> None:
        """Reads an inlet's socket. No effect if it is being read."""
        descriptor = inlet.descriptor
        if self._inlets.get(descriptor) is not inlet:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._inlets[descriptor] = inlet
            self.later(inlet)

    def remove(self, inlet: Inlet) -> None:
        """Stops reading an inlet's socket. No effect if it is not being read."""
        descriptor = inlet.descriptor
        if self._inlets.get(descriptor) is inlet:
            del self._inlets[descriptor]
            self._epoll.unregister(descriptor)

    def read(self, inlet: Inlet) -> None:
        """Reads an inlet's socket once, now."""
        self._turns.read_one(inlet)
        self._wake()

    def later(self, inlet: Inlet) -> None:
        """Parses the bytes of an inlet that wait, when others have had their turn."""
        self._turns.later(inlet)
        self._wake()

    def doRead(self) -> None:
        """Reads the sockets that are readable or have ended (`IReadDescriptor`)."""
        self._turns.read_ready()
        self._wake()

    def _wake(self) -> None:
        """Has the reactor call again if something is left to read that no descriptor tells it."""
        if self._turns.busy and self._reactor_epoll is None and self._woken is None:
            self._woken = self._reactor.callLater(0, self._read_on)

    def _read_on(self) -> None:
        self._woken = None
        self.doRead()

    def _end(self, inlet: Inlet, why: BaseException) -> None:
        """Ends a connection as the reactor does, since its socket has ended or its owner raised."""
        if not isinstance(why, ConnectionDone | ConnectionLost):
            self._log.failure("reading a connection failed", Failure(why))
        transport = inlet.transport
        try:
            self.remove(inlet)
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
        """The name in the reactor's log."""
        return "relayd"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended (`IReadDescriptor`)."""


class PolledTransport:
    """A server transport of Twisted whose socket a poller reads.

    A write goes to the kernel at once while no earlier bytes wait. Twisted's way (a buffer, a turn
    of the reactor, two calls of epoll_ctl) is for the bytes that the kernel does not accept.

    Attributes:
        inlet: reads its bytes; until a WebSocket is open, all of them go to its protocol.
        sender: sends straight to its socket, past the transport's buffer.
        empty: whether no bytes wait in the transport's buffer and the connection is not about to
            end: False from `startWriting` to `stopWriting`, and for good after `abortConnection`.
    """

    inlet: Inlet
    sender: Sender
    empty = True
    _poller: Poller
    _arrived = False
    _written = 0

    def __init__(self, poller: Poller, sock: Any, *args: Any) -> None:
        self._poller = poller
        self.inlet = Inlet(self)
        self.inlet.transport = self
        self.inlet.descriptor = sock.fileno()
        self.sender = Sender(sock.fileno())
        super().__init__(sock, *args)  # type: ignore[call-arg]

    def parse(self, data: bytes) -> None:
        """Passes bytes to the protocol (`Owner`)."""
        self.protocol.dataReceived(data)  # type: ignore[attr-defined]

    def failed(self) -> None:
        """Never called: `receive` is called only after a WebSocket is open (`Owner`)."""

    def hold_reading(self) -> None:
        """Never called: only an open WebSocket sends to a group (`Owner`)."""

    def read_on(self) -> None:
        """Never called, as `hold_reading` (`Owner`)."""

    def over_rate(self) -> None:
        """Never called: only what comes on an open WebSocket is limited (`Owner`)."""

    def abort(self) -> None:
        """Never called: only an open WebSocket is closed (`Owner`)."""

    def later(self) -> None:
        """Parses the bytes of the inlet that wait, when others have had their turn."""
        self._poller.later(self.inlet)

    def startReading(self) -> None:
        """Reads the socket from now on."""
        if self._arrived:
            self._poller.add(self.inlet)
        else:
            self._poller.entrance.add(self)

    def stopReading(self) -> None:
        """Stops reading the socket."""
        if self._arrived:
            self._poller.remove(self.inlet)
        else:
            self._poller.entrance.remove(self)

    def arrive(self) -> None:
        """Has the poller read the socket from now on, which the entrance has read so far."""
        self._poller.entrance.remove(self)
        self._arrived = True
        self._poller.add(self.inlet)

    def doRead(self) -> None:
        """Reads the first bytes, or the end; the poller reads what follows (`IReadDescriptor`)."""
        self.arrive()
        self._poller.read(self.inlet)

    def write(self, data: bytes) -> None:
        """Sends bytes at once, or after those that wait (`ITransport`)."""
        transport: Any = self
        # the reactor asks a pull producer for more, when it has written the producer's bytes
        pulls = transport.producer is not None and not transport.streamingProducer
        if self.empty and data and transport.connected and not transport.TLS and not pulls:
            try:
                sent = self.sender(data)
            except OSError:
                sent = 0  # the reactor's own write fails, too, and ends the connection
            if sent == len(data):
                return
            data = data[sent:]
        super().write(data)  # type: ignore[misc]

    def writeSomeData(self, data: bytes) -> "int | ConnectionLost":  # noqa: N802
        """Writes bytes that waited (`FileDescriptor`)."""
        written: int | ConnectionLost = super().writeSomeData(data)  # type: ignore[misc]
        if isinstance(written, int):
            self._written += written
        return written

    @property
    def progress(self) -> int:
        """How many of the bytes that waited the peer has acknowledged.

        The kernel takes more only when a third of its buffer is free, which may be a megabyte.
        """
        if not self.connected:  # type: ignore[attr-defined]
            return self._written
        unread = fcntl.ioctl(self.inlet.descriptor, termios.TIOCOUTQ, bytes(4))
        return self._written - int.from_bytes(unread, sys.byteorder)

    def startWriting(self) -> None:  # noqa: N802
        """Bytes wait, or an end: the reactor writes from now on (`IWriteDescriptor`)."""
        self.empty = False
        super().startWriting()  # type: ignore[misc]

    def stopWriting(self) -> None:  # noqa: N802
        """No bytes wait any more: further ones go to the kernel at once."""
        super().stopWriting()  # type: ignore[misc]
        self.empty = True

    def abortConnection(self) -> None:
        """Ends the connection at once; further writes are dropped (`ITCPTransport`)."""
        super().abortConnection()  # type: ignore[misc]
        self.empty = False

    @property
    def port(self) -> Any:
        """The listening port that accepted the connection."""
        return self.server  # type: ignore[attr-defined]

    @property
    def movable(self) -> bool:
        """Whether another process may serve the connection: it is open, and its buffer is empty."""
        transport: Any = self
        return bool(transport.connected and not transport.disconnecting and self.empty)

    def detach(self) -> None:
        """Closes this process' copy of the socket, which another process serves; TCP stays open."""
        transport: Any = self
        self.sender.end()
        abstract.FileDescriptor.connectionLost(transport, Failure(CONNECTION_DONE))
        transport.socket.close()  # without a shutdown
        del transport.protocol, transport.socket, transport.fileno

    def drop(self) -> None:
        """Resets the connection and closes its socket before this returns.

        `abortConnection` does so in the next turn of the reactor, before which a port may accept
        dozens of connections, and use up the files of the process.
        """
        self.connectionLost(Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """Stops sending before the socket is closed, since its descriptor may be reused at once."""
        self.sender.end()
        super().connectionLost(reason)  # type: ignore[misc]
        # what a connection held is free now, without the garbage collector
        inlet = self.inlet
        inlet.owner, inlet.observer, inlet.transport = _NOBODY, None, None
        inlet.receive = _NOBODY.receive


class _Nobody:
    """The owner of an inlet whose connection has ended (`Owner`): does nothing."""

    def _nothing(self, *arguments: object) -> None:
        pass

    parse = receive = failed = hold_reading = read_on = over_rate = abort = _nothing


_NOBODY = _Nobody()


class _TcpServer(PolledTransport, tcp.Server):
    """A TCP connection."""


class _UnixServer(PolledTransport, unix.Server):
    """A connection through a unix socket."""
