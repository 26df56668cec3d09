"""The entrance: accepts connections and reads their first bytes, a few milliseconds a turn.

Sits beside `poller`, which reads every connection from its second bytes on. After a restart,
thousands of clients connect in the same moment, and each handshake takes longer than relaying a
pose to a small group. If their sockets were read along with all others, a pose would wait behind
every handshake that came before it. So listening ports, connections that have sent nothing yet, and
the hand-over between workers have an epoll instance of their own, which the reactor reads as one of
its descriptors: it gets `ENTRANCE_TURN`, then everything else has its turn. Connections that are
not served yet wait in the kernel, in the order of arrival (epoll(7) returns ready descriptors in
turn), so a port accepts no faster than the handshakes of those that it has accepted are answered.
"""

import functools
import select
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.logs import Logger
from relayd.sockets.accepting import Accepting, Reserve

ENTRANCE_TURN = 0.002
"""Seconds; a turn ends after the handshake, or the `ACCEPTS`, in progress at that time."""
ACCEPTS = 8
"""Connections that a port accepts between two looks at the clock."""


@implementer(IReadDescriptor)
class Entrance:
    """Serves the readers of new connections; one for each reactor.

    Args:
        reactor: has the entrance as a reader, from `start` to `stop`.
        now: seconds, by a clock that is not set.
        out_of_files: called with the number of connections that were dropped, because no open file
            was left for them.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        now: Callable[[], float] = time.monotonic,
        out_of_files: Callable[[int], object] = lambda dropped: None,
    ) -> None:
        self._reactor = reactor
        self._now = now
        self._epoll = select.epoll()
        self._readers: dict[int, Any] = {}
        self._reserve = Reserve(out_of_files)

    def start(self) -> None:
        """Begins to serve the readers."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Stops serving; the ports must be closed before."""
        self._reactor.removeReader(self)
        self._reserve.close()
        self._epoll.close()

    def add(self, reader: Any) -> None:
        """Calls `doRead` of a reader (`IReadDescriptor`) whenever it is ready.

        No effect if the reader was added already.
        """
        descriptor = reader.fileno()
        if self._readers.get(descriptor) is not reader:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._readers[descriptor] = reader

    def remove(self, reader: Any) -> None:
        """Stops calling a reader. No effect if it was not added."""
        descriptor = reader.fileno()
        if self._readers.get(descriptor) is reader:
            del self._readers[descriptor]
            self._epoll.unregister(descriptor)

    def watch(self, port: tcp.Port) -> None:
        """Accepts here, from its `startReading` on, what comes through a listening port."""
        port.stopReading()
        accept = port.doRead

        def accept_some() -> None:
            port.numberAccepts = ACCEPTS  # Twisted lets the number grow
            accept()

        changed: Any = port
        changed.socket = Accepting(changed.socket, self._reserve)
        changed.doRead = accept_some
        changed.startReading = functools.partial(self.add, port)
        changed.stopReading = functools.partial(self.remove, port)

    def doRead(self) -> None:
        """Serves what is ready, as long as the turn goes (`IReadDescriptor`)."""
        end = self._now() + ENTRANCE_TURN
        while ready := self._epoll.poll(0, ACCEPTS):
            for descriptor, events in ready:
                # one that was served before may have removed it
                if (reader := self._readers.get(descriptor)) is not None:
                    self._serve(reader, events)
                if self._now() >= end:
                    return

    def _serve(self, reader: Any, events: int) -> None:
        """Calls a reader; one that fails, or whose socket has ended, is removed."""
        try:
            if events & select.EPOLLIN:
                reader.doRead()
                return
            # another process has shut a port down, or a connection was reset
            failure = Failure(CONNECTION_LOST)
        except Exception:
            failure = Failure()
            self._log.failure("serving {reader} at the entrance failed", failure, reader=reader)
        try:
            self.remove(reader)
            reader.connectionLost(failure)
        except Exception:
            # if this propagated, the reactor would end the entrance, and nobody could connect
            self._log.failure("ending {reader} at the entrance failed", reader=reader)

    def fileno(self) -> int:
        """The epoll instance's (`IReadDescriptor`)."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """The name in the reactor's log."""
        return "relayd"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended (`IReadDescriptor`)."""
