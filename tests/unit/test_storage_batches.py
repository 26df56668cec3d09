"""Batches: what waits shares the next interaction; every bound and every failure."""

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd.errors import DatabaseUnavailable, NotStorable, StoreUnavailable
from relayd.storage.batches import Batches


class Scene:
    """Batches over an interaction that ends when the test says so."""

    def __init__(self, **bounds: Any) -> None:
        self.clock = Clock()
        self.performed: list[tuple[list[str], float]] = []
        self.pending: list[Deferred[list[str]]] = []
        self.outcomes: list[tuple[str, Any]] = []
        self.batches: Batches[str, str] = Batches(
            self._perform, seconds=self.clock.seconds, deadline=4.0, **bounds
        )

    def enqueue(self, request: str, weight: int = 0, place: str = "", source: str = "") -> None:
        def ended(outcome: Any) -> None:
            self.outcomes.append((request, outcome))

        self.batches.enqueue(request, weight, place, source).addBoth(ended)

    def succeed(self) -> None:
        requests, _ = self.performed[-1]
        self.pending.pop().callback([request.upper() for request in requests])

    def fail(self, error: Exception) -> None:
        self.pending.pop().errback(Failure(error))

    async def _perform(self, requests: Sequence[str], timeout: float) -> list[str]:
        self.performed.append((list(requests), timeout))
        pending: Deferred[list[str]] = Deferred()
        self.pending.append(pending)
        return await pending

    def failures(self) -> list[tuple[str, type]]:
        return [(request, outcome.type) for request, outcome in self.outcomes]


def test_requests_during_an_interaction_share_the_next_and_fire_in_order() -> None:
    scene = Scene()
    for request in "abc":
        scene.enqueue(request)
    assert [requests for requests, _ in scene.performed] == [["a"]]
    scene.succeed()
    assert [requests for requests, _ in scene.performed] == [["a"], ["b", "c"]]
    scene.succeed()
    assert scene.outcomes == [("a", "A"), ("b", "B"), ("c", "C")]


def test_a_batch_has_the_deadline_of_its_oldest_request() -> None:
    scene = Scene()
    scene.enqueue("a")
    scene.enqueue("b")
    scene.clock.advance(3)
    scene.enqueue("c")
    scene.succeed()
    assert scene.performed == [(["a"], 4.0), (["b", "c"], 1.0)]


def test_every_pending_request_fails_at_once_when_the_database_is_unavailable() -> None:
    scene = Scene(unavailable=StoreUnavailable)
    for request in "abc":
        scene.enqueue(request)
    scene.fail(DatabaseUnavailable("gone"))
    assert scene.failures() == [(request, StoreUnavailable) for request in "abc"]
    scene.enqueue("d")
    scene.succeed()
    assert scene.outcomes[-1] == ("d", "D")


def test_an_error_other_than_an_outage_fails_its_batch_only() -> None:
    scene = Scene()
    scene.enqueue("a")
    scene.enqueue("b")
    scene.fail(ZeroDivisionError())
    assert scene.failures() == [("a", ZeroDivisionError)]
    scene.succeed()
    assert scene.outcomes[-1] == ("b", "B")


def test_a_request_that_the_database_cannot_hold_fails_alone() -> None:
    scene = Scene()
    for request in "abcde":
        scene.enqueue(request)
    scene.succeed()
    while scene.pending:
        requests, _ = scene.performed[-1]
        if "c" in requests:
            scene.fail(NotStorable("no such character"))
        else:
            scene.succeed()
    assert scene.performed[-1][0] == ["d", "e"]
    found = {request: getattr(outcome, "type", outcome) for request, outcome in scene.outcomes}
    assert found == {"a": "A", "b": "B", "c": NotStorable, "d": "D", "e": "E"}


@pytest.mark.parametrize(("bounds", "weight"), [({"waiting": 2}, 0), ({"weight": 20}, 10)])
def test_beyond_the_bound_a_request_fails_at_once(bounds: dict[str, int], weight: int) -> None:
    scene = Scene(**bounds)
    scene.enqueue("under way", weight)
    for request in "abc":
        scene.enqueue(request, weight)
    assert scene.failures() == [("c", DatabaseUnavailable)]
    scene.succeed()
    scene.enqueue("d", weight)
    assert len(scene.outcomes) == 2


def test_a_batch_takes_from_rooms_and_from_the_senders_of_a_room_in_turn() -> None:
    scene = Scene(batch=6)
    scene.enqueue("under way")
    for number in range(5):
        scene.enqueue(f"flood{number}", place="a", source="flooder")
    scene.enqueue("patient", place="a", source="another")
    for number in range(2):
        scene.enqueue(f"quiet{number}", place="b", source="somebody")
    for _ in range(3):
        scene.succeed()
    assert [requests for requests, _ in scene.performed[1:]] == [
        ["flood0", "quiet0", "patient", "quiet1", "flood1", "flood2"],
        ["flood3", "flood4"],
    ]


def test_a_flood_leaves_room_for_other_places() -> None:
    """It gets as much as is free for all: half of the queue while it is alone."""
    scene = Scene(waiting=100, batch=1)
    for number in range(200):
        scene.enqueue(str(number), place="flood")
    assert len(scene.outcomes) == 200 - 1 - 51
    scene.outcomes.clear()
    for number in range(20):
        scene.enqueue(f"quiet{number}", place="quiet")
    assert scene.outcomes == []
    for _ in range(40):
        scene.succeed()
    assert len([request for request, _ in scene.outcomes if request.startswith("quiet")]) >= 19


def test_a_request_that_has_waited_too_long_fails_alone() -> None:
    scene = Scene()
    scene.enqueue("under way")
    scene.enqueue("late", place="a")
    scene.clock.advance(3.5)
    scene.enqueue("new", place="b")
    scene.succeed()
    assert [(request, outcome) for request, outcome in scene.outcomes if request != "late"] == [
        ("under way", "UNDER WAY")
    ]
    assert scene.outcomes[-1][1].type is DatabaseUnavailable
    assert scene.performed[1:] == [(["new"], 4.0)]


def test_a_batch_is_bounded() -> None:
    scene = Scene(batch=2)
    for request in "abcd":
        scene.enqueue(request)
    for _ in range(3):
        scene.succeed()
    assert [requests for requests, _ in scene.performed] == [["a"], ["b", "c"], ["d"]]
    assert [request for request, _ in scene.outcomes] == list("abcd")
