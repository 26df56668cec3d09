"""Checks of what comes from Redis, where other programs may write too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.brokers.foreign import LARGEST_ID, Foreign, split
from relayd.drops import DropReason, Drops
from tests.unit.fakes import logged_lines

LONGEST = 100


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def drops() -> Drops:
    return Drops()


@pytest.fixture
def foreign(clock: Clock, drops: Drops) -> Foreign:
    return Foreign(clock, drops, LONGEST)


def test_every_dropped_message_is_counted_and_one_a_minute_is_logged(
    foreign: Foreign, clock: Clock, drops: Drops
) -> None:
    with logged_lines("relayd.brokers.foreign") as lines:
        for _ in range(5):
            foreign.drop("chat/r", "no id")
        clock.advance(59)
        foreign.drop("chat/r", "no id")
        clock.advance(1)
        foreign.drop("push/t", "no object")
    assert drops[DropReason.INVALID] == 7
    assert lines == [
        "chat/r: an invalid message from Redis, dropped: no id",
        "push/t: an invalid message from Redis, dropped: no object (and 5 before it)",
    ]


@pytest.mark.parametrize(
    "payload",
    [b"", b"1", b"[]", b"{", b"{}x", b'{"x":"\xff"}', b'{"x":"' + b"y" * LONGEST + b'"}'],
)
def test_a_payload_other_than_a_short_object_in_utf_8_is_invalid(
    foreign: Foreign, payload: bytes
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        foreign.check_payload(payload)


def test_a_valid_payload_is_not_changed(foreign: Foreign) -> None:
    payload = '{ "x" : 1.50, "n": "é" }'.encode()
    assert foreign.check_payload(payload) is payload


@pytest.mark.parametrize(
    ("id", "body"),
    [
        (0, b'{"id":0}'),
        (-1, b'{"id":-1}'),
        (LARGEST_ID, b'{"id":%d}' % LARGEST_ID),
        (5, b'{"id":6}'),
        (5, b'{"message":"no id"}'),
        (5, b'{"id":"5"}'),
        (5, b'{"id":5,"message":"\xff"}'),
        (5, b"5"),
        (5, b""),
        (5, b'{"id":5,"message":"' + b"y" * LONGEST + b'"}'),
    ],
)
def test_an_entry_without_its_id_or_with_an_impossible_one_is_invalid(
    foreign: Foreign, id: int, body: bytes
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        foreign.check_entry(id, body)


def test_a_valid_entry_is_not_changed(foreign: Foreign) -> None:
    body = '{"message":"é","id":5}'.encode()
    entry = foreign.check_entry(5, body)
    assert (entry.id, entry.body) == (5, body)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_array_in_utf_8_or_a_value_error(data: bytes) -> None:
    try:
        elements = split(data)
    except ValueError:
        return
    data.decode()
    assert all(element in data for element in elements)
