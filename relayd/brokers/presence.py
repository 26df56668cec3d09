"""The members of the chat rooms: counts them, and reports joins and leaves to those that ask.

Under both brokers; implements `brokers.interface.Presence`. Pure, given a clock. A room whose
presence nobody watches costs its members a count in a dictionary. A watched room has one frame for
all its watchers, at most one in `INTERVAL`, however many members come and leave meanwhile. A
watcher's first frame has all members and comes with such a frame, so that the changes in later
frames begin where the first one ends.

Members in other processes come as one `Part` for each process (`over_redis.presence_link`).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import msgspec

from relayd import wire
from relayd.hub import Call, Hub, Member, Timing
from relayd.native.batching import Batching

INTERVAL = 1.0
"""Seconds between two frames to the watchers of a room."""
SOON = 0.05
"""Seconds that the first change waits for others, as when many clients reconnect at once."""
MOST = 100
"""Names that a frame or a `Part` has; of more members with names, only the count is known."""
LONGEST = 4096
"""Characters that these names have together."""


class Part(msgspec.Struct, frozen=True):
    """The members of a room that one process has.

    Attributes:
        named: people with names, each once however many connections they have.
        anonymous: connections without a name.
        users: the names, sorted; None if they are too many for a list.
    """

    named: int = 0
    anonymous: int = 0
    users: tuple[str, ...] | None = ()


class Others(Protocol):
    """The other processes."""

    def watch(self, room: str, answered: Callable[[], None]) -> None:
        """Has them report their parts of a room from now on, by `Presence.received`.

        Args:
            room: the room.
            answered: called when all have, or when it makes no sense to wait for more.
        """

    def unwatch(self, room: str) -> None:
        """No part of this room is wanted any more."""

    def changed(self, room: str) -> None:
        """The part of this process has changed."""


class _State(NamedTuple):
    """What the watchers of a room know: as `Part`, of all processes."""

    named: int
    anonymous: int
    users: frozenset[str] | None


class _Watched:
    """A room that has watchers in this process.

    Attributes:
        others: the parts of the other processes.
        waiting: watchers that have got no frame yet, each with the function that sends it one.
        settled: whether the other processes have answered.
        shown: what the last frame said.
        call: the timer of the next frame.
        at: when the last frame was sent.
    """

    def __init__(self) -> None:
        self.others: dict[str, Part] = {}
        self.waiting: dict[Member, Callable[[bytes], None]] = {}
        self.settled = False
        self.shown: _State | None = None
        self.call: Call | None = None
        self.at = float("-inf")


class Presence:
    """The members of all rooms, and their watchers in this process.

    Args:
        clock: for the frames.
        coalesce: as of `native.batching.Batching`.

    Attributes:
        others: the other processes; None without any.
    """

    def __init__(self, clock: Timing, coalesce: float = 0) -> None:
        self._clock = clock
        self._watchers = Hub(Batching(clock, coalesce))
        self._members: dict[str, Counter[str | None]] = {}
        self._watched: dict[str, _Watched] = {}
        self.others: Others | None = None

    # -- called by relays

    def enter(self, room: str, user: str | None) -> None:
        members = self._members.get(room)
        if members is None:
            members = self._members[room] = Counter()
        members[user] += 1
        self._changed(room)

    def leave(self, room: str, user: str | None) -> None:
        members = self._members[room]
        members[user] -= 1
        if not members[user]:
            del members[user]
        if not members:
            del self._members[room]
        self._changed(room)

    def watch(self, room: str, watcher: Member, send: Callable[[bytes], None]) -> None:
        watched = self._watched.get(room)
        if watched is None:
            watched = self._watched[room] = _Watched()
            if self.others is None:
                watched.settled = True
            else:
                self.others.watch(room, lambda: self._settle(room, watched))
        watched.waiting[watcher] = send
        self._schedule(room, watched)

    def unwatch(self, room: str, watcher: Member) -> None:
        watched = self._watched.get(room)
        if watched is None:
            return
        watched.waiting.pop(watcher, None)
        self._watchers.leave(room, watcher)
        if watched.waiting or self._watchers.size(room):
            return
        del self._watched[room]
        if watched.call is not None:
            watched.call.cancel()
        if self.others is not None:
            self.others.unwatch(room)

    # -- called by the lobby

    def sizes(self, most: int) -> dict[str, int]:
        """How many are in each room, counted as for `Part`; of more rooms, those that began last.

        Args:
            most: how many rooms.
        """
        rooms = islice(reversed(self._members.items()), most)
        return {room: len(found) - (None in found) + found[None] for room, found in rooms}

    @property
    def rooms(self) -> int:
        """How many rooms have members in this process."""
        return len(self._members)

    # -- called by the link to the other processes

    @property
    def watched(self) -> Iterable[str]:
        """The rooms that have watchers in this process."""
        return self._watched.keys()

    def part(self, room: str) -> Part:
        """The members of a room in this process."""
        members = self._members.get(room)
        if members is None:
            return Part()
        names = {user for user in members if user is not None}
        return Part(len(names), members[None], None if _too_many(names) else tuple(sorted(names)))

    def received(self, room: str, process: str, part: Part) -> None:
        """Another process has reported its part of a room."""
        watched = self._watched.get(room)
        if watched is not None and watched.others.get(process) != part:
            watched.others[process] = part
            self._schedule(room, watched)

    def answers(self, room: str) -> int:
        """How many other processes have reported their part of a room."""
        watched = self._watched.get(room)
        return 0 if watched is None else len(watched.others)

    def processes(self) -> set[str]:
        """The other processes that have reported any part."""
        return {process for watched in self._watched.values() for process in watched.others}

    def forget(self, process: str) -> None:
        """Another process is dead: its members have left."""
        for room, watched in self._watched.items():
            if watched.others.pop(process, None) is not None:
                self._schedule(room, watched)

    # -- frames

    def _changed(self, room: str) -> None:
        watched = self._watched.get(room)
        if watched is not None:
            self._schedule(room, watched)
        if self.others is not None:
            self.others.changed(room)

    def _settle(self, room: str, watched: _Watched) -> None:
        watched.settled = True
        self._schedule(room, watched)

    def _schedule(self, room: str, watched: _Watched) -> None:
        if watched.call is None and watched.settled and self._watched.get(room) is watched:
            delay = max(SOON, watched.at + INTERVAL - self._clock.seconds())
            watched.call = self._clock.callLater(delay, partial(self._report, room, watched))

    def _report(self, room: str, watched: _Watched) -> None:
        """Sends what has changed to all watchers, and to new ones what there is."""
        watched.call = None
        watched.at = self._clock.seconds()
        before, now = watched.shown, self._state(room, watched)
        watched.shown = now
        if before is not None and before != now and self._watchers.size(room):
            self._watchers.fan_out(room, _encode_change(before, now))
        waiting, watched.waiting = watched.waiting, {}
        if waiting:
            frame = _encode_all(now)
            for watcher, send in waiting.items():
                self._watchers.join(room, watcher)
                send(frame)

    def _state(self, room: str, watched: _Watched) -> _State:
        parts = [self.part(room), *watched.others.values()]
        anonymous = sum(part.anonymous for part in parts)
        users: set[str] = set()
        for part in parts:
            if part.users is None:
                return _State(sum(part.named for part in parts), anonymous, None)
            users.update(part.users)
        return _State(len(users), anonymous, None if _too_many(users) else frozenset(users))


def _too_many(names: set[str]) -> bool:
    """Whether names are not listed."""
    return len(names) > MOST or sum(map(len, names)) > LONGEST


def _encode_all(state: _State) -> bytes:
    users = None if state.users is None else sorted(state.users)
    return wire.encode_present(state.named + state.anonymous, state.anonymous, users)


def _encode_change(before: _State, now: _State) -> bytes:
    """What has changed; everything, where the names are listed again, or no more."""
    if (before.users is None) is not (now.users is None):
        return _encode_all(now)
    joined = left = None
    if before.users is not None and now.users is not None:
        joined, left = sorted(now.users - before.users), sorted(before.users - now.users)
    return wire.encode_presence_change(now.named + now.anonymous, now.anonymous, joined, left)
