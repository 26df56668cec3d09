"""The consistent hash: the same everywhere, even, and stable when shards come and go."""

from collections import Counter

import pytest

from relayd.redis.ring import Ring

KEYS = [f"room-{number}" for number in range(20_000)]
NAMES = [f"10.0.0.{number}:6379" for number in range(1, 9)]


def owners(names: list[str]) -> dict[str, str]:
    ring = Ring(names)
    return {key: ring.names[ring.find(key)] for key in KEYS}


def test_the_owner_of_a_key_never_changes() -> None:
    """Processes of all versions must agree: these values are for ever."""
    ring = Ring(NAMES[:4])
    assert [ring.find(f"room-{number}") for number in range(8)] == [2, 0, 0, 2, 1, 2, 1, 2]
    assert [ring.find(key) for key in ("", "ключ", b"\x00\xff")] == [3, 2, 1]


def test_the_order_of_the_shards_does_not_matter() -> None:
    assert owners(NAMES) == owners(NAMES[::-1])


def test_a_text_key_is_hashed_as_utf8() -> None:
    ring = Ring(NAMES)
    assert all(ring.find(key) == ring.find(key.encode()) for key in ("a", "ключ"))


def test_every_shard_gets_about_its_share() -> None:
    shares = Counter(owners(NAMES).values())
    mean = len(KEYS) / len(NAMES)
    assert set(shares) == set(NAMES)
    assert max(shares.values()) < 1.3 * mean
    assert min(shares.values()) > 0.7 * mean


@pytest.mark.parametrize("count", [1, 2, 7])
def test_one_more_shard_takes_its_share_and_moves_nothing_else(count: int) -> None:
    before, after = owners(NAMES[:count]), owners(NAMES[: count + 1])
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {NAMES[count]}
    assert 0.7 < len(moved) / (len(KEYS) / (count + 1)) < 1.3


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_wrong_names_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="names"):
        Ring(names)
