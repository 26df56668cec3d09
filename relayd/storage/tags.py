"""The tags of chat messages: a message that is sent again is found, and not stored again.

`history` and `upkeep` run it in the threads of the pool; on the table of migration 0005. A tag is
of use as long as the room keeps its message, for `[chat] tags_kept` seconds at most.
"""

from collections.abc import Sequence

from relayd.quotas.usage import TAGGED
from relayd.storage.engines import Cursor, Engine
from relayd.wire import ChatEntry

_STRIDE = 100  # old tags of a room are deleted by the hundred
_LOCK = "UPDATE chat_rooms SET bytes = bytes WHERE name = %s"
_FIND = """
    SELECT t.mark, m.id, m.body FROM chat_tags t
    JOIN chat_messages m ON m.room = t.room AND m.id = t.id
    WHERE t.room = %s AND t.posted_at >= %s AND t.mark IN ({marks})
"""
_NOTE = """
    INSERT INTO chat_tags (room, mark, id, posted_at) VALUES (%s, %s, %s, %s)
    ON CONFLICT (room, mark) DO UPDATE SET id = excluded.id, posted_at = excluded.posted_at
"""
_FORGET = """
    DELETE FROM chat_tags WHERE room = %s AND id <= COALESCE(
        (SELECT id FROM chat_messages WHERE room = %s ORDER BY id DESC LIMIT 1 OFFSET %s),
        (SELECT MIN(id) - 1 FROM chat_messages WHERE room = %s)
    )
"""
_EXPIRE = "DELETE FROM chat_tags WHERE posted_at < %s"


class Tags:
    """The statements on the tags.

    Args:
        engine: of the database.
        kept: seconds for which a tag is of use.
    """

    def __init__(self, engine: Engine, kept: float) -> None:
        self._engine = engine
        self._kept = int(kept * 1000)
        self._lock, self._note = engine.sql(_LOCK), engine.sql(_NOTE)
        self._forget, self._expire = engine.sql(_FORGET), engine.sql(_EXPIRE)

    def sort_out(
        self, cursor: Cursor, room: str, messages: Sequence[tuple[int, str]], now: int
    ) -> tuple[list[int], dict[int, ChatEntry | int]]:
        """Finds out which messages of a room are to be stored.

        Args:
            cursor: in a transaction, which locks the room's row.
            room: its name.
            messages: place and mark of each message, in their order; the mark is empty without a
                tag.
            now: Unix time in ms.

        Returns:
            Their places, and for each of the others its entry, or the place of the same message.
        """
        marks = sorted({mark for _, mark in messages} - {""})
        found = self._find(cursor, room, marks, now) if marks else {}
        fresh: list[int] = []
        again: dict[int, ChatEntry | int] = {}
        firsts: dict[str, int] = {}
        for place, mark in messages:
            if mark in found:
                again[place] = found[mark]
            elif mark in firsts:
                again[place] = firsts[mark]
            else:
                fresh.append(place)
                if mark:
                    firsts[mark] = place
        return fresh, again

    def _find(
        self, cursor: Cursor, room: str, marks: Sequence[str], now: int
    ) -> dict[str, ChatEntry]:
        cursor.execute(self._lock, (room,))
        sql = self._engine.sql(_FIND.format(marks=", ".join(["%s"] * len(marks))))
        cursor.execute(sql, (room, now - self._kept, *marks))
        return {
            mark: ChatEntry(id, body.encode(), repeated=True)
            for mark, id, body in cursor.fetchall()
        }

    def note(self, cursor: Cursor, room: str, mark: str, id: int, time: int) -> None:
        """Notes the tag of a stored message, which has the room's newest id so far."""
        cursor.execute(self._note, (room, mark, id, time))
        if id % _STRIDE == 0:
            cursor.execute(self._forget, (room, room, TAGGED, room))

    def expire(self, cursor: Cursor, now: int) -> None:
        """Deletes the tags that are of no use any more, at `now`, a Unix time in ms."""
        cursor.execute(self._expire, (now - self._kept,))
