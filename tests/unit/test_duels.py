"""Takeovers of one side of a pair: when they are a duel, and how often that is logged."""

import pytest
from twisted.internet.task import Clock

from relayd.brokers.duels import Duels
from tests.unit.fakes import logged_lines

UUID = "123e4567-e89b-42d3-a456-426614174000"


@pytest.mark.parametrize(("every", "warnings"), [(1, 5), (5, 4), (9, 4), (11, 0), (40, 0)])
def test_a_duel_is_more_than_three_takeovers_in_30_s_and_logged_once_a_minute(
    every: float, warnings: int
) -> None:
    clock = Clock()
    duels = Duels(clock.seconds)
    with logged_lines("relayd.brokers") as lines:
        while clock.seconds() < 300:
            before = len(lines)
            duels.taken_over("unity", UUID)
            assert len(lines) - before <= 1
            clock.advance(every)
    assert len(lines) == pytest.approx(warnings, abs=1) if warnings else lines == []


def test_sides_and_pairs_are_counted_apart_and_with_a_bound() -> None:
    duels = Duels(Clock().seconds)
    with logged_lines("relayd.brokers") as lines:
        for number in range(12_000):
            duels.taken_over("unity", str(number))
            duels.taken_over("android", str(number))
    assert lines == []
    assert len(duels._counts) == 10_000
