"""The list of rooms: made once for all who ask, bounded, and honest about what is missing."""

from collections.abc import Mapping, Sequence

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.brokers.interface import LiveRoom, LiveRooms
from relayd.brokers.lobby import KEPT, MOST, Elsewhere, Lobby
from relayd.brokers.presence import Presence
from relayd.errors import StoreUnavailable
from tests.unit.fakes import failure, has_fired, success


class Scene:
    """A lobby whose store and other processes are this object."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.presence = Presence(self.clock)
        self.times: dict[str, int] = {}
        self.error: Exception | None = None
        self.held: Deferred[None] | None = None
        self.elsewhere = Elsewhere({}, partial=False)
        self.asked: list[list[str]] = []
        self.lobby = Lobby(self.presence, self.clock.seconds, self.posted, self)

    async def read(self) -> Elsewhere:
        return self.elsewhere

    async def posted(self, rooms: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(rooms))
        if self.held is not None:
            await self.held
        if self.error is not None:
            raise self.error
        return self.times

    def ask(self) -> "Deferred[LiveRooms]":
        return Deferred.fromCoroutine(self.lobby.rooms())

    def now(self) -> LiveRooms:
        """The list that is made now."""
        self.clock.advance(KEPT)
        return success(self.ask())


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_rooms_come_by_their_newest_message_then_by_members_then_by_name(scene: Scene) -> None:
    for room in ("b", "a", "few", "many", "many"):
        scene.presence.enter(room, None)
    scene.times = {"b": 2, "few": 1}
    scene.elsewhere = Elsewhere({"few": 2, "far": 1}, partial=False)
    rooms = [LiveRoom("b", 1, 2), LiveRoom("few", 3, 1), LiveRoom("many", 2, None)]
    rooms += [LiveRoom("a", 1, None), LiveRoom("far", 1, None)]
    assert scene.now() == LiveRooms(rooms, partial=False)


def test_a_person_with_several_connections_counts_once_and_those_without_a_name_each(
    scene: Scene,
) -> None:
    entered = [("a", "ada"), ("a", "ada"), ("a", "ben"), ("a", None), ("a", None), ("b", "ada")]
    for room, user in entered:
        scene.presence.enter(room, user)
    assert {room.name: room.members for room in scene.now().rooms} == {"a": 4, "b": 1}
    for room, user in entered[1:]:
        scene.presence.leave(room, user)
    assert {room.name: room.members for room in scene.now().rooms} == {"a": 1}


def test_a_list_serves_all_who_ask_while_it_is_made_and_for_some_seconds(scene: Scene) -> None:
    scene.presence.enter("a", None)
    scene.held = Deferred()
    asking = [scene.ask() for _ in range(3)]
    assert not any(map(has_fired, asking))
    scene.held.callback(None)
    scene.held = None
    for each in asking:
        assert [room.name for room in success(each).rooms] == ["a"]
    scene.presence.enter("b", None)
    scene.clock.advance(KEPT - 0.1)
    assert [room.name for room in success(scene.ask()).rooms] == ["a"]
    scene.clock.advance(0.1)
    assert [room.name for room in success(scene.ask()).rooms] == ["a", "b"]
    assert [sorted(rooms) for rooms in scene.asked] == [["a"], ["a", "b"]]


def test_nobody_asks_the_store_while_no_room_has_members(scene: Scene) -> None:
    assert scene.now() == LiveRooms([], partial=False)
    assert scene.asked == []


def test_a_store_that_is_away_leaves_the_members_and_makes_the_list_partial(scene: Scene) -> None:
    scene.presence.enter("a", None)
    scene.error = StoreUnavailable("away")
    assert scene.now() == LiveRooms([LiveRoom("a", 1, None)], partial=True)
    scene.error = None
    assert not scene.now().partial
    scene.elsewhere = Elsewhere({}, partial=True)
    assert scene.now().partial


def test_of_too_many_rooms_those_with_the_most_members_are_listed(scene: Scene) -> None:
    for number in range(MOST + 1):
        scene.presence.enter(f"r{number}", None)
    found = scene.now()
    assert (len(found.rooms), found.partial) == (MOST, True)
    assert "r0" not in {room.name for room in found.rooms}, "it is not the last that began"
    scene.elsewhere = Elsewhere({f"far{number}": 2 for number in range(MOST)}, partial=False)
    found = scene.now()
    assert (len(found.rooms), found.partial) == (MOST, True)
    assert {room.members for room in found.rooms} == {2}


def test_a_failure_reaches_all_who_wait_and_the_next_one_asks_again(scene: Scene) -> None:
    scene.presence.enter("a", None)
    scene.held, scene.error = Deferred(), ZeroDivisionError()
    asking = [scene.ask(), scene.ask()]
    scene.held.callback(None)
    for each in asking:
        failure(each, ZeroDivisionError)
    scene.held, scene.error = None, None
    assert [room.name for room in success(scene.ask()).rooms] == ["a"]
