"""The presence of rooms: few frames, whoever comes and goes, and lists that have a bound."""

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from relayd.brokers.presence import INTERVAL, MOST, SOON, Part, Presence
from relayd.hub import Listener
from tests.unit.fakes import parse_frames


class Watcher(Listener):
    """A client that watches a room, and knows what its frames say."""

    def __init__(self, presence: Presence) -> None:
        self.got: list[dict[str, Any]] = []
        presence.watch("lobby", self, lambda payload: self.got.append(json.loads(payload)))

    def write_items(self, items: Any, frames: bytes) -> None:
        self.got += [json.loads(payload) for _, payload in parse_frames(frames)]

    @property
    def users(self) -> set[str]:
        """The names that a client has that applies its frames in their order."""
        users: set[str] = set()
        for frame in self.got:
            if frame["presence"] == "here":
                users = set(frame["users"])
            else:
                users = users - set(frame["left"]) | set(frame["joined"])
        return users


class Scene:
    """The presence of one process, on a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.presence = Presence(self.clock)

    def enter(self, *users: str | None) -> None:
        for user in users:
            self.presence.enter("lobby", user)

    def leave(self, *users: str | None) -> None:
        for user in users:
            self.presence.leave("lobby", user)

    def watch(self) -> Watcher:
        return Watcher(self.presence)

    def wait(self, seconds: float = INTERVAL) -> None:
        self.clock.advance(seconds)
        self.clock.advance(0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_watcher_gets_all_members_once_and_then_what_changes(scene: Scene) -> None:
    scene.enter("ben", "ana", None)
    watcher = scene.watch()
    scene.wait(SOON)
    scene.enter("cyn")
    scene.leave("ben", None)
    scene.wait()
    assert watcher.got == [
        {"presence": "here", "count": 3, "anonymous": 1, "users": ["ana", "ben"]},
        {"presence": "changed", "count": 2, "anonymous": 0, "joined": ["cyn"], "left": ["ben"]},
    ]
    scene.wait(100)
    assert len(watcher.got) == 2, "a frame came although nothing changed"


def test_a_thousand_watchers_who_join_at_once_get_one_frame_each(scene: Scene) -> None:
    watchers = []
    for number in range(1000):
        scene.enter(f"u{number}" if number < 10 else None)
        watchers.append(scene.watch())
    scene.wait(SOON)
    assert {len(watcher.got) for watcher in watchers} == {1}
    scene.leave(*[None] * 990)
    scene.wait()
    assert {len(watcher.got) for watcher in watchers} == {2}
    assert {watcher.got[-1]["count"] for watcher in watchers} == {10}


def test_frames_of_a_busy_room_come_once_in_an_interval(scene: Scene) -> None:
    watcher = scene.watch()
    for number in range(100):
        scene.enter(f"u{number % 7}", None)
        scene.wait(INTERVAL / 10)
    assert 9 <= len(watcher.got) <= 12
    assert watcher.users == {f"u{number}" for number in range(7)}


def test_someone_who_came_and_left_between_two_frames_is_in_nobodys_list(scene: Scene) -> None:
    early = scene.watch()
    scene.wait(SOON)
    scene.enter("eve")
    late = scene.watch()
    scene.leave("eve")
    scene.wait()
    assert (early.users, late.users) == (set(), set())
    assert late.got[0]["presence"] == "here"


def test_a_person_counts_once_and_has_left_with_the_last_connection(scene: Scene) -> None:
    scene.enter("ana", "ana", None, None)
    watcher = scene.watch()
    scene.wait(SOON)
    scene.leave("ana")
    scene.wait()
    assert [frame["count"] for frame in watcher.got] == [3]
    scene.leave("ana")
    scene.wait()
    assert watcher.got[-1]["left"] == ["ana"]


def test_names_are_listed_up_to_a_bound_and_counted_beyond(scene: Scene) -> None:
    scene.enter(*(f"u{number:03}" for number in range(MOST)))
    watcher = scene.watch()
    scene.wait(SOON)
    assert len(watcher.got[0]["users"]) == MOST
    scene.enter("one more")
    scene.wait()
    scene.enter("another")
    scene.wait()
    scene.leave("another", "u001")
    scene.wait()
    assert watcher.got[1:3] == [
        {"presence": "here", "count": MOST + 1, "anonymous": 0},
        {"presence": "changed", "count": MOST + 2, "anonymous": 0},
    ]
    assert watcher.got[3]["presence"] == "here"
    assert "one more" in watcher.got[3]["users"]


def test_long_names_are_listed_up_to_a_bound_together(scene: Scene) -> None:
    scene.enter(*(f"{number}".zfill(255) for number in range(20)))
    watcher = scene.watch()
    scene.wait(SOON)
    assert watcher.got == [{"presence": "here", "count": 20, "anonymous": 0}]


def test_a_process_that_reports_no_names_has_them_counted(scene: Scene) -> None:
    scene.enter("ana", None)
    watcher = scene.watch()
    scene.presence.received("lobby", "p2", Part(500, 7, None))
    scene.wait(SOON)
    scene.presence.forget("p2")
    scene.wait()
    assert watcher.got == [
        {"presence": "here", "count": 509, "anonymous": 8},
        {"presence": "here", "count": 2, "anonymous": 1, "users": ["ana"]},
    ]


def test_a_room_without_watchers_keeps_nothing_but_its_members(scene: Scene) -> None:
    scene.enter("ana")
    watcher = scene.watch()
    scene.presence.unwatch("lobby", watcher)
    scene.presence.unwatch("lobby", watcher)
    assert list(scene.presence.watched) == []
    scene.presence.received("lobby", "p2", Part(1, 0, ("ben",)))
    scene.leave("ana")
    scene.wait(100)
    assert (watcher.got, scene.clock.getDelayedCalls()) == ([], [])
    assert scene.presence.part("lobby") == Part()
