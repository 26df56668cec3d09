"""Where a room's ids jump to the present: after a start, and on another database.

Under `history`. A database that was put back from a backup, or a replica that was promoted, does
not know the ids that it has lost. The ids of a room begin with the Unix time in ms, so the present
is above all that were given out, as long as a room has fewer than 1,000 messages a second.
"""

from collections.abc import Hashable, Mapping

_AHEAD = 86_400_000  # ms; an id that a client names is believed up to a day ahead of the clock
_ROOMS = 10_000  # rooms that are remembered; one that is forgotten jumps once more


class Epochs:
    """The rooms in which this process has stored messages, and in which database that was."""

    def __init__(self) -> None:
        # the database that has a room's messages of this process, and the last one's id
        self._joined: dict[str, tuple[Hashable, int]] = {}
        self._floors: dict[str, int] = {}

    def leap(self, room: str, lineage: Hashable, next_id: int, now: int) -> int:
        """How many ids a message skips; called in a thread of the pool.

        Args:
            room: the room's name.
            lineage: the database that stores the message, as `engines.Engine.lineage` says it.
            next_id: the id of the room's last message plus one.
            now: Unix time in ms.
        """
        joined = self._joined.get(room)
        if joined is not None and joined[0] == lineage:
            return 0
        return max(0, now - next_id, self._floors.get(room, 0) + 1 - next_id)

    def lacks(self, room: str, lineage: Hashable, last: int) -> bool:
        """Whether another database than before lacks messages that this process has stored.

        Args:
            room: the room's name.
            lineage: as for `leap`.
            last: the id of the room's last message; 0 if there is no such room.
        """
        joined = self._joined.get(room)
        return joined is not None and joined[0] != lineage and last < joined[1]

    def stored(self, rooms: Mapping[str, tuple[Hashable, int]]) -> None:
        """Notes after the COMMIT which database each room's messages are in, and the last id."""
        if len(self._joined) + len(rooms) > _ROOMS:
            self._joined.clear()
        self._joined.update(rooms)
        for room in rooms.keys() & self._floors.keys():
            del self._floors[room]

    def named(self, room: str, id: int, last: int, now: int) -> None:
        """Lets the next id be above one that a client has seen and the database has not.

        Args:
            room: the room's name.
            id: the client's.
            last: the room's last id; 0 if there is no such room.
            now: Unix time in ms.
        """
        if 0 < last < id <= now + _AHEAD and (room in self._floors or len(self._floors) < _ROOMS):
            self._floors[room] = max(id, self._floors.get(room, 0))
            self._joined.pop(room, None)
