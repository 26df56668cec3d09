"""Real sockets and turns of a reactor, for the tests of the poller and of the loop that reads."""

import socket
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

from relayd.sockets.poller import Inlet, Poller
from tests.unit.fakes import InletOwner


class Pair:
    """Two sockets, ours and theirs, that the fixture `own` closes after the test."""

    made: ClassVar[list["Pair"]] = []

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.made.append(self)

    def close(self) -> None:
        """Closes both."""
        self.ours.close()
        self.theirs.close()


class Line(InletOwner, Pair):
    """A connection: transport and owner of its inlet in one."""

    def __init__(self, poller: Poller) -> None:
        super().__init__()
        self.ours.setblocking(False)
        self.got = b""
        self.end: Failure | None = None
        self.then: Any = lambda: None
        self.inlet = Inlet(self)
        self.inlet.transport = self
        self.inlet.descriptor = self.ours.fileno()
        self._poller = poller
        poller.add(self.inlet)

    def parse(self, data: bytes) -> None:
        self.got += data
        self.then()

    def failed(self) -> None:
        raise AssertionError("no short frame is read before the inlet is told to")

    def fileno(self) -> int:
        return self.ours.fileno()

    def readConnectionLost(self, reason: Failure) -> None:  # noqa: N802
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        self.end = reason
        self._poller.remove(self.inlet)
        self.ours.close()


class Other(Pair):
    """Something else that a reactor reads."""

    got = b""

    def fileno(self) -> int:
        return self.ours.fileno()

    def doRead(self) -> None:
        self.got += self.ours.recv(100)

    def logPrefix(self) -> str:
        return "other"

    def connectionLost(self, reason: Failure) -> None:
        raise AssertionError(reason)


def turn_until(own: EPollReactor, done: Callable[[], bool]) -> None:
    """Gives the reactor turns, of 20 ms at most, until something is done."""
    for _ in range(1000):
        own.runUntilCurrent()
        if done():
            return
        timeout = own.timeout()
        own.doIteration(0.02 if timeout is None else min(timeout, 0.02))
    raise AssertionError("it is never done")
