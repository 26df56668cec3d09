"""The history of the chat rooms: append, the last messages, the messages since an id.

Stands on `pool` and on the tables of migration 0003. The transaction that stores a message assigns
its id from the room's row: ids are consecutive and never assigned twice, also with several
processes on one database (docs/decisions/0003-history-ids.md).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred

from relayd.errors import StoreUnavailable
from relayd.storage.batches import Batches
from relayd.storage.engines import Cursor
from relayd.storage.pages import Pages
from relayd.storage.pool import Database
from relayd.tally import SIZES, Buckets
from relayd.wire import ChatDraft, ChatEntry, ChatPage

_STRIDE = 100  # trimmed rows are deleted by the hundred
_ROWS = 500  # messages of one INSERT statement; SQLite takes 32,766 parameters

_TAKE_IDS = """
    INSERT INTO chat_rooms (name, first_id, oldest_id, last_id)
    VALUES (%s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET
        last_id = chat_rooms.last_id + excluded.last_id - excluded.first_id + 1
    RETURNING oldest_id, last_id
"""
_SET_OLDEST = "UPDATE chat_rooms SET oldest_id = %s WHERE name = %s"
_KEEP = "INSERT INTO chat_messages (room, id, body) VALUES "
_TRIM = "DELETE FROM chat_messages WHERE room = %s AND id < %s"
_ALL = 2**31 - 1


class _Message(NamedTuple):
    room: str
    draft: ChatDraft
    time: int  # Unix time, ms


class History:
    """The chat rooms' messages in the database.

    Args:
        database: with migration 0003.
        clock: returns the Unix time in seconds.
        keep: how many messages a room keeps.

    Attributes:
        appended: how many messages one transaction stored, for each transaction.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], float] = time.time, keep: int = 10_000
    ) -> None:
        self._database = database
        self._clock = clock
        self._keep = keep
        self.appended = Buckets(SIZES)
        self._take_ids = database.sql(_TAKE_IDS)
        self._set_oldest = database.sql(_SET_OLDEST)
        self._trim = database.sql(_TRIM)
        self._pages = Pages(database.engine)
        self._batches: Batches[_Message, ChatEntry] = Batches(
            self._perform,
            seconds=database.seconds,
            deadline=database.deadline,
            unavailable=StoreUnavailable,
        )

    def append(self, room: str, message: str, user: str | None = None) -> "Deferred[ChatEntry]":
        """Stores a message. Messages that arrive during a COMMIT share the next one.

        Args:
            room: the room's name.
            message: the text as clients see it.
            user: the sender's name, if a token gave one.

        Returns:
            A Deferred that fires with the entry after the COMMIT, in the order of the calls. It
            fails with StoreUnavailable. The message may still be in the history if the connection
            broke during the COMMIT, but no other message ever gets its id.
        """
        time = int(self._clock() * 1000)
        draft = ChatDraft.of(message, time, user)
        return self._batches.enqueue(
            _Message(room, draft, time), weight=len(draft.head) + len(room.encode())
        )

    async def settled(self) -> None:
        """Returns when the Deferreds of the transaction under way have fired.

        Entries that an earlier read returned have then been reported to their senders, too.
        """
        await self._batches.settled()

    async def last(self, room: str, count: int, limit: int = _ALL, size: int = _ALL) -> ChatPage:
        """The first page of the room's last `count` messages.

        Args:
            room: the room's name.
            count: how many messages.
            limit: how many of them the page has at most.
            size: their bytes at most; the page has at least one message.

        Raises:
            DatabaseUnavailable: the history cannot be read.
        """
        if count <= 0:
            return ChatPage([])
        return await self._database.run("history.last", self._pages.last, room, count, limit, size)

    async def since(self, room: str, id: int, limit: int = _ALL, size: int = _ALL) -> ChatPage:
        """The room's first messages after an id that a client has seen; 0 for all there ever were.

        Args:
            room: the room's name.
            id: the last one seen.
            limit: how many messages the page has at most.
            size: their bytes at most; the page has at least one message, if there is any.

        Returns:
            The messages after `id`. With something missing, or an `id` that the room has not
            reached (it is from before the history was lost), the first of all that are kept.

        Raises:
            DatabaseUnavailable: the history cannot be read.
        """
        return await self._database.run("history.since", self._pages.since, room, id, limit, size)

    async def _perform(self, messages: Sequence[_Message], timeout: float) -> list[ChatEntry]:
        entries = await self._database.run(
            "history.append", self._append, messages, write=True, timeout=timeout
        )
        self.appended.observe(len(entries))
        return entries

    def _append(self, cursor: Cursor, messages: Sequence[_Message]) -> list[ChatEntry]:
        places: dict[str, list[int]] = {}
        for place, message in enumerate(messages):
            places.setdefault(message.room, []).append(place)
        ids = [0] * len(messages)
        for room in sorted(places):  # one order of row locks for all processes: no deadlock
            start = messages[places[room][0]].time
            ids_of_room = self._take(cursor, room, start, len(places[room]))
            for place, id in zip(places[room], ids_of_room, strict=True):
                ids[place] = id
        entries = [message.draft.entry(id) for id, message in zip(ids, messages, strict=True)]
        for start in range(0, len(entries), _ROWS):
            rows = [
                (message.room, entry.id, entry.body.decode())
                for message, entry in zip(
                    messages[start : start + _ROWS], entries[start : start + _ROWS], strict=True
                )
            ]
            values = self._database.sql(", ".join(["(%s, %s, %s)"] * len(rows)))
            cursor.execute(_KEEP + values, [value for row in rows for value in row])
        return entries

    def _take(self, cursor: Cursor, room: str, start: int, count: int) -> Iterable[int]:
        """Assigns the room's next ids, locks its row until COMMIT, and trims old messages."""
        cursor.execute(self._take_ids, (room, start, start, start + count - 1))
        had_oldest, last = cursor.fetchone()
        oldest = max(had_oldest, last - self._keep + 1)
        if oldest > had_oldest:
            cursor.execute(self._set_oldest, (oldest, room))
            # a scan from the room's start meets all rows deleted since the last VACUUM
            if oldest // _STRIDE > had_oldest // _STRIDE:
                cursor.execute(self._trim, (room, oldest))
        return range(last - count + 1, last + 1)
