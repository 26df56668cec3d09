"""What a transport whose socket the poller reads does with what is written: real sockets."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.sockets.poller import Poller
from tests.integration.polling import Pair, turn_until

LARGE = bytes(range(256)) * 40_000
"""More than the kernel takes for a peer that does not read."""


class Ending(Protocol):
    """Notes that its connection has ended."""

    ended = False

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.ended = True


class Connection(Pair):
    """A transport that a port might have accepted, and its peer."""

    def __init__(self, own: EPollReactor, poller: Poller) -> None:
        super().__init__()
        self._own = own
        self.theirs.setblocking(False)
        port = tcp.Port(0, Factory.forProtocol(Ending), interface="127.0.0.1", reactor=own)
        port.startListening()
        poller.watch(port)
        port.socket.close()
        self.protocol = Ending()
        self.transport: Any = port.transport(self.ours, self.protocol, ("", 0), port, 0, own)
        self.protocol.makeConnection(self.transport)
        self.came = b""

    def read(self) -> bytes:
        """What has come by now."""
        try:
            while data := self.theirs.recv(1 << 20):
                self.came += data
        except BlockingIOError:
            pass
        came, self.came = self.came, b""
        return came

    def read_all(self, size: int) -> bytes:
        """As many bytes, or those until the end, with as many turns as that takes."""
        came = b""

        def whole() -> bool:
            nonlocal came
            came += self.read()
            return len(came) >= size

        turn_until(self._own, whole)
        return came

    @property
    def writes_later(self) -> bool:
        """Whether the reactor is asked to write."""
        return self.transport in self._own.getWriters()


@pytest.fixture
def connection(own: EPollReactor) -> Iterator[Connection]:
    poller = Poller(own)
    poller.start()
    connection = Connection(own, poller)
    yield connection
    if connection.transport.connected:
        connection.transport.abortConnection()
        turn_until(own, lambda: connection.protocol.ended)
    poller.stop()


def test_a_write_is_sent_without_a_turn_of_the_reactor(connection: Connection) -> None:
    connection.transport.write(b"at ")
    connection.transport.write(b"once")
    assert connection.read() == b"at once"
    assert not connection.writes_later
    assert connection.transport.movable


def test_bytes_that_the_kernel_refuses_arrive_in_order(connection: Connection) -> None:
    connection.transport.write(LARGE)
    assert connection.writes_later
    assert not connection.transport.movable
    connection.transport.write(b"behind")
    assert connection.read_all(len(LARGE) + 6) == LARGE + b"behind"
    turn_until(connection._own, lambda: not connection.writes_later)
    connection.transport.write(b"straight again")
    assert connection.read() == b"straight again"


def test_the_end_waits_for_what_was_written_before(connection: Connection) -> None:
    connection.transport.write(LARGE)
    connection.transport.loseConnection()
    connection.transport.write(b"too late, but not lost")
    assert connection.read_all(len(LARGE) + 22) == LARGE + b"too late, but not lost"
    turn_until(connection._own, lambda: connection.protocol.ended)


def test_a_write_after_the_end_of_our_direction_is_dropped(connection: Connection) -> None:
    connection.transport.loseWriteConnection()
    turn_until(connection._own, lambda: not connection.writes_later)
    connection.transport.write(b"behind the end")
    assert connection.read() == b""
    assert not connection.protocol.ended


def test_an_aborted_connection_sends_nothing_more(connection: Connection) -> None:
    connection.transport.abortConnection()
    connection.transport.write(b"behind the end")
    assert connection.read() == b""
    turn_until(connection._own, lambda: connection.protocol.ended)


def test_a_write_to_a_peer_that_has_gone_ends_the_connection(connection: Connection) -> None:
    connection.theirs.close()
    connection.transport.write(b"is anybody there?")
    turn_until(connection._own, lambda: connection.protocol.ended)
    connection.transport.write(b"no")


def test_a_pull_producer_is_asked_until_it_has_no_more(connection: Connection) -> None:
    @implementer(IPullProducer)
    class Counting:
        left = 20

        def resumeProducing(self) -> None:
            connection.transport.write(b"x" * 1000)
            self.left -= 1
            if not self.left:
                connection.transport.unregisterProducer()

        def stopProducing(self) -> None:
            """The connection has ended."""

    connection.transport.registerProducer(Counting(), False)
    assert connection.read_all(20_000) == b"x" * 20_000


def test_a_push_producer_is_paused_while_the_peer_does_not_read(connection: Connection) -> None:
    @implementer(IPushProducer)
    class Noting:
        def __init__(self) -> None:
            self.events: list[str] = []

        def pauseProducing(self) -> None:
            self.events.append("pause")

        def resumeProducing(self) -> None:
            self.events.append("resume")

        def stopProducing(self) -> None:
            """The connection has ended."""

    noting = Noting()
    connection.transport.registerProducer(noting, True)
    connection.transport.write(b"small")
    assert noting.events == []
    connection.transport.write(LARGE)
    assert noting.events == ["pause"]
    assert connection.read_all(len(LARGE) + 5) == b"small" + LARGE
    turn_until(connection._own, lambda: noting.events == ["pause", "resume"])


def test_a_write_of_something_else_than_bytes_is_refused(connection: Connection) -> None:
    with pytest.raises(TypeError):
        connection.transport.write("text")
    connection.transport.write(b"")
    assert connection.read() == b""
    assert isinstance(connection.ours, socket.socket)
