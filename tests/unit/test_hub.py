"""Groups and fan-out."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from relayd.hub import Hub
from tests.unit.fakes import FakeMember, parse_frames


@pytest.fixture
def hub() -> Hub:
    return Hub()


def test_a_payload_comes_to_every_member_of_its_group_once_as_one_text_frame(hub: Hub) -> None:
    here, there = [FakeMember() for _ in range(3)], FakeMember()
    for member in here:
        hub.join("camera/a", member)
    hub.join("camera/b", there)
    assert hub.fan_out("camera/a", b'{"x":1}') == 3
    for member in here:
        assert [parse_frames(frame) for frame in member.frames] == [[(Opcode.TEXT, b'{"x":1}')]]
    assert there.frames == []


def test_members_are_served_in_the_order_in_which_they_came(hub: Hub) -> None:
    served: list[int] = []

    def note(number: int) -> Callable[[bytes], None]:
        return lambda frame: served.append(number)

    members = [FakeMember(note(number)) for number in range(5)]
    for member in members:
        hub.join("g", member)
    hub.fan_out("g", b"{}")
    assert served == [0, 1, 2, 3, 4]


def test_who_joins_twice_is_one_member(hub: Hub) -> None:
    member = FakeMember()
    hub.join("g", member)
    hub.join("g", member)
    assert hub.fan_out("g", b"{}") == 1
    assert len(member.frames) == 1
    hub.leave("g", member)
    assert hub.size("g") == 0


def test_a_payload_for_a_group_without_members_goes_nowhere(hub: Hub) -> None:
    assert hub.fan_out("g", b"{}") == 0
    assert list(hub) == []


def test_who_left_gets_nothing(hub: Hub) -> None:
    stays, leaves = FakeMember(), FakeMember()
    hub.join("g", stays)
    hub.join("g", leaves)
    hub.leave("g", leaves)
    assert hub.fan_out("g", b"{}") == 1
    assert (len(stays.frames), len(leaves.frames)) == (1, 0)


def test_leaving_a_group_one_is_not_in_changes_nothing(hub: Hub) -> None:
    member = FakeMember()
    hub.join("g", member)
    hub.leave("g", FakeMember())
    hub.leave("other", member)
    assert hub.size("g") == 1
    assert list(hub) == ["g"]


def test_a_member_that_leaves_while_it_is_served_takes_nothing_from_the_others(hub: Hub) -> None:
    first, last = FakeMember(), FakeMember()
    leaver = FakeMember(lambda frame: hub.leave("g", leaver))
    for member in (first, leaver, last):
        hub.join("g", member)
    hub.fan_out("g", b"1")
    hub.fan_out("g", b"2")
    assert [m.payloads for m in (first, leaver, last)] == [[b"1", b"2"], [b"1"], [b"1", b"2"]]


def test_the_group_may_end_while_it_is_served(hub: Hub) -> None:
    members: list[FakeMember] = []

    def everybody_leaves(frame: bytes) -> None:
        for member in members:
            hub.leave("g", member)

    members.extend([FakeMember(everybody_leaves), FakeMember()])
    for member in members:
        hub.join("g", member)
    hub.fan_out("g", b"{}")
    assert list(hub) == []


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 3)), max_size=60))
def test_nothing_stays_of_an_empty_group(steps: list[tuple[bool, str, int]]) -> None:
    """Whatever joins and leaves: the hub's groups are exactly those that have members."""
    hub, members = Hub(), [FakeMember() for _ in range(4)]
    expected: dict[str, list[int]] = {}
    for joins, group, number in steps:
        there = expected.setdefault(group, [])
        if joins:
            hub.join(group, members[number])
            if number not in there:
                there.append(number)
        else:
            hub.leave(group, members[number])
            if number in there:
                there.remove(number)
    kept = {group: numbers for group, numbers in expected.items() if numbers}
    assert sorted(hub) == sorted(kept)
    assert len(hub) == len(kept)
    for group in "abc":
        assert hub.size(group) == len(kept.get(group, []))
        assert hub.fan_out(group, b"{}") == hub.size(group)
