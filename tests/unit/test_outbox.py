"""What waits to be written to one connection, on a transport that pauses as TCP does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from relayd.outbox import Outbox
from tests.unit.fakes import BUFFER, Transport, failure, has_fired, success

LIMIT = 1000


class Box:
    """An outbox, its transport, and how often it overflowed."""

    def __init__(self, *, limit: int = LIMIT, peer_reads: bool = True) -> None:
        self.overflows = 0
        self.transport = Transport(Clock(), peer_reads=peer_reads)
        self.outbox = Outbox(self.transport, limit, self._overflowed)

    def _overflowed(self) -> None:
        self.overflows += 1


def fill(box: Box) -> bytes:
    """Writes as much as the transport takes before it pauses; returns it."""
    filling = b"." * (BUFFER + 1)
    box.outbox.write(filling)
    return filling


@pytest.fixture
def box() -> Box:
    """An outbox whose peer reads."""
    return Box()


@pytest.fixture
def full() -> Box:
    """An outbox whose peer does not read and whose transport is full."""
    box = Box(peer_reads=False)
    fill(box)
    return box


def test_frames_go_straight_to_a_transport_that_takes_them(box: Box) -> None:
    for number in range(100):
        box.outbox.write(b"%d," % number)
    assert box.transport.arrived == b"".join(b"%d," % number for number in range(100))
    assert box.outbox.waiting == 0


def test_frames_wait_here_while_the_transport_is_full(full: Box) -> None:
    full.outbox.write(b"one")
    full.outbox.write(b"two")
    assert full.outbox.waiting == 6
    full.transport.read()
    assert full.transport.arrived.endswith(b".onetwo")
    assert full.outbox.waiting == 0


def test_the_order_is_kept_across_many_pauses() -> None:
    box = Box(limit=1 << 20, peer_reads=False)
    frames = [b"<%d>" % number + b"." * 20_000 for number in range(40)]
    for frame in frames[:20]:
        box.outbox.write(frame)
    for frame in frames[20:]:
        box.transport.read_some()
        box.outbox.write(frame)
    box.transport.read()
    assert box.transport.arrived == b"".join(frames)


@given(st.lists(st.one_of(st.integers(1, 40_000), st.just(0)), max_size=60))
def test_every_frame_arrives_once_and_in_order(steps: list[int]) -> None:
    """A number is a frame of that length, 0 a peer that reads what is in the transport."""
    box, written = Box(limit=1 << 30, peer_reads=False), []
    for number, step in enumerate(steps):
        if step:
            written.append(bytes([number]) * step)
            box.outbox.write(written[-1])
        else:
            box.transport.read_some()
    box.transport.read()
    assert box.transport.arrived == b"".join(written)
    assert box.outbox.waiting == 0
    assert box.overflows == 0


def test_as_much_as_the_limit_may_wait(full: Box) -> None:
    for _ in range(10):
        full.outbox.write(b"x" * (LIMIT // 10))
    assert (full.outbox.waiting, full.overflows) == (LIMIT, 0)


def test_the_frame_that_is_too_much_and_what_waited_are_let_go(full: Box) -> None:
    full.outbox.write(b"x" * LIMIT)
    full.outbox.write(b"y")
    assert (full.outbox.waiting, full.overflows) == (0, 1)
    full.transport.read()
    assert set(full.transport.arrived) == set(b".")


def test_a_frame_larger_than_the_limit_goes_to_a_transport_that_takes_it(box: Box) -> None:
    box.outbox.write(b"x" * (LIMIT + 1))
    assert box.overflows == 0
    assert len(box.transport.arrived) == LIMIT + 1


def test_a_frame_larger_than_the_limit_does_not_wait(full: Box) -> None:
    full.outbox.write(b"x" * (LIMIT + 1))
    assert (full.outbox.waiting, full.overflows) == (0, 1)


def test_what_was_read_makes_room(full: Box) -> None:
    full.outbox.write(b"x" * LIMIT)
    full.transport.read_some()
    fill(full)
    full.outbox.write(b"y" * LIMIT)
    assert full.overflows == 0


def test_drained_fires_at_once_while_the_peer_reads(box: Box) -> None:
    box.outbox.write(b"x")
    success(box.outbox.drained())


def test_drained_fires_for_everyone_when_nothing_waits_any_more(full: Box) -> None:
    full.outbox.write(b"x")
    waiting = [full.outbox.drained() for _ in range(2)]
    assert [has_fired(deferred) for deferred in waiting] == [False, False]
    full.transport.read()
    for deferred in waiting:
        success(deferred)


def test_a_peer_that_reads_a_little_is_handed_a_little() -> None:
    """The rest waits here, where it is bounded and can be let go."""
    box = Box(limit=1 << 20, peer_reads=False)
    frames = [fill(box) for _ in range(4)]
    for number in range(3, 0, -1):
        assert box.outbox.waiting == number * len(frames[0])
        box.transport.read_some()


def test_drained_waits_on_when_what_waited_fills_the_transport_again() -> None:
    box = Box(limit=1 << 20, peer_reads=False)
    fill(box)
    fill(box)
    drained = box.outbox.drained()
    box.transport.read_some()
    assert not has_fired(drained)
    box.transport.read_some()
    success(drained)


def test_who_waits_for_drained_may_write_again_and_wait_again(full: Box) -> None:
    seen: list[int] = []

    def next_page(_: None) -> None:
        seen.append(full.outbox.waiting)
        if len(seen) < 3:
            fill(full)
            full.outbox.drained().addCallback(next_page)

    full.outbox.drained().addCallback(next_page)
    for number in range(1, 4):
        assert len(seen) == number - 1
        full.transport.read_some()
    assert seen == [0, 0, 0]


def test_who_gave_up_waiting_does_not_disturb_the_others(full: Box) -> None:
    gave_up, patient = full.outbox.drained(), full.outbox.drained()
    gave_up.cancel()
    failure(gave_up, CancelledError)
    full.transport.read()
    success(patient)


def test_clear_lets_go_of_what_waits_here_alone(full: Box) -> None:
    full.outbox.write(b"x")
    full.outbox.clear()
    assert full.outbox.waiting == 0
    full.transport.read()
    assert len(full.transport.arrived) == BUFFER + 1


def test_flush_hands_over_everything_though_the_peer_does_not_read(full: Box) -> None:
    full.outbox.write(b"one")
    full.outbox.write(b"two")
    full.outbox.flush()
    assert full.outbox.waiting == 0
    full.transport.write(b"close")
    full.transport.read()
    assert full.transport.arrived.endswith(b".onetwoclose")


def test_flush_of_an_empty_outbox_writes_nothing(box: Box) -> None:
    box.outbox.flush()
    assert box.transport.arrived == b""


def test_close_cancels_who_waits_and_lets_go_of_everything(full: Box) -> None:
    full.outbox.write(b"x")
    waiting = [full.outbox.drained() for _ in range(2)]
    full.outbox.close()
    for deferred in waiting:
        failure(deferred, CancelledError)
    assert full.outbox.waiting == 0


def test_a_closed_outbox_takes_nothing_and_does_not_overflow(full: Box) -> None:
    full.outbox.close()
    full.outbox.write(b"x" * (LIMIT + 1))
    assert (full.outbox.waiting, full.overflows) == (0, 0)


def test_drained_of_a_closed_outbox_is_cancelled(full: Box) -> None:
    """Who asks too late must not wait for ever."""
    full.outbox.close()
    failure(full.outbox.drained(), CancelledError)
