"""Messages whose COMMIT was not answered: are they in the history?

Under `history`. The transaction may have been committed, may have been rolled back, or may still
hang in the server. One further transaction decides that: it locks a room of the earlier one, so it
waits for its end, and looks for a message of it. Until that is known, nothing else is appended, and
no page is read: later messages, and readers, must not go past what the members have not been shown.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred

from relayd.errors import DatabaseUnavailable
from relayd.logs import Logger
from relayd.storage.engines import Cursor
from relayd.storage.pool import Database
from relayd.wire import ChatEntry

_RETRY = 1.0
"""Seconds between two attempts while the database is unavailable."""

# a row that another transaction has inserted makes this one wait for it, as one that it locks does
_LOCK = """
    INSERT INTO chat_rooms (name, first_id, oldest_id, last_id, bytes, posted_at)
    VALUES (%s, 1, 1, 0, 0, 0)
    ON CONFLICT (name) DO UPDATE SET bytes = chat_rooms.bytes
    RETURNING oldest_id, last_id
"""
_UNLOCK = "DELETE FROM chat_rooms WHERE name = %s AND last_id = 0"
_FIND = "SELECT body FROM chat_messages WHERE room = %s AND id = %s"


Found = Callable[[str, Sequence[ChatEntry] | None], object]
"""Called with a room and its messages when these turn out to be stored after their senders were
told that this is unknown; with None if messages that were, or may have been, stored are gone."""


class Part(NamedTuple):
    """The messages that a transaction would have stored in one room, with the ids it gave them."""

    room: str
    entries: Sequence[ChatEntry]


class Unsettled:
    """The messages of the last COMMIT that was not answered, if it is not known what became of it.

    Args:
        database: has the rooms.
    """

    _log = Logger()

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: list[Found] = []
        self._parts: Sequence[Part] = ()
        self._asking = False
        self._waiters: list[Deferred[None]] = []
        self._lock, self._unlock, self._find = map(database.sql, (_LOCK, _UNLOCK, _FIND))

    def watch(self, found: Found) -> None:
        """Registers a callback."""
        self._watchers.append(found)

    def report(self, parts: Sequence[Part], stored: bool | None) -> None:
        """Calls the callbacks, for each room, as `find` has answered."""
        for part in parts if stored is not False else ():
            for found in self._watchers:
                found(part.room, part.entries if stored else None)

    async def find(self, parts: Sequence[Part], timeout: float | None = None) -> bool | None:
        """Whether messages were stored; None if they may have been, and are gone again.

        Args:
            parts: of the transaction; at least one.
            timeout: as of `pool.Database.run`.

        Raises:
            DatabaseUnavailable: that is not known yet.
        """
        run = self._database.run
        return await run("history.settle", self._look, parts, write=True, timeout=timeout)

    def hold(self, parts: Sequence[Part]) -> None:
        """Asks for messages until their outcome is known, and calls the callbacks then."""
        self._parts = parts
        self._log.warn(
            "the answer to a COMMIT is lost: {count} messages may be kept; relayd asks until that "
            "is known",
            count=sum(len(part.entries) for part in parts),
        )
        self._retry()

    def settle(self) -> "Deferred[None]":
        """Fires when no outcome is unknown; fails with DatabaseUnavailable if one stays so."""
        waiter: Deferred[None] = Deferred()
        if not self._parts:
            waiter.callback(None)
            return waiter
        self._waiters.append(waiter)
        if not self._asking:
            self._asking = True
            Deferred.fromCoroutine(self._ask())
        return waiter

    def _retry(self) -> None:
        if self._parts and not self._database.closed:
            self._database.call_later(_RETRY, self._try)

    def _try(self) -> None:
        self.settle().addErrback(lambda _: None).addCallback(lambda _: self._retry())

    async def _ask(self) -> None:
        failed: str | None = None
        try:
            stored = await self.find(self._parts)
        except DatabaseUnavailable as error:
            failed = str(error)
        except Exception as error:
            failed = str(error)
            self._log.failure("finding out about a COMMIT failed")
        else:
            parts, self._parts = self._parts, ()
            self._log.info(
                "the messages whose COMMIT was not answered {are} kept",
                are={True: "are", False: "are not", None: "may have been"}[stored],
            )
            self.report(parts, stored)
        self._asking = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if failed is None:
                waiter.callback(None)
            else:
                waiter.errback(DatabaseUnavailable(failed))

    def _look(self, cursor: Cursor, parts: Sequence[Part]) -> bool | None:
        for room, entries in parts:
            cursor.execute(self._lock, (room,))
            oldest, last = cursor.fetchone()
            cursor.execute(self._unlock, (room,))
            newest = entries[-1]
            cursor.execute(self._find, (room, newest.id))
            row = cursor.fetchone()
            if row is not None:
                # with another text, the id was given again after a rollback
                return bool(row[0].encode() == newest.body)
            if last < newest.id or oldest <= newest.id:
                return False
        return None
