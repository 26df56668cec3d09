"""The memory of tags is bounded, in each pair and in all, and ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.brokers.tags import EACH, MEMORY, Tags, mark_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tags(clock: Clock) -> Tags:
    return Tags(clock.seconds, most=200)


def test_a_tag_is_remembered_for_its_time_and_for_its_pair(clock: Clock, tags: Tags) -> None:
    tags.add("a", "1")
    assert tags.has("a", "1")
    assert not tags.has("b", "1")
    assert not tags.has("a", "2")
    clock.advance(MEMORY - 1)
    assert tags.has("a", "1")
    clock.advance(1)
    assert not tags.has("a", "1")
    tags.add("b", "2")
    assert len(tags) == 1


def test_no_tag_is_never_remembered(tags: Tags) -> None:
    tags.add("a", mark_of("secret", ""))
    assert len(tags) == 0
    assert not tags.has("a", "")


def test_a_pair_has_its_last_tags(tags: Tags) -> None:
    for number in range(EACH + 10):
        tags.add("a", str(number))
    assert len(tags) == EACH
    assert [number for number in range(EACH + 10) if tags.has("a", str(number))] == [
        *range(10, EACH + 10)
    ]


def test_the_pair_that_was_silent_for_longest_makes_room(tags: Tags) -> None:
    for uuid in "abc":
        for number in range(EACH):
            tags.add(uuid, str(number))
    tags.add("a", "0")
    for number in range(EACH):
        tags.add("d", str(number))
    assert len(tags) <= 200
    assert not tags.has("b", "0")
    assert tags.has("a", "0")


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 90), st.integers(0, 200)), max_size=300
    )
)
def test_the_count_is_that_of_the_marks(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    tags = Tags(clock.seconds, most=100)
    for uuid, mark, pause in steps:
        clock.advance(pause / 10)
        tags.add(uuid, str(mark))
        assert tags.has(uuid, str(mark))
        assert len(tags) == sum(map(len, tags._pairs.values())) <= 100


def test_marks_tell_secrets_and_tags_apart() -> None:
    marks = {mark_of(secret, tag) for secret in ("", "ab", "ab:") for tag in ("a", ":a", "b:a")}
    assert len(marks) == 9 - 1  # "ab" with ":a", "ab:" with "a": no secret is 3 characters long
