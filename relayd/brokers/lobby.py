"""The list of the rooms that have members, with the time of their newest message.

Under both brokers, on `presence`; implements `brokers.interface.Lobby`. Members cost nothing here:
the list is made when somebody asks, and serves all who ask in the next `KEPT` seconds. Other
processes report their rooms through `over_redis.lobby_link`.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd.brokers.interface import LiveRoom, LiveRooms
from relayd.brokers.presence import Presence
from relayd.errors import StoreUnavailable

KEPT = 2.0
"""Seconds for which a list is kept."""
MOST = 2000
"""Rooms of a list; of more rooms, it has those with the most members."""

Posted = Callable[[Sequence[str]], Coroutine[Any, Any, Mapping[str, int]]]
"""Reads the times of the newest messages of rooms; a room that keeps none is not in the answer.
Raises StoreUnavailable."""


class Elsewhere(NamedTuple):
    """The rooms of the other processes.

    Attributes:
        sizes: how many members each room has there.
        partial: whether a process is missing, or has more rooms than it reports.
    """

    sizes: Mapping[str, int]
    partial: bool


class Others(Protocol):
    """The other processes."""

    async def read(self) -> Elsewhere:
        """What they have reported. Never fails because Redis is away."""


class Lobby:
    """The list of one process.

    Args:
        presence: the members in this process.
        seconds: returns the time of a monotonic clock.
        posted: reads times.
        others: the other processes; None without any.
    """

    def __init__(
        self,
        presence: Presence,
        seconds: Callable[[], float],
        posted: Posted,
        others: Others | None = None,
    ) -> None:
        self._presence = presence
        self._seconds = seconds
        self._posted = posted
        self._others = others
        self._kept = LiveRooms((), partial=False)
        self._until = float("-inf")
        self._waiting: list[Deferred[LiveRooms]] = []

    async def rooms(self) -> LiveRooms:
        if self._seconds() < self._until:
            return self._kept
        waiting: Deferred[LiveRooms] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._read()).addBoth(self._answer)
        return await waiting

    def _answer(self, outcome: LiveRooms | Failure) -> None:
        if not isinstance(outcome, Failure):
            self._kept, self._until = outcome, self._seconds() + KEPT
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(outcome)

    async def _read(self) -> LiveRooms:
        sizes = Counter(self._presence.sizes(MOST))
        partial = self._presence.rooms > len(sizes)
        if self._others is not None:
            elsewhere = await self._others.read()
            sizes.update(elsewhere.sizes)
            partial = partial or elsewhere.partial
        if len(sizes) > MOST:
            sizes, partial = Counter(dict(sizes.most_common(MOST))), True
        times: Mapping[str, int] = {}
        if sizes:
            try:
                times = await self._posted(list(sizes))
            except StoreUnavailable:  # its health has logged it
                partial = True
        rooms = [LiveRoom(name, size, times.get(name)) for name, size in sizes.items()]
        rooms.sort(key=lambda room: (-(room.posted or 0), -room.members, room.name))
        return LiveRooms(rooms, partial)
