"""Pages of a room's history, bounded in messages and in bytes by the database itself.

`history` stands on it, and it on `engines`. The database hands over no more than a page has: what
is over would be in memory all the same, once for each reader.
"""

from relayd.storage.engines import Cursor, Engine
from relayd.wire import ChatEntry, ChatPage

# One statement, so one snapshot: the room's row and its messages fit together. Only the sizes of
# the messages that do not fit are looked at.
_PAGE = """
    WITH room AS (
        SELECT name, first_id, oldest_id, last_id, hole_id, {after} AS after_id, {held} AS held
        FROM chat_rooms WHERE name = %s
    ),
    found AS (
        SELECT m.id, {octets} AS size FROM room JOIN chat_messages m
        ON m.room = room.name AND m.id >= room.oldest_id AND m.id > room.after_id
        ORDER BY m.id LIMIT %s
    ),
    summed AS (SELECT id, size, SUM(size) OVER (ORDER BY id) AS total FROM found)
    SELECT room.first_id, room.oldest_id, room.last_id, room.hole_id, room.held, m.id, m.body
    FROM room
    LEFT JOIN summed ON summed.total <= %s OR summed.total = summed.size
    LEFT JOIN chat_messages m ON m.room = room.name AND m.id = summed.id
    ORDER BY m.id
"""
# an id that the room has not reached is of another history: nothing is after it
_AFTER_ID = "CASE WHEN last_id < %s THEN 0 ELSE CAST(%s AS BIGINT) END"
# an id that the room does not hold is none of its last message, nor of what was trimmed before
_HELD = """
    CASE WHEN oldest_id - 1 = %s OR EXISTS (
        SELECT 1 FROM chat_messages WHERE room = chat_rooms.name AND id >= oldest_id AND id = %s
    ) THEN 1 ELSE 0 END
"""
# ids are no places: they jump
_BEFORE_LAST = """
    COALESCE((
        SELECT id FROM chat_messages WHERE room = chat_rooms.name AND id >= oldest_id
        ORDER BY id DESC LIMIT 1 OFFSET %s
    ), 0)
"""
_LARGEST = 2**63 - 1


class Pages:
    """The statements that read pages.

    Args:
        engine: the database's.
    """

    def __init__(self, engine: Engine) -> None:
        self._since = engine.sql(_PAGE.format(octets=engine.octets, after=_AFTER_ID, held=_HELD))
        self._last = engine.sql(_PAGE.format(octets=engine.octets, after=_BEFORE_LAST, held="1"))

    def last(self, cursor: Cursor, room: str, count: int, limit: int, size: int) -> ChatPage:
        """As `history.History.last`."""
        cursor.execute(self._last, (count, room, limit, size))
        return _read(cursor)[1]

    def since(
        self, cursor: Cursor, room: str, id: int, limit: int, size: int
    ) -> tuple[int, ChatPage]:
        """The room's last id (0 without a room), and the page as `history.History.since`."""
        id = max(0, min(id, _LARGEST))
        cursor.execute(self._since, (id, id, id, id, room, limit, size))
        (first, oldest, last, hole, held), page = _read(cursor)
        gap = oldest > first or hole >= first if id == 0 else not held or id < hole
        lost = gap and held == 1
        return last, ChatPage(page.entries, gap, page.more, from_start=id > last, lost=lost)


def _read(cursor: Cursor) -> tuple[tuple[int, int, int, int, int], ChatPage]:
    """The room's first, oldest, last and lost id, whether it holds the one asked for, its messages.

    Without a room, the numbers are 1, 1, 0, 0 and 0.
    """
    rows = cursor.fetchall()
    if not rows:
        return (1, 1, 0, 0, 0), ChatPage([])
    first, oldest, last, hole, held = rows[0][:5]
    entries = [ChatEntry(row[5], row[6].encode()) for row in rows if row[5] is not None]
    more = bool(entries) and entries[-1].id < last
    return (first, oldest, last, hole, held), ChatPage(entries, more=more)
