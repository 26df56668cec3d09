"""The entrance, turn by turn: real sockets, and a clock that the test moves."""

import functools
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from relayd.sockets.entrance import ACCEPTS, ENTRANCE_TURN, Entrance
from tests.integration.polling import Pair

STEP = ENTRANCE_TURN / 4
"""Seconds that each reader of the tests takes."""


class Guest(Pair):
    """A reader that always has something to read, and takes its time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.theirs.sendall(b"x")
        self.served = 0
        self.lost: Failure | None = None
        self.then: Callable[[], object] = lambda: None
        self._clock = clock

    def fileno(self) -> int:
        return self.ours.fileno()

    def doRead(self) -> None:
        self.served += 1
        self._clock.advance(STEP)
        self.then()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def entrance(own: EPollReactor, clock: Clock) -> Iterator[Entrance]:
    entrance = Entrance(own, clock.seconds)
    entrance.start()
    yield entrance
    entrance.stop()


@pytest.fixture
def guests(entrance: Entrance, clock: Clock) -> list[Guest]:
    """Twelve readers: as many as three turns have time for."""
    guests = [Guest(clock) for _ in range(12)]
    for guest in guests:
        entrance.add(guest)
    return guests


def test_a_turn_ends_in_time_and_the_next_one_serves_those_that_still_wait(
    entrance: Entrance, guests: list[Guest]
) -> None:
    for turns in (1, 2, 3):
        entrance.doRead()
        assert sum(guest.served for guest in guests) == 4 * turns
    # a batch that was cut short has its end served last: nobody is left out for long
    for _ in range(3):
        entrance.doRead()
    assert all(guest.served for guest in guests)


def test_the_reactor_gives_the_entrance_its_turns(
    own: EPollReactor, entrance: Entrance, guests: list[Guest]
) -> None:
    own.doIteration(20)
    assert sum(guest.served for guest in guests) == 4


def receive(guest: Guest) -> None:
    """Reads what a guest has to read."""
    guest.ours.recv(1)


def test_a_turn_ends_early_when_nobody_is_left(entrance: Entrance, guests: list[Guest]) -> None:
    for guest in guests[2:]:
        entrance.remove(guest)
        entrance.remove(guest)
    for guest in guests[:2]:
        guest.then = functools.partial(receive, guest)
        entrance.add(guest)
    entrance.doRead()
    assert [guest.served for guest in guests] == [1, 1] + [0] * 10


def test_a_reader_removed_by_another_in_the_same_turn_is_not_served(
    entrance: Entrance, clock: Clock
) -> None:
    guests = [Guest(clock), Guest(clock)]
    for guest, other in zip(guests, reversed(guests), strict=True):
        guest.then = functools.partial(entrance.remove, other)
        entrance.add(guest)
    entrance.doRead()
    assert 0 in (guests[0].served, guests[1].served)


def test_a_reader_that_fails_is_removed_and_the_others_are_served(
    entrance: Entrance, guests: list[Guest]
) -> None:
    def bug() -> None:
        raise RuntimeError("a bug")

    guests[0].then = bug
    with capturedLogs() as events:
        for _ in range(6):
            entrance.doRead()
    assert guests[0].served == 1
    assert guests[0].lost is not None
    assert guests[0].lost.check(RuntimeError)
    assert len(events) == 1
    assert all(guest.served for guest in guests)


def test_a_reader_that_cannot_be_ended_leaves_the_entrance_to_the_others(
    own: EPollReactor, entrance: Entrance, guests: list[Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*reason: Failure) -> None:
        raise RuntimeError("a bug")

    guests[0].then = bug
    monkeypatch.setattr(guests[0], "connectionLost", bug)
    with capturedLogs() as events:
        for _ in range(6):
            own.doIteration(20)
    assert entrance in own.getReaders()
    assert guests[0].served == 1
    assert all(guest.served for guest in guests)
    assert len(events) == 2


# -- a listening port


class Counted(Factory):
    """Takes its time for each connection."""

    noisy = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.built = 0

    def buildProtocol(self, addr: object) -> Protocol:
        self.built += 1
        self._clock.advance(STEP / ACCEPTS)
        return Protocol()


@pytest.fixture
def factory(clock: Clock) -> Counted:
    return Counted(clock)


@pytest.fixture
def port(own: EPollReactor, entrance: Entrance, factory: Counted) -> Iterator[tcp.Port]:
    """A port of Twisted that accepts at the entrance."""
    port: Any = own.listenTCP(0, factory, backlog=200, interface="127.0.0.1")
    entrance.watch(port)
    assert port not in own.getReaders()
    port.startReading()
    yield port
    if port.connected:
        port.connectionLost(Failure(ConnectionLost()))
    for reader in own.getReaders():
        if isinstance(reader, tcp.Server):
            reader.connectionLost(Failure(ConnectionLost()))


def test_a_port_accepts_as_many_as_a_turn_has_time_for_and_then_the_others(
    entrance: Entrance, port: tcp.Port, factory: Counted
) -> None:
    address = port.getHost()
    clients = [socket.create_connection((address.host, address.port)) for _ in range(100)]
    for expected in (4 * ACCEPTS, 8 * ACCEPTS, 12 * ACCEPTS, 100, 100):
        entrance.doRead()
        assert factory.built == expected
    for client in clients:
        client.close()


def test_a_port_that_another_process_has_shut_down_is_closed(
    entrance: Entrance, port: tcp.Port
) -> None:
    other = socket.socket(fileno=os.dup(port.fileno()))
    other.shutdown(socket.SHUT_RDWR)
    other.close()
    entrance.doRead()
    assert not port.connected
