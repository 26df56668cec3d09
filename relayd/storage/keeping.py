"""What the chat rooms keep: trims messages, deletes rooms, counts both; each call in a transaction.

Stands on `engines`; `history` and `upkeep` run it in the threads of the pool. The size of a room
stands in its row, and the transaction that stores or deletes a message changes it. The sums over
all rooms are read from these rows, never from the messages.
"""

import secrets
from collections.abc import Sequence

from relayd.quotas.usage import StoredRoom, Usage
from relayd.storage.engines import Cursor, Engine

_PADDING = 32 * 1024  # bytes, written as twice as many digits: as much as the largest message
_ROW = 64  # bytes of a stored message beside body and name of the room, about
_FEW = 2000  # messages that are measured or deleted together
_MARGIN = 60_000  # ms; the clocks of processes on one database differ by less

_MEASURE = "SELECT id, {octets} FROM chat_messages WHERE room = %s ORDER BY id LIMIT %s"
_DELETE = "DELETE FROM chat_messages WHERE room = %s AND id < %s RETURNING id, {octets}"
_SHRINK = """
    UPDATE chat_rooms SET bytes = bytes - %s, messages = messages - %s,
        oldest_id = CASE WHEN oldest_id < %s THEN %s ELSE oldest_id END
    WHERE name = %s
"""
_LOCK = "UPDATE chat_rooms SET bytes = bytes WHERE name = %s RETURNING oldest_id, last_id, bytes"
_OLDEST = "SELECT oldest_id FROM chat_rooms WHERE name = %s"
_LARGEST = "SELECT name, bytes FROM chat_rooms ORDER BY bytes DESC, name LIMIT 2"
_SUMS = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM chat_rooms"
_LONGEST_IDLE = """
    SELECT name, posted_at FROM chat_rooms WHERE bytes > 0 ORDER BY posted_at, name LIMIT 1
"""
_NEXT = "SELECT name FROM chat_rooms WHERE name > %s ORDER BY name LIMIT 1"
_WEIGH = """
    UPDATE chat_rooms SET bytes = (
        SELECT COALESCE(SUM({octets} + %s), 0) FROM chat_messages WHERE room = %s
    ), messages = (
        SELECT COUNT(*) FROM chat_messages WHERE room = chat_rooms.name AND id >= oldest_id
    ) WHERE name = %s
"""
_EMPTY = """
    DELETE FROM chat_rooms WHERE bytes <= 0 AND last_id < %s
        AND NOT EXISTS (SELECT 1 FROM chat_messages WHERE room = name)
"""
# of a room that no client can name
_TRY = """
    INSERT INTO chat_rooms (name, first_id, oldest_id, last_id, bytes, posted_at)
    VALUES ('', 1, 1, 1, 0, 0) ON CONFLICT (name) DO UPDATE SET last_id = chat_rooms.last_id
"""
_TRY_MESSAGE = "INSERT INTO chat_messages (room, id, body) VALUES ('', 1, %s)"
_TRIED = "DELETE FROM chat_messages WHERE room = ''", "DELETE FROM chat_rooms WHERE name = ''"
_LIST = """
    SELECT name, messages, bytes, posted_at FROM chat_rooms
    WHERE bytes > 0 ORDER BY bytes DESC, name LIMIT %s
"""

_POSTED = "SELECT name, posted_at FROM chat_rooms WHERE bytes > 0 AND name IN ({marks})"
_TOGETHER = 500  # names of one statement; SQLite takes 999 parameters everywhere


def weigh(room: str, body: bytes) -> int:
    """The bytes that a message takes in the store, about: a row has the name of its room twice."""
    return len(body) + _ROW + 2 * len(room.encode())


class Keeping:
    """The statements on the rooms' sizes.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._measure = engine.sql(_MEASURE.format(octets=engine.octets))
        self._delete = engine.sql(_DELETE.format(octets=engine.octets))
        self._shrink, self._oldest = engine.sql(_SHRINK), engine.sql(_OLDEST)
        self._lock = engine.sql(_LOCK)
        self._empty = engine.sql(_EMPTY)
        self._list = engine.sql(_LIST)
        self._sql = engine.sql
        self._next = engine.sql(_NEXT)
        self._weigh = engine.sql(_WEIGH.format(octets=engine.octets))
        self._try_message = engine.sql(_TRY_MESSAGE)

    def attempt(self, cursor: Cursor) -> None:
        """Tries in a transaction whether a message can be kept, and deletes it there."""
        cursor.execute(_TRY)
        # text that no database compresses
        cursor.execute(self._try_message, (secrets.token_hex(_PADDING),))
        for statement in _TRIED:
            cursor.execute(statement)

    def count(self, cursor: Cursor) -> Usage:
        """Counts all rooms and their bytes."""
        cursor.execute(_SUMS)
        rooms, total = cursor.fetchone()
        return Usage(int(rooms), int(total))

    def largest(self, cursor: Cursor, limit: int) -> list[StoredRoom]:
        """The rooms that keep the most bytes, the largest first."""
        cursor.execute(self._list, (limit,))
        return [StoredRoom(str(row[0]), *map(int, row[1:])) for row in cursor.fetchall()]

    def posted(self, cursor: Cursor, rooms: Sequence[str]) -> dict[str, int]:
        """The Unix time in ms of the newest message of each room that keeps any."""
        found: dict[str, int] = {}
        for start in range(0, len(rooms), _TOGETHER):
            names = rooms[start : start + _TOGETHER]
            marks = ", ".join(["%s"] * len(names))
            cursor.execute(self._sql(_POSTED.format(marks=marks)), names)
            found.update((str(name), int(at)) for name, at in cursor.fetchall())
        return found

    def delete_before(self, cursor: Cursor, room: str, id: int) -> int:
        """Deletes a room's messages before an id; returns their bytes."""
        cursor.execute(self._oldest, (room,))
        oldest = cursor.fetchone()[0]
        cursor.execute(self._delete, (room, id))
        deleted, own = cursor.fetchall(), weigh(room, b"")
        freed = sum(size + own for _, size in deleted)
        counted = sum(one >= oldest for one, _ in deleted)
        cursor.execute(self._shrink, (freed, counted, id, id, room))
        return freed

    def free(self, cursor: Cursor, room: str, wanted: int) -> int:
        """Deletes a room's oldest messages, at most some hundred.

        Args:
            cursor: in a transaction that has locked the room's row.
            room: its name.
            wanted: the bytes to free.

        Returns:
            The freed bytes.
        """
        cursor.execute(self._measure, (room, _FEW))
        found, own, freed, end = cursor.fetchall(), weigh(room, b""), 0, 0
        for id, size in found:
            if freed >= wanted:
                break
            freed += size + own
            end = id + 1
        return self.delete_before(cursor, room, end) if end else 0

    def trim_largest(self, cursor: Cursor, wanted: int) -> int:
        """Takes bytes from the largest room, so that small rooms keep theirs.

        It loses a quarter at most, or as much as it is larger than the next: of rooms of one size
        none loses everything.

        Returns:
            The freed bytes; 0 if no room keeps anything.
        """
        cursor.execute(_LARGEST)
        sizes = cursor.fetchall()
        if not sizes:
            return 0
        (room, most), second = sizes[0], sizes[1][1] if len(sizes) > 1 else 0
        cursor.execute(self._lock, (room,))
        if cursor.fetchone() is None:
            return 0
        return self.free(cursor, room, min(wanted, max(most // 4, most - second, 1)))

    def delete(self, cursor: Cursor, room: str, now: int) -> bool:
        """Deletes a room with its messages; whether it kept any.

        Its row stays until the clock has passed its last id, so that no id is given twice.
        """
        cursor.execute(self._lock, (room,))
        row = cursor.fetchone()
        if row is None:
            return False
        _, last, size = row
        self.delete_before(cursor, room, last + 1)
        self.drop_empty(cursor, now)
        return bool(size > 0)

    def drop_empty(self, cursor: Cursor, now: int) -> None:
        """Deletes the rows of empty rooms whose ids the clock has passed."""
        cursor.execute(self._empty, (now - _MARGIN,))

    def expire(self, cursor: Cursor, before: int, most: int) -> bool:
        """Deletes some messages of the room that has had none for the longest time.

        Args:
            cursor: in a transaction.
            before: Unix time in ms; rooms whose newest message is older have expired.
            most: the number of rooms beyond which the longest idle ones go, too.

        Returns:
            Whether there may be more to delete.
        """
        cursor.execute(_LONGEST_IDLE)
        row = cursor.fetchone()
        if row is None or (row[1] >= before and self.count(cursor).rooms <= most):
            return False
        cursor.execute(self._lock, (row[0],))
        locked = cursor.fetchone()
        return locked is not None and self.free(cursor, row[0], locked[2] + 1) > 0

    def weigh_next(self, cursor: Cursor, after: str) -> str:
        """Weighs one room anew, in case something else has changed its messages.

        Args:
            cursor: in a transaction.
            after: the room that was weighed last, "" for none.

        Returns:
            The weighed room, the next by name; "" after the last one.
        """
        cursor.execute(self._next, (after,))
        row = cursor.fetchone()
        if row is None:
            return ""
        room = str(row[0])
        cursor.execute(self._lock, (room,))
        cursor.execute(self._weigh, (weigh(room, b""), room, room))
        return room
