"""The batching rule: at once while the loop has time, else in batches."""

import gc
import random
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.hub import Hub
from relayd.native.batching import Batch, Batching
from tests.unit.fakes import parse_frames

COALESCE = 1 / 256
"""Seconds; a power of two, so that no sum of such times is rounded."""
BUSY = 1.0
"""Seconds that a batch costs elsewhere: so many that `COALESCE` follow each batch."""
FULL = 64 * 1024
"""Bytes that do not wait for more."""

Sent = list[tuple[float, list[bytes]]]


class Scene:
    """A batch on a clock of its own, and what it sent at what time."""

    def __init__(self, coalesce: float = COALESCE, cost_elsewhere: float = BUSY) -> None:
        self.clock = Clock()
        self.sent: Sent = []
        self.then: Callable[[], object] = lambda: None
        self.batch = Batch(Batching(self.clock, coalesce, cost_elsewhere), self._send)

    def _send(self, items: list[bytes]) -> None:
        self.sent.append((self.clock.seconds(), items))
        self.then()

    def add(self, *items: bytes) -> None:
        for item in items:
            self.batch.add(item)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_item_is_sent_at_once(scene: Scene) -> None:
    scene.add(b"1")
    assert scene.sent == [(0, [b"1"])]
    assert scene.clock.getDelayedCalls() == []


def test_items_that_come_in_the_gap_after_a_batch_go_as_one_batch_in_their_order(
    scene: Scene,
) -> None:
    scene.add(b"1")
    scene.clock.advance(COALESCE / 2)
    scene.add(b"2")
    scene.clock.advance(COALESCE / 4)
    scene.add(b"3", b"4")
    assert scene.sent == [(0, [b"1"])]
    scene.clock.advance(COALESCE / 4)
    assert scene.sent[1:] == [(COALESCE, [b"2", b"3", b"4"])]


def test_the_gap_counts_from_the_end_of_a_batch_not_from_the_first_pending_item(
    scene: Scene,
) -> None:
    scene.add(b"1")
    scene.clock.advance(COALESCE / 2)
    scene.add(b"2")
    [call] = scene.clock.getDelayedCalls()
    assert call.getTime() == COALESCE


def test_an_item_that_comes_after_the_gap_waits_for_the_end_of_the_turn_alone(
    scene: Scene,
) -> None:
    scene.add(b"1")
    scene.clock.advance(COALESCE)
    scene.add(b"2", b"3")
    [call] = scene.clock.getDelayedCalls()
    assert call.getTime() == COALESCE
    scene.clock.advance(0)
    assert scene.sent == [(0, [b"1"]), (COALESCE, [b"2", b"3"])]


def test_an_item_is_sent_at_once_where_the_load_is_low() -> None:
    scene = Scene(cost_elsewhere=0)
    scene.add(b"1", b"2")
    assert scene.sent == [(0, [b"1"]), (0, [b"2"])]


def test_after_a_batch_an_item_waits_again(scene: Scene) -> None:
    scene.add(b"1", b"2")
    scene.clock.advance(COALESCE)
    scene.clock.advance(COALESCE / 2)
    scene.add(b"3")
    assert scene.sent == [(0, [b"1"]), (COALESCE, [b"2"])]
    scene.clock.advance(COALESCE)
    assert scene.sent[2:] == [(2.5 * COALESCE, [b"3"])]


def test_without_coalescing_nothing_waits() -> None:
    scene = Scene(0)
    scene.add(b"1", b"2", b"3")
    assert scene.sent == [(0, [b"1"]), (0, [b"2"]), (0, [b"3"])]


def test_a_full_batch_does_not_wait(scene: Scene) -> None:
    scene.add(b"1", b"x" * (FULL - 1))
    assert len(scene.sent) == 1
    scene.add(b"y")
    assert scene.sent[1:] == [(0, [b"x" * (FULL - 1), b"y"])]
    assert scene.clock.getDelayedCalls() == []


def test_sent_bytes_do_not_count_towards_the_next_full_batch(scene: Scene) -> None:
    scene.add(b"1", b"x" * FULL, b"y" * (FULL - 1))
    assert len(scene.sent) == 2
    scene.add(b"z")
    assert len(scene.sent) == 3


def test_flushing_sends_pending_items_and_ends_the_wait(scene: Scene) -> None:
    scene.add(b"1", b"2", b"3")
    scene.batch.flush()
    assert scene.sent[1:] == [(0, [b"2", b"3"])]
    assert scene.clock.getDelayedCalls() == []


def test_flushing_sends_nothing_where_nothing_waits(scene: Scene) -> None:
    scene.batch.flush()
    scene.add(b"1")
    scene.batch.flush()
    assert scene.sent == [(0, [b"1"])]


def test_an_item_that_is_added_while_a_batch_is_sent_waits_for_the_next_batch(scene: Scene) -> None:
    more = [b"3", b"4"]
    scene.then = lambda: scene.add(more.pop(0)) if more and len(scene.sent) > 1 else None
    scene.add(b"1", b"2")
    scene.clock.advance(COALESCE)
    assert scene.sent[1:] == [(COALESCE, [b"2"])]
    scene.clock.advance(COALESCE)
    assert scene.sent[2:] == [(2 * COALESCE, [b"3"])]


def test_a_batch_is_in_no_reference_cycle_while_nothing_waits() -> None:
    """Its memory is free as soon as its channel is forgotten."""
    batching = Batching(Clock(), COALESCE, BUSY)

    class Watched(Batch):
        pass

    gc.disable()
    try:
        batch = Watched(batching, lambda items: None)
        batch.add(b"1")
        batch.add(b"2")
        batch.flush()
        seen = weakref.ref(batch)
        del batch
        assert seen() is None
    finally:
        gc.enable()


class Member:
    """A member of a group that notes what it gets, and when."""

    direct: Callable[[bytes], int] | None = None

    def __init__(self, clock: Clock) -> None:
        self.sent: Sent = []
        self._clock = clock

    def write_items(self, items: Any, frames: bytes) -> None:
        payloads = [payload for _, payload in parse_frames(frames)]
        self.sent.append((self._clock.seconds(), payloads))

    def interrupted(self, frames: bytes, sent: int) -> None: ...

    def broken(self) -> None: ...


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, COALESCE / 4, COALESCE / 2, COALESCE, 2 * COALESCE]),
            st.integers(0, 125),
        )
    ),
    st.sampled_from([0.0, COALESCE]),
)
def test_a_group_and_a_channel_follow_the_same_batching_rule(
    steps: list[tuple[float, int]], coalesce: float
) -> None:
    scene = Scene(coalesce)
    clock = Clock()
    hub, member = Hub(Batching(clock, coalesce, BUSY)), Member(clock)
    hub.join("g", member)
    for seconds, size in steps:
        for each in (clock, scene.clock):
            each.advance(seconds)
        hub.fan_out("g", b"x" * size)
        scene.add(b"x" * size)
    for each in (clock, scene.clock):
        each.advance(COALESCE)
    assert member.sent == scene.sent


# -- the load


class Load:
    """One loop with receivers whose batches take time, as sockets do that are written.

    Args:
        costs: seconds that a batch takes, of each receiver.
    """

    def __init__(self, *costs: float) -> None:
        self.clock = Clock()
        self.costs = [*costs]
        self.waits: list[list[float]] = [[] for _ in costs]
        self.spent = [0.0 for _ in costs]
        self._came: list[list[float]] = [[] for _ in costs]
        batching = Batching(self.clock, COALESCE)
        self._batches = [
            Batch(batching, partial(self._send, number)) for number, _ in enumerate(costs)
        ]

    def _send(self, number: int, items: list[bytes]) -> None:
        cost = self.costs[number]
        now, came = self.clock.seconds(), self._came[number]
        self.waits[number] += [now - came.pop(0) for _ in items]
        self.spent[number] += cost
        self.clock.rightNow += cost

    def run(self, seconds: float, *rates: float) -> None:
        """Items come at random times, so many a second to each receiver.

        The loop reads what has come, makes the calls that are due, and waits for the next of both.
        """
        clock, draw = self.clock, random.Random(1)
        arrivals = []
        for number, rate in enumerate(rates):
            at = clock.seconds()
            while (at := at + draw.expovariate(rate)) < clock.seconds() + seconds:
                arrivals.append((at, number))
        arrivals.sort(reverse=True)
        while arrivals or clock.getDelayedCalls():
            while arrivals and arrivals[-1][0] <= clock.seconds():
                at, number = arrivals.pop()
                self._came[number].append(at)
                self._batches[number].add(b"x")
            clock.advance(0)
            next_ones = [call.getTime() for call in clock.getDelayedCalls()]
            next_ones += [arrivals[-1][0]] if arrivals else []
            clock.rightNow = max(clock.rightNow, min(next_ones, default=0))


def quantile(values: list[float], part: float) -> float:
    """The value below which this part of all values is."""
    return sorted(values)[int(part * len(values))]


def test_below_the_share_an_item_waits_for_the_batch_before_it_alone() -> None:
    """300 items a second whose batches take 1 ms: 30 % of the loop."""
    load = Load(0.001)
    load.run(10, 300)
    assert quantile(load.waits[0], 0.6) == 0
    assert quantile(load.waits[0], 0.98) <= 0.001


def test_a_loop_without_time_makes_batches_within_the_share() -> None:
    load = Load(0.001)
    load.run(10, 3000)
    assert load.spent[0] / 10 == pytest.approx(0.5, abs=0.03)
    assert quantile(load.waits[0], 0.5) <= 0.0015
    assert max(load.waits[0]) <= COALESCE + 0.001


def test_after_a_busy_time_nothing_waits_again() -> None:
    load = Load(0.001)
    load.run(1, 3000)
    load.clock.advance(0.1)
    before = len(load.waits[0])
    load.run(10, 20)
    assert quantile(load.waits[0][before:], 0.95) == 0


def test_a_cheap_receiver_does_not_wait_for_the_gap_of_a_costly_one() -> None:
    load = Load(0.001, 0.00001)
    load.run(10, 1000, 20)
    assert max(load.waits[1]) <= 0.001 + 1e-9
    assert quantile(load.waits[1], 0.4) == 0


def test_busy_receivers_have_about_equal_shares() -> None:
    load = Load(0.001, 0.0002)
    load.run(10, 5000, 5000)
    one, other = load.spent
    assert one == pytest.approx(other, rel=0.35)
    assert (one + other) / 10 == pytest.approx(0.5, abs=0.05)


def test_no_item_waits_much_longer_than_the_coalescing_time_in_an_overloaded_loop() -> None:
    """Ten receivers, each of which could fill the loop alone: no queue grows without bound."""
    load = Load(*[0.001] * 10)
    load.run(1, *[1000] * 10)
    for waits in load.waits:
        assert max(waits) <= COALESCE + 0.03


def test_one_batch_that_took_very_long_does_not_make_its_receiver_wait() -> None:
    """As where another process has the core for a while."""
    load = Load(0.00001)
    load.run(1, 100)
    load.costs[0] = 0.020
    load.run(0.001, 2000)
    load.costs[0] = 0.00001
    before = len(load.waits[0])
    load.run(1, 100)
    assert max(load.waits[0][before:]) == 0


def test_the_cost_elsewhere_counts_as_load() -> None:
    """Sending takes no time on this clock, so the cost elsewhere alone makes batches."""
    scene = Scene(cost_elsewhere=0.0002)
    for _ in range(5000):
        scene.add(b"x")
        scene.clock.advance(0.0001)
    assert len(scene.sent) / 0.5 == pytest.approx(2500, rel=0.05)
