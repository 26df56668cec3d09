"""Keeps the database small: rooms expire, sizes are counted, and free pages go back to the disk.

Beside `history`; the broker of one process starts it. Every step is a short interaction in a thread
of the pool, and the next begins some time after it, so that messages find the database free.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from relayd.errors import DatabaseUnavailable
from relayd.logs import Logger
from relayd.storage.disk import DiskWatch
from relayd.storage.engines import Cursor
from relayd.storage.history import History
from relayd.storage.keeping import Keeping
from relayd.storage.pool import Database

INTERVAL = 30.0
"""Seconds between two steps while nothing is left to do."""
_SOON = 0.2  # seconds to the next step otherwise
_RETRY = 2.0  # seconds to the next step after one that failed
_PAGES = 256  # pages of 4 KiB that a step gives back
_SPARE = 1024  # free pages that the file keeps for later messages


class _Step(NamedTuple):
    weighed: str
    more: bool


class Upkeep:
    """Deletes what has expired, step by step.

    Args:
        reactor: provides IReactorTime.
        database: the database.
        history: counts what the rooms keep.
        disk: is watched from the start to the stop.
        age: seconds without a message after which a room is deleted; 0 for never.
        rooms: the number of rooms beyond which those without messages for longest are deleted.
        clock: returns the Unix time in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        database: Database,
        history: History,
        disk: DiskWatch,
        *,
        age: float,
        rooms: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._database = database
        self._history = history
        self._disk = disk
        self._keeping = Keeping(database.engine)
        self._age = age
        self._rooms = rooms
        self._clock = clock
        self._weighed = ""
        self._next: IDelayedCall | None = None
        self._stopped = False

    def start(self) -> None:
        """Makes the first step soon: the database is prepared by then if it is an embedded one."""
        self._disk.start()
        self._plan(_SOON)

    def stop(self) -> None:
        """Makes no further step."""
        self._stopped = True
        self._disk.stop()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    async def step(self) -> bool:
        """Makes one step; returns whether there is more to do.

        Raises:
            DatabaseUnavailable: the database is unavailable.
        """
        run = self._database.run
        now = int(self._clock() * 1000)
        before = now - int(self._age * 1000) if self._age else 0
        done = await run("history.expire", self._expire, before, now, write=True)
        self._weighed = done.weighed
        await self._history.recount()
        more = done.more
        if self._database.dialect == "sqlite":
            more |= await run("history.shrink", _shrink)
        return more

    def _expire(self, cursor: Cursor, before: int, now: int) -> _Step:
        keeping = self._keeping
        weighed = keeping.weigh_next(cursor, self._weighed)
        more = keeping.expire(cursor, before, self._rooms)
        keeping.drop_empty(cursor, now)
        self._history.tags.expire(cursor, now)
        return _Step(weighed, more)

    def _plan(self, delay: float) -> None:
        self._next = self._reactor.callLater(delay, self._begin)

    def _begin(self) -> None:
        self._next = None
        Deferred.fromCoroutine(self._work())

    async def _work(self) -> None:
        delay = INTERVAL
        try:
            if await self.step():
                delay = _SOON
        except DatabaseUnavailable:
            delay = _RETRY  # the pool has logged it
        except Exception:
            self._log.failure("the upkeep of the database failed")
        if not self._stopped:
            self._plan(delay)


def _shrink(cursor: Cursor) -> bool:
    """Gives some free pages of SQLite's file back; whether there are more than it should keep."""
    cursor.execute("PRAGMA freelist_count")
    free = cursor.fetchone()[0]
    if free <= _SPARE:
        return False
    cursor.execute("PRAGMA auto_vacuum")
    if cursor.fetchone()[0] != 2:
        return False  # `schema.migrate` had no space to change the file
    cursor.execute(f"PRAGMA incremental_vacuum({min(_PAGES, free - _SPARE)})")
    cursor.fetchall()  # each row is a page
    return free - _PAGES > _SPARE
