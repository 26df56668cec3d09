"""HTTP requests share the time of a turn: the budget, and the order of those that wait."""

from collections.abc import Callable
from typing import Any

from relayd.edge.turns import BUDGET, Turns


class Work:
    """Calls that take time by a clock of their own, and are noted."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.time = 0.0
        self.done: list[str] = []
        reactor: Any = self
        self.turns = Turns(reactor, lambda: self.time)

    def callLater(self, seconds: float, call: Callable[[], object]) -> object:  # noqa: N802
        assert seconds == 0
        self.calls.append(call)
        return call

    def turn(self) -> None:
        """The next turn of the reactor, which makes the calls that were set before."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()

    def call(self, name: str, seconds: float = BUDGET / 4) -> None:
        self.time += seconds
        self.done.append(name)


def test_calls_within_the_budget_are_made_at_once() -> None:
    work = Work()
    for name in "abc":
        assert work.turns.run(lambda name=name: work.call(name))  # type: ignore[misc]
    assert work.done == ["a", "b", "c"]


def test_calls_beyond_the_budget_wait_for_the_next_turns_in_their_order() -> None:
    work = Work()
    made = [
        work.turns.run(lambda name=name: work.call(name))  # type: ignore[misc]
        for name in "abcdefghijk"
    ]
    assert made == [True] * 4 + [False] * 7
    work.turn()
    assert "".join(work.done) == "abcdefgh"
    work.turn()
    assert "".join(work.done) == "abcdefghijk"
    assert work.turns.run(lambda: work.call("l"))
    work.turn()
    assert work.calls == []


def test_a_call_that_comes_again_waits_behind_the_others() -> None:
    work = Work()

    def again() -> None:
        work.call("a")
        if work.done.count("a") < 3:
            work.turns.later(again)

    work.turns.later(again)
    work.turns.later(lambda: work.call("b"))
    work.turn()
    work.turn()
    assert work.done == ["a", "b", "a", "a"]
