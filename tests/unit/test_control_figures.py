"""The parent queries its workers for their figures, in order, and keeps their last answers."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.config import Config, Loaded
from relayd.config.current import Current
from relayd.config.drift import Drift
from relayd.control.socket_client import NoAnswer
from relayd.control.worker_metrics import (
    INTERVAL,
    FigureReport,
    WorkerFigures,
    Workers,
    query_through,
)
from relayd.metrics.exchange import Family, pack
from relayd.metrics.families import counter
from tests.unit.fakes import failure, has_fired, logged_failures, success

NONE = Drift(lambda handed: Loaded(Config(), (), ()), Current(Config()), lambda loaded: ())
"""What runs stands in the files."""


def value(families: list[Family], name: str) -> float:
    [found] = [value for each in families for sample, _, value in each.samples if sample == name]
    return found


class Parent:
    """A parent of two workers that answer when the test lets them.

    Attributes:
        queries: the worker and the pending answer of each query, oldest first.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.serving = {1, 2}
        self.queries = deque[tuple[int, Deferred[bytes]]]()
        self.figures = WorkerFigures(self.clock, self._query, self._workers, NONE)

    async def _query(self, number: int) -> bytes:
        answer: Deferred[bytes] = Deferred()
        self.queries.append((number, answer))
        return await answer

    def _workers(self) -> Workers:
        return Workers(configured=2, serving=set(self.serving), restarts=0)

    def answer(self, count: float | None, process: str = "a") -> int:
        """Answers the oldest query with a count; None: the worker does not answer."""
        number, answer = self.queries.popleft()
        if count is None:
            answer.errback(NoAnswer("it does not answer"))
        else:
            families = pack([counter("messages", "Text", count)], {})
            answer.callback(msgspec.json.encode(FigureReport(process=process, families=families)))
        return number

    def all(self) -> "Deferred[FigureReport]":
        return Deferred.fromCoroutine(self.figures.all())


@pytest.fixture
def parent() -> Iterator[Parent]:
    made = Parent()
    made.figures.start()
    with logged_failures() as failures:
        yield made
    made.figures.stop()
    assert made.clock.getDelayedCalls() == []
    assert failures == []


def test_every_worker_is_queried_at_once_and_the_figures_are_summed(parent: Parent) -> None:
    told = parent.all()
    assert [parent.answer(3), parent.answer(4)] == [1, 2]
    families = success(told).families
    assert value(families, "relayd_messages_total") == 7
    assert value(families, "relayd_workers_unanswered") == 0


def test_a_worker_that_does_not_answer_is_counted_and_its_last_figures_stand(
    parent: Parent,
) -> None:
    first = parent.all()
    parent.answer(3)
    parent.answer(4)
    assert value(success(first).families, "relayd_messages_total") == 7
    second = parent.all()
    parent.answer(None)
    assert not has_fired(second)
    parent.answer(5)
    families = success(second).families
    assert value(families, "relayd_messages_total") == 8
    assert value(families, "relayd_workers_unanswered") == 1


def test_the_parent_queries_on_its_own_and_keeps_figures_of_dead_workers(parent: Parent) -> None:
    parent.clock.advance(INTERVAL)
    assert [parent.answer(30), parent.answer(4)] == [1, 2]
    parent.serving = {2}  # the first one is killed, and before any query
    told = parent.all()
    assert parent.answer(4) == 2
    families = success(told).families
    assert value(families, "relayd_messages_total") == 34
    assert value(families, "relayd_workers_unanswered") == 0  # it does not serve
    parent.serving = {1, 2}
    told = parent.all()
    parent.answer(1, process="its successor")
    parent.answer(4)
    assert value(success(told).families, "relayd_messages_total") == 35


def test_queries_to_workers_do_not_overtake_each_other(parent: Parent) -> None:
    """A query made while one is in progress shares the next one, with every earlier event."""
    first, second, third = (parent.all() for _ in range(3))
    assert len(parent.queries) == 2
    parent.answer(1)
    parent.answer(1)
    assert value(success(first).families, "relayd_messages_total") == 2
    assert not has_fired(second)
    assert len(parent.queries) == 2
    parent.answer(5)
    parent.answer(5)
    for later in (second, third):
        assert value(success(later).families, "relayd_messages_total") == 10
    assert len(parent.queries) == 0


def test_an_invalid_answer_is_logged_and_left_out() -> None:
    parent = Parent()
    with logged_failures() as failures:
        told = parent.all()
        parent.queries.popleft()[1].callback(b"nonsense")
        parent.answer(2)
        assert value(success(told).families, "relayd_messages_total") == 2
    assert len(failures) == 1


def test_no_worker_answers_without_a_control_socket() -> None:
    ask: Any = query_through(None, {})
    asking: Deferred[bytes] = Deferred.fromCoroutine(ask(1))
    assert str(failure(asking, NoAnswer)) == "it has no control socket"
