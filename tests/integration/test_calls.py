"""Calls that are made by the loop that reads the sockets: on a real reactor, turn by turn."""

import functools
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import AlreadyCalled, AlreadyCancelled

from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.native.sending import Recipient, Sender
from relayd.sockets.outbox import Item
from relayd.sockets.poller import Poller
from tests.integration.polling import Line, Other, turn_until
from tests.unit.fakes import logged_lines


@pytest.fixture
def poller(own: EPollReactor) -> Iterator[Poller]:
    poller = Poller(own)
    poller.start()
    yield poller
    poller.stop()


def turn_ends(own: EPollReactor) -> None:
    """Gives the reactor something to do, so that its turn ends."""
    own.callLater(0, lambda: None)


def test_due_calls_are_made_without_a_turn_of_the_reactor(
    own: EPollReactor, poller: Poller
) -> None:
    made: list[tuple[str, float]] = []

    def note(name: str) -> None:
        made.append((name, poller.calls.seconds()))

    while True:
        start = poller.calls.seconds()
        calls = [
            poller.calls.callLater(0.004, functools.partial(note, "later")),
            poller.calls.callLater(0.002, functools.partial(note, "sooner")),
        ]
        if poller.calls.seconds() - start < 0.002:
            break
        for call in calls:  # held up in between, they are due the other way round
            call.cancel()
    poller.calls.callLater(0.006, functools.partial(turn_ends, own))
    own.doIteration(20)
    assert [name for name, _ in made] == ["sooner", "later"]
    assert made[0][1] - start >= 0.002
    assert made[1][1] - start >= 0.004


def test_a_call_scheduled_by_a_call_is_made_after_ready_sockets_were_read(
    own: EPollReactor, poller: Poller
) -> None:
    line = Line(poller)
    got: list[bytes] = []

    def first() -> None:
        line.theirs.sendall(b"x")
        poller.calls.callLater(0, second)

    def second() -> None:
        got.append(line.got)
        turn_ends(own)

    poller.calls.callLater(0, first)
    own.doIteration(20)
    assert got == [b"x"]


def test_a_call_is_made_between_two_reads_however_many_sockets_are_ready(
    own: EPollReactor, poller: Poller
) -> None:
    lines = [Line(poller) for _ in range(40)]
    for line in lines:
        line.theirs.sendall(b"x")
    read: list[int] = []
    poller.calls.callLater(0, lambda: read.append(sum(bool(line.got) for line in lines)))
    own.doIteration(0)
    assert read == [16]


@pytest.mark.parametrize("waits", ["a reader", "a call"])
def test_calls_without_end_leave_the_reactor_its_turn(
    own: EPollReactor, poller: Poller, waits: str
) -> None:
    other, called, made = Other(), list[bool](), 0

    def again() -> None:
        nonlocal made
        made += 1
        time.sleep(0.0005)
        if made < 10_000:
            poller.calls.callLater(0, again)

    poller.calls.callLater(0, again)
    own.doIteration(0)  # one is made, however late the other's turn is asked for
    if waits == "a reader":
        own.addReader(other)
        other.theirs.sendall(b"me, too")
    else:
        own.callLater(0.01, called.append, True)
    turn_until(own, lambda: bool(called or other.got))
    assert 0 < made < 10_000


def test_a_cancelled_call_is_not_made(own: EPollReactor, poller: Poller) -> None:
    made: list[str] = []
    kept = poller.calls.callLater(0.001, lambda: made.append("kept"))
    cancelled = poller.calls.callLater(0, lambda: made.append("cancelled"))
    assert kept.active()
    assert cancelled.active()
    cancelled.cancel()
    poller.calls.callLater(0.002, functools.partial(turn_ends, own))
    own.doIteration(20)
    assert made == ["kept"]
    assert not kept.active()
    assert not cancelled.active()
    with pytest.raises(AlreadyCancelled):
        cancelled.cancel()
    with pytest.raises(AlreadyCalled):
        kept.cancel()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_a_call_is_logged_and_the_remaining_calls_are_made(
    own: EPollReactor, poller: Poller, error: type[BaseException]
) -> None:
    def bug() -> None:
        raise error("a bug")

    made: list[bool] = []
    poller.calls.callLater(0, bug)
    poller.calls.callLater(0, lambda: made.append(True))
    poller.calls.callLater(0.001, functools.partial(turn_ends, own))
    with logged_lines("relayd.sockets.poller") as lines:
        own.doIteration(20)
    assert made == [True]
    assert len([line for line in lines if "a call that was due failed" in line]) == 1


def test_the_reactor_makes_the_calls_before_the_poller_starts_and_after_it_has_stopped(
    own: EPollReactor,
) -> None:
    poller, made = Poller(own), list[str]()
    poller.calls.callLater(0, lambda: made.append("before"))
    own.runUntilCurrent()
    assert made == ["before"]
    poller.start()
    poller.calls.callLater(0.05, lambda: made.append("meanwhile"))
    poller.calls.callLater(0.05, lambda: made.append("cancelled")).cancel()
    too_late = poller.calls.callLater(0.05, lambda: made.append("cancelled after it"))
    poller.stop()
    too_late.cancel()
    poller.calls.callLater(0, lambda: made.append("after"))
    poller.calls.callLater(0.06, lambda: made.append("last"))
    turn_until(own, lambda: "last" in made)
    made.remove("last")
    assert sorted(made) == ["after", "before", "meanwhile"]


def test_a_call_may_stop_the_poller(own: EPollReactor) -> None:
    poller, made = Poller(own), list[bool]()
    poller.start()
    poller.calls.callLater(0, poller.stop)
    poller.calls.callLater(0.001, lambda: made.append(True))
    own.doIteration(20)
    assert made == []
    turn_until(own, lambda: bool(made))


def test_a_compiled_call_does_not_delay_the_calls_of_the_reactor(
    own: EPollReactor, poller: Poller
) -> None:
    made: list[str] = []
    poller.calls.callLater(20, lambda: made.append("ours"))
    own.callLater(0.01, made.append, "the reactor's")
    turn_until(own, lambda: bool(made))
    assert made == ["the reactor's"]


class Away(Recipient):
    """A member whose datagrams nobody reads."""

    def __init__(self, descriptor: int) -> None:
        self.direct = Sender(descriptor)

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        raise AssertionError("it has a direct way")

    def interrupted(self, frames: bytes, sent: int) -> None:
        raise AssertionError("what nobody reads is dropped")

    def broken(self) -> None:
        raise AssertionError("there is somebody")


def test_a_batch_that_takes_long_leaves_other_threads_their_turn(
    own: EPollReactor, poller: Poller
) -> None:
    """The compiled loop would otherwise hold Python's lock until the batch ends."""
    hub = Hub(Batching(poller.calls, 0.2))
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as to:
        to.bind(("127.0.0.1", 0))
        ours.connect(to.getsockname())
        hub.join("g", Away(ours.fileno()))
        sent = 0
        while sent == hub.batches:  # the first at once, the last in a batch
            hub.fan_out("g", b"to one")
            sent += 1
        for _ in range(100_000):
            hub.join("g", Away(ours.fileno()))
        total = sent + hub.fan_out("g", b"in the same batch")
        seen: list[int] = []

        def look() -> None:
            while hub.batches < sent:
                time.sleep(0.0001)
            seen.append(hub.delivered)

        thread = threading.Thread(target=look)
        thread.start()
        poller.calls.callLater(1, functools.partial(turn_ends, own))  # long after the batch
        own.doIteration(20)
        turn_until(own, lambda: hub.delivered == total)  # if a second was not long enough
        thread.join()
    assert seen[0] < total
