"""Pages of a room's history, bounded in messages and in bytes by the database itself.

`history` stands on it, and it on `engines`. The database hands over no more than a page has: what
is over would be in memory all the same, once for each reader.
"""

from relayd.storage.engines import Cursor, Engine
from relayd.wire import ChatEntry, ChatPage

# One statement, so one snapshot: the room's row and its messages fit together. Only the sizes of
# the messages that do not fit are looked at.
_PAGE = """
    WITH room AS (SELECT name, first_id, oldest_id, last_id FROM chat_rooms WHERE name = %s),
    found AS (
        SELECT m.id, {octets} AS size FROM room JOIN chat_messages m
        ON m.room = room.name AND m.id >= room.oldest_id AND m.id > {after}
        ORDER BY m.id LIMIT %s
    ),
    summed AS (SELECT id, size, SUM(size) OVER (ORDER BY id) AS total FROM found)
    SELECT room.first_id, room.oldest_id, room.last_id, m.id, m.body FROM room
    LEFT JOIN summed ON summed.total <= %s OR summed.total = summed.size
    LEFT JOIN chat_messages m ON m.room = room.name AND m.id = summed.id
    ORDER BY m.id
"""
_LARGEST = 2**63 - 1


class Pages:
    """The statements that read pages.

    Args:
        engine: the database's.
    """

    def __init__(self, engine: Engine) -> None:
        after_id = "CASE WHEN room.last_id < %s THEN 0 ELSE %s END"
        self._since = engine.sql(_PAGE.format(octets=engine.octets, after=after_id))
        self._last = engine.sql(_PAGE.format(octets=engine.octets, after="room.last_id - %s"))

    def last(self, cursor: Cursor, room: str, count: int, limit: int, size: int) -> ChatPage:
        """As `history.History.last`."""
        cursor.execute(self._last, (room, count, limit, size))
        return _read(cursor)[1]

    def since(self, cursor: Cursor, room: str, id: int, limit: int, size: int) -> ChatPage:
        """As `history.History.since`."""
        id = max(0, min(id, _LARGEST))
        cursor.execute(self._since, (room, id, id, limit, size))
        (first, oldest, last), page = _read(cursor)
        gap = oldest > first if id == 0 else not oldest - 1 <= id <= last
        return ChatPage(page.entries, gap, page.more)


def _read(cursor: Cursor) -> tuple[tuple[int, int, int], ChatPage]:
    """The room's first, oldest and last id (1, 1 and 0 without a room), and its messages."""
    rows = cursor.fetchall()
    if not rows:
        return (1, 1, 0), ChatPage([])
    first, oldest, last = rows[0][:3]
    entries = [ChatEntry(row[3], row[4].encode()) for row in rows if row[3] is not None]
    more = bool(entries) and entries[-1].id < last
    return (first, oldest, last), ChatPage(entries, more=more)
