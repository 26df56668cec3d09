"""The batching rule: what is quiet is served at once, what is busy in batches."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.hub import Hub
from relayd.native.batching import Batch, Batching
from tests.unit.fakes import parse_frames

COALESCE = 0.25
"""Seconds; a power of two, so that no sum of such times is rounded."""
FULL = 64 * 1024
"""Bytes that do not wait for more."""

Sent = list[tuple[float, list[bytes]]]


class Scene:
    """A batch on a clock of its own, and what it sent at what time."""

    def __init__(self, coalesce: float = COALESCE) -> None:
        self.clock = Clock()
        self.sent: Sent = []
        self.then: Callable[[], object] = lambda: None
        self.batch = Batch(Batching(self.clock, coalesce), self._send)

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


def test_frames_that_come_soon_after_another_wait_and_go_as_one_batch_in_their_order(
    scene: Scene,
) -> None:
    scene.add(b"1")
    scene.clock.advance(COALESCE / 2)
    scene.add(b"2")
    scene.clock.advance(COALESCE / 2)
    scene.add(b"3", b"4")
    assert scene.sent == [(0, [b"1"])]
    scene.clock.advance(COALESCE / 2)
    assert scene.sent[1:] == [(1.5 * COALESCE, [b"2", b"3", b"4"])]


def test_a_batch_is_due_one_coalescing_time_after_its_first_pending_item(scene: Scene) -> None:
    scene.add(b"1")
    scene.clock.advance(COALESCE / 2)
    scene.add(b"2")
    [call] = scene.clock.getDelayedCalls()
    assert call.getTime() == 1.5 * COALESCE


def test_an_item_is_sent_at_once_after_a_quiet_coalescing_time(scene: Scene) -> None:
    scene.add(b"1")
    scene.clock.advance(COALESCE)
    scene.add(b"2")
    assert scene.sent == [(0, [b"1"]), (COALESCE, [b"2"])]


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
    batching = Batching(Clock(), COALESCE)

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
    hub, member = Hub(clock, coalesce), Member(clock)
    hub.join("g", member)
    for seconds, size in steps:
        for each in (clock, scene.clock):
            each.advance(seconds)
        hub.fan_out("g", b"x" * size)
        scene.add(b"x" * size)
    for each in (clock, scene.clock):
        each.advance(COALESCE)
    assert member.sent == scene.sent
