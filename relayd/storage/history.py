"""The history of the chat rooms: append, the last messages, the messages since an id.

Stands on `pool`, on `keeping`, and on the tables of migrations 0003 and 0004. The transaction that
stores a message assigns its id from the room's row: ids grow by one, but for the jumps of `epochs`,
and are never assigned twice, also with several processes on one database
(docs/decisions/0003-history-ids.md).
"""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, fail

from relayd.errors import (
    CommitUnanswered,
    DatabaseUnavailable,
    DiskFull,
    OutcomeUnknown,
    QuotaExceeded,
    StoreUnavailable,
)
from relayd.quotas.usage import Creation, RoomTally, StoredRoom, Usage
from relayd.storage.batches import Batches
from relayd.storage.disk import DiskWatch
from relayd.storage.engines import Cursor
from relayd.storage.epochs import Epochs
from relayd.storage.ids import Ids
from relayd.storage.keeping import Keeping
from relayd.storage.pages import Pages
from relayd.storage.pool import Database
from relayd.storage.tags import Tags
from relayd.storage.unsettled import Found, Part, Unsettled
from relayd.tally import SIZES, Buckets
from relayd.wire import ChatDraft, ChatEntry, ChatPage

_SHARE = 0.75  # of the time of a batch, for its transaction; the rest is for finding out about it
_ROWS = 500  # messages of one INSERT statement; SQLite takes 32,766 parameters

_TRIMS = 8  # how often the largest room is trimmed after a transaction, at most
_KEEP = "INSERT INTO chat_messages (room, id, body) VALUES "
_ALL = 2**31 - 1


class _Message(NamedTuple):
    room: str
    draft: ChatDraft
    time: int  # Unix time, ms
    creation: Creation


class _Stored(NamedTuple):
    """What a transaction has stored: no entry for a message that may not create its room.

    Attributes:
        rooms: of each room, the lineage of the database that has it, and its last id.
        lost: the rooms that lack earlier messages of this process.
    """

    entries: list[ChatEntry | None]
    creating: list[Creation]
    added: Usage
    rooms: dict[str, tuple[Hashable, int]]
    lost: list[str]


class History:
    """The chat rooms' messages in the database.

    Args:
        database: with migration 0003.
        clock: returns the Unix time in seconds.
        keep: how many messages a room keeps.
        room_bytes: how many bytes a room keeps.
        total_bytes: how many bytes all rooms keep together.
        tags_kept: seconds for which a message is found by its tag.
        disk: says whether the disk has space for a message; None if that is not known here.

    Attributes:
        appended: how many messages one transaction stored, for each transaction.
        tally: what all rooms keep: counted by `recount`, then kept up with.
        tags: the tags of messages.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        keep: int = 10_000,
        room_bytes: int = 4 * 1024 * 1024,
        total_bytes: int = 256 * 1024 * 1024,
        tags_kept: float = 300.0,
        disk: DiskWatch | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._total_bytes = total_bytes
        self._disk = disk
        self.appended = Buckets(SIZES)
        self.tally = RoomTally()
        self._unsettled = Unsettled(database)
        self._keeping = Keeping(database.engine)
        self.tags = Tags(database.engine, tags_kept)
        database.needs(self._keeping.attempt, write=True)
        self._epochs = Epochs()
        self._ids = Ids(
            database.engine, self._keeping, self._epochs, clock, keep=keep, room_bytes=room_bytes
        )
        self._pages = Pages(database.engine)
        self._batches: Batches[_Message, ChatEntry | None] = Batches(
            self._perform,
            seconds=database.seconds,
            deadline=database.deadline,
            unavailable=StoreUnavailable,
        )

    def append(
        self,
        room: str,
        message: str,
        user: str | None = None,
        creation: Creation | None = None,
        source: Hashable = None,
        tag: str = "",
    ) -> "Deferred[ChatEntry]":
        """Stores a message. Messages that arrive during a COMMIT share the next one.

        Args:
            room: the room's name.
            message: the text as clients see it.
            user: the sender's name, if a token gave one.
            creation: whether the message may create its room; the outcome is noted there.
            source: the sender; rooms have their turns, and in each room its senders.
            tag: what the sender calls it; empty for none.

        Returns:
            A Deferred that fires with the entry after the COMMIT, in the order of the ids. It
            fails with StoreUnavailable if the message is not stored, with OutcomeUnknown if the
            answer to the COMMIT is lost and its outcome cannot be found out before the deadline,
            and with QuotaExceeded if there is no such room and the message may not create it.
        """
        if self._disk is not None and self._disk.low:
            return fail(DiskFull())
        time = int(self._clock() * 1000)
        draft = ChatDraft.of(message, time, user, tag)
        stored = self._batches.enqueue(
            _Message(room, draft, time, creation or Creation()),
            weight=len(draft.head) + len(room.encode()),
            place=room,
            source=source,
        )
        return stored.addCallback(_or_refused)

    def watch(self, found: Found) -> None:
        """Registers a callback for messages that turn out to be stored later (`Unsettled`)."""
        self._unsettled.watch(found)

    async def recount(self) -> None:
        """Counts what all rooms keep. Raises DatabaseUnavailable."""
        self.tally.usage = await self._database.run("history.count", self._keeping.count)

    async def largest(self, limit: int) -> list[StoredRoom]:
        """The rooms that keep the most bytes, the largest first. Raises StoreUnavailable."""
        try:
            return await self._database.run("history.rooms", self._keeping.largest, limit)
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error

    async def posted(self, rooms: Sequence[str]) -> dict[str, int]:
        """When the newest message of each room was posted, Unix time in ms.

        Args:
            rooms: their names; one that keeps no message is not in the answer.

        Raises:
            StoreUnavailable: the times cannot be read.
        """
        try:
            return await self._database.run("history.posted", self._keeping.posted, rooms)
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error

    async def delete(self, room: str) -> bool:
        """Deletes a room's messages; later ones get higher ids all the same.

        Returns:
            Whether there were any.

        Raises:
            StoreUnavailable: the messages may or may not be deleted.
        """
        now = int(self._clock() * 1000)
        run = self._database.run
        try:
            found = await run("history.delete", self._keeping.delete, room, now, write=True)
            await self.recount()
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        return found

    async def settled(self) -> None:
        """Returns when the Deferreds of the transaction under way have fired.

        Entries that an earlier read returned have then been reported to their senders, or to
        the callbacks of `watch`.

        Raises:
            DatabaseUnavailable: it is not known what became of a transaction.
        """
        await self._batches.settled()
        await self._unsettled.settle()

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
            The messages after `id`, with a gap if something is missing or the history does not
            hold `id` (it was lost); for an `id` that the room has not reached, the first of all.

        Raises:
            DatabaseUnavailable: the history cannot be read.
        """
        run = self._database.run
        last, page = await run("history.since", self._pages.since, room, id, limit, size)
        self._epochs.named(room, id, last, int(self._clock() * 1000))
        return page

    async def _perform(
        self, messages: Sequence[_Message], timeout: float
    ) -> list[ChatEntry | None]:
        until = self._database.seconds() + timeout
        await self._unsettled.settle()
        try:
            stored: _Stored = await self._database.run(
                "history.append", self._append, messages, write=True, timeout=_SHARE * timeout
            )
        except CommitUnanswered as error:
            stored = error.result
            await self._find_out(messages, stored, until)
        self.appended.observe(len(stored.entries))
        self._epochs.stored(stored.rooms)
        self._unsettled.report([Part(room, ()) for room in stored.lost], None)
        for creation in stored.creating:
            creation.done = True
        self._add(stored.added)
        if self.tally.usage.bytes > self._total_bytes:
            await self._trim()
        return stored.entries

    async def _find_out(self, messages: Sequence[_Message], stored: _Stored, until: float) -> None:
        """Returns if a transaction was committed whose COMMIT was not answered.

        Raises:
            StoreUnavailable: it was not, and will not be.
            OutcomeUnknown: that is not known yet.
        """
        rooms: dict[str, list[ChatEntry]] = {}
        for message, entry in zip(messages, stored.entries, strict=True):
            if entry is not None and not entry.repeated:
                rooms.setdefault(message.room, []).append(entry)
        parts = [Part(room, entries) for room, entries in sorted(rooms.items())]
        if not parts:
            return
        try:
            left = until - self._database.seconds()
            found = await self._unsettled.find(parts, timeout=max(0.0, left))
        except DatabaseUnavailable as error:
            self._unsettled.hold(parts)
            raise OutcomeUnknown(str(error)) from error
        if found is None:
            self._unsettled.report(parts, None)
            raise OutcomeUnknown("the messages are gone again")
        if not found:
            raise StoreUnavailable("the transaction was not committed")

    def _add(self, usage: Usage) -> None:
        rooms, total = self.tally.usage
        self.tally.usage = Usage(rooms + usage.rooms, total + usage.bytes)

    async def _trim(self) -> None:
        """Frees a sixteenth of all bytes, or what is possible before the next messages."""
        for _ in range(_TRIMS):
            wanted = self.tally.usage.bytes - self._total_bytes + self._total_bytes // 16
            if wanted <= 0:
                return
            try:
                freed = await self._database.run(
                    "history.trim", self._keeping.trim_largest, wanted, write=True
                )
            except DatabaseUnavailable:
                return  # the messages are stored; the next ones try again
            if not freed:
                return
            self._add(Usage(0, -freed))
            self.tally.trimmed += freed

    def _append(self, cursor: Cursor, messages: Sequence[_Message]) -> _Stored:
        places: dict[str, list[int]] = {}
        for place, message in enumerate(messages):
            places.setdefault(message.room, []).append(place)
        entries: list[ChatEntry | None] = [None] * len(messages)
        rows: list[tuple[str, int, str]] = []
        creating: list[Creation] = []
        twins: dict[int, int] = {}
        changed: dict[str, tuple[Hashable, int]] = {}
        lost: list[str] = []
        total = 0
        for room in sorted(places):  # one order of row locks for all processes: no deadlock
            marks = [(place, messages[place].draft.mark) for place in places[room]]
            now = messages[places[room][0]].time
            fresh, again = self.tags.sort_out(cursor, room, marks, now)
            twins.update((place, one) for place, one in again.items() if isinstance(one, int))
            for place, one in again.items():
                if not isinstance(one, int):
                    entries[place] = one
            if not fresh:
                continue
            ours = [messages[place] for place in fresh]
            start, create = ours[0].time, any(one.creation.allowed for one in ours)
            taken = self._ids.take(cursor, room, [one.draft for one in ours], start, create)
            if taken is None:
                continue
            changed[room] = taken.lineage, taken.ids[-1]
            if taken.lost:
                lost.append(room)
            total += taken.added
            if taken.created:
                creating.append(next(one.creation for one in ours if one.creation.allowed))
            for place, message, id in zip(fresh, ours, taken.ids, strict=True):
                entry = message.draft.entry(id)
                entries[place] = entry
                rows.append((room, id, entry.body.decode()))
                if message.draft.mark:
                    self.tags.note(cursor, room, message.draft.mark, id, message.time)
        for place, first in twins.items():
            if (stored := entries[first]) is not None:
                entries[place] = ChatEntry(stored.id, stored.body, repeated=True)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            values = self._database.sql(", ".join(["(%s, %s, %s)"] * len(part)))
            cursor.execute(_KEEP + values, [value for row in part for value in row])
        return _Stored(entries, creating, Usage(len(creating), total), changed, lost)


def _or_refused(entry: ChatEntry | None) -> ChatEntry:
    if entry is None:
        raise QuotaExceeded("no further room may be created")
    return entry
