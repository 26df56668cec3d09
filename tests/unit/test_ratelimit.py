"""The token bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.connection.ratelimit import TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int = 1000) -> int:
    """How many of so many tries at one moment succeed."""
    return sum(bucket.take(now) for _ in range(tries))


def test_two_seconds_worth_may_come_at_once() -> None:
    assert taken(TokenBucket(10, 0), 0) == 20


def test_the_bucket_fills_at_its_rate_and_not_above_two_seconds_worth() -> None:
    bucket = TokenBucket(10, 100)
    taken(bucket, 100)
    assert taken(bucket, 100.5) == 5
    assert taken(bucket, 101.5) == 10
    assert taken(bucket, 1000) == 20


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_a_small_rate_still_lets_one_message_through(rate: float) -> None:
    bucket = TokenBucket(rate, 0)
    assert taken(bucket, 0) == 1
    assert taken(bucket, 0.9 / rate) == 0
    assert taken(bucket, 2.1 / rate) == 1


def test_a_peer_that_is_refused_again_and_again_keeps_the_frames_that_arrived_meanwhile() -> None:
    bucket = TokenBucket(1, 0)
    taken(bucket, 0)
    assert [bucket.take(step / 10) for step in range(1, 11)].count(True) <= 1
    assert taken(bucket, 2.05) >= 1


@given(
    st.floats(0.1, 1000),
    st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_at_most_the_rate_and_two_seconds_worth_is_let_through(
    rate: float, gaps: list[float]
) -> None:
    bucket, now, passed = TokenBucket(rate, 0), 0.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now)
    assert passed <= max(1, 2 * rate) + now * rate + 1e-6 * len(gaps)


@given(st.floats(1, 1000), st.integers(1, 500))
def test_a_client_that_keeps_to_the_rate_is_never_refused(rate: float, count: int) -> None:
    bucket = TokenBucket(rate, 0)
    assert all(bucket.take(number / rate) for number in range(count))
