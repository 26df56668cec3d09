"""Assigns ids from the rooms' rows, and trims old messages there; in the transaction that stores.

Stands on `keeping` and `epochs`; `history` runs it in the threads of the pool.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from relayd.storage.engines import Cursor, Engine
from relayd.storage.epochs import Epochs
from relayd.storage.keeping import Keeping, weigh
from relayd.wire import ChatDraft

_STRIDE = 100  # trimmed rows are deleted by the hundred

# parameters in the order of a row
_CREATE = """
    INSERT INTO chat_rooms (name, first_id, oldest_id, last_id, messages, bytes, posted_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET
        last_id = chat_rooms.last_id + excluded.messages,
        messages = chat_rooms.messages + excluded.messages,
        bytes = chat_rooms.bytes + excluded.bytes, posted_at = excluded.posted_at
    RETURNING first_id, oldest_id, last_id, messages, bytes, {origin}
"""
_CONTINUE = """
    UPDATE chat_rooms SET last_id = last_id + %s, messages = messages + %s,
        bytes = bytes + %s, posted_at = %s
    WHERE name = %s RETURNING first_id, oldest_id, last_id, messages, bytes, {origin}
"""
LOWEST = "SELECT COALESCE(MAX(lowest_id), 0) FROM chat_floors"
"""The id above which new rooms begin, since a backup was restored; 0 if none was."""
_BEGIN = "UPDATE chat_rooms SET first_id = %s, oldest_id = %s, last_id = %s WHERE name = %s"
_LEAP = "UPDATE chat_rooms SET last_id = last_id + %s WHERE name = %s"
_SET_OLDEST = "UPDATE chat_rooms SET messages = %s, oldest_id = %s WHERE name = %s"
# where ids jump among the kept messages
_FIND_OLDEST = """
    UPDATE chat_rooms SET messages = %s, oldest_id = COALESCE((
        SELECT id + 1 FROM chat_messages WHERE room = chat_rooms.name AND id >= chat_rooms.oldest_id
        ORDER BY id LIMIT 1 OFFSET %s
    ), oldest_id) WHERE name = %s RETURNING oldest_id
"""


class Taken(NamedTuple):
    """What messages have got.

    Attributes:
        ids: one for each message.
        created: whether the room is new.
        added: how many bytes more the room keeps.
        lineage: of the database that stores them.
        lost: whether the room lacks messages that this process has stored.
    """

    ids: Sequence[int]
    created: bool
    added: int
    lineage: Hashable
    lost: bool


class Ids:
    """The statements that assign ids.

    Args:
        engine: of the database.
        keeping: deletes messages.
        epochs: says where ids jump.
        clock: returns the Unix time in seconds.
        keep: how many messages a room keeps.
        room_bytes: how many bytes a room keeps.
    """

    def __init__(
        self,
        engine: Engine,
        keeping: Keeping,
        epochs: Epochs,
        clock: Callable[[], float],
        *,
        keep: int,
        room_bytes: int,
    ) -> None:
        self._engine = engine
        self._keeping = keeping
        self._epochs = epochs
        self._clock = clock
        self._keep = keep
        self._room_bytes = room_bytes
        self._create = engine.sql(_CREATE.format(origin=engine.origin))
        self._continue = engine.sql(_CONTINUE.format(origin=engine.origin))
        self._begin, self._leap = engine.sql(_BEGIN), engine.sql(_LEAP)
        self._set_oldest, self._find_oldest = map(engine.sql, (_SET_OLDEST, _FIND_OLDEST))

    def take(
        self, cursor: Cursor, room: str, drafts: Sequence[ChatDraft], start: int, create: bool
    ) -> Taken | None:
        """Assigns the room's next ids, locks its row until COMMIT, and trims old messages.

        Args:
            cursor: in a transaction.
            room: the room's name.
            drafts: the messages, which the caller stores.
            start: Unix time in ms, the first id if there is no such room.
            create: whether the messages may create it.

        Returns:
            None if there is no such room and the messages may not create it.
        """
        count = len(drafts)
        # an id has 13 digits until the year 2286
        bodies = sum(len(one.head) + 13 + len(one.tail) for one in drafts)
        size = bodies + count * weigh(room, b"")
        if create:
            row = (room, start, start, start + count - 1, count, size, start)
            cursor.execute(self._create, row)
        else:
            cursor.execute(self._continue, (count, count, size, start, room))
        found = cursor.fetchone()
        if found is None:
            return None
        first, had_oldest, last, kept, total, origin = found
        if created := last - count + 1 == first:
            cursor.execute(LOWEST)
            if (lowest := int(cursor.fetchone()[0])) >= first:
                first = had_oldest = lowest + 1
                last = lowest + count
                cursor.execute(self._begin, (first, first, last, room))
        lineage = self._engine.lineage(cursor, origin)
        now = start if created else int(self._clock() * 1000)
        lost = self._epochs.lacks(room, lineage, 0 if created else last - count)
        leap = self._epochs.leap(room, lineage, last - count + 1, now)
        if leap:
            cursor.execute(self._leap, (leap, room))
            last += leap
        oldest, freed = had_oldest, 0
        # an older version of relayd does not count them when it deletes
        if (kept := min(kept, last - had_oldest + 1)) > self._keep:
            oldest = self._trim_count(cursor, room, count, (had_oldest, last, kept))
            # a scan from the room's start meets all rows deleted since the last VACUUM
            if oldest // _STRIDE > had_oldest // _STRIDE:
                freed = self._keeping.delete_before(cursor, room, oldest)
        if total - freed > self._room_bytes:
            # an eighth more, so that not every message has to
            surplus = total - freed - self._room_bytes + self._room_bytes // 8
            freed += self._keeping.free(cursor, room, surplus)
        return Taken(range(last - count + 1, last + 1), created, size - freed, lineage, lost)

    def _trim_count(self, cursor: Cursor, room: str, count: int, row: tuple[int, int, int]) -> int:
        """Hides the messages beyond `keep`; returns the new oldest id.

        Args:
            cursor: in a transaction that has locked the room's row.
            room: its name.
            count: how many messages it gets, which are not stored yet.
            row: its oldest and last id, and the number of its messages, the new ones included.
        """
        oldest, last, kept = row
        if kept == last - oldest + 1 or count > self._keep:
            oldest = last - self._keep + 1
            cursor.execute(self._set_oldest, (self._keep, oldest, room))
            return oldest
        cursor.execute(self._find_oldest, (self._keep, kept - self._keep - 1, room))
        return int(cursor.fetchone()[0])
