"""What a process knows about the clock of a Redis, and the windows of scripts by it."""

import pytest

from relayd.redis.store_clock import StoreClock


def learned(*samples: tuple[float, float, float]) -> StoreClock:
    """A clock after questions: sent at, answered at, and the time that the store said."""
    clock = StoreClock()
    for asked, answered, time in samples:
        seconds, rest = divmod(time, 1)
        clock.learn(asked, answered, [b"%d" % seconds, b"%d" % round(rest * 1e6)])
    return clock


def test_a_window_ends_before_the_deadline_wherever_the_store_read_its_clock() -> None:
    """The store was asked at 100 and answered at 101: it read 5000 at some moment between."""
    begin, end = learned((100, 101, 5000)).window(101, 2)
    # at the latest at 101: its clock is at 5000 then, or later, and at 5002 two seconds later
    assert (begin, end) == (5_000_000, 5_002_000)


def test_a_closer_answer_makes_the_window_longer_and_a_less_close_one_does_not_shorten_it() -> None:
    close = learned((100, 101, 5000), (101, 101.01, 5001.5)).window(101.01, 2)
    assert close == (5_001_500, 5_003_500)
    clock = learned((101, 101.01, 5001.5), (102, 105, 5002.6))
    _, end = clock.window(105, 2)
    assert 5_007_400 < end < 5_007_500


def test_the_clocks_may_run_apart_by_a_thousandth() -> None:
    begin, end = learned((0, 0, 5000)).window(100, 2)
    assert (begin, end) == (5_099_900, 5_101_900)


@pytest.mark.parametrize("step", [-60, -3, 3, 60])
def test_a_clock_that_has_stepped_is_learned_anew(step: float) -> None:
    clock = learned((100, 100.1, 5000), (102, 102.1, 5002 + step))
    assert clock.window(102.1, 1) == (5_002_000 + step * 1000, 5_003_000 + step * 1000)
