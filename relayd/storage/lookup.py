"""Quizzes and actions by their ids, for clients: reads are shared, and rows are kept for a second.

Stands on `batches` and `pool`. However many clients ask, one interaction with a bounded number of
ids is under way at a time, and the same id is read once a second.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred

from relayd.storage.batches import Batches
from relayd.storage.engines import Cursor
from relayd.storage.pool import Database
from relayd.storage.rows import Row
from relayd.storage.tables import GREATEST, Table

KEPT = 1.0
"""Seconds for which a row that was read, or was found to be missing, is not read again."""
MOST_KEPT = 2000
"""Rows that are kept; the oldest go first."""
_TOGETHER = 500  # ids of one interaction; a statement of SQLite may have 999 parameters everywhere
_WAITING = 10_000  # ids that wait for an interaction; a request beyond them fails at once

_Found = dict[int, Row | None]


class _Wanted(NamedTuple):
    table: Table
    ids: Sequence[int]


class Lookup:
    """Reads rows of a database.

    Args:
        database: has the tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[tuple[str, int], tuple[float, Row | None]] = {}
        self._batches: Batches[_Wanted, _Found] = Batches(
            self._perform,
            seconds=database.seconds,
            deadline=database.deadline,
            batch_weight=_TOGETHER,
            weight=_WAITING,
        )

    def find(self, table: Table, ids: Sequence[int], place: str = "") -> "Deferred[_Found]":
        """Reads rows by their ids.

        Args:
            table: the table.
            ids: different ones, in any order; at most as many as one statement may have.
            place: the address of the client that asks; addresses have their turns.

        Returns:
            Fires with the row of each id, in their order; None for a row that does not exist. Fails
            with DatabaseUnavailable.
        """
        now = self._database.seconds()
        known: _Found = {}
        for id in ids:
            if not 0 < id <= GREATEST:
                known[id] = None
            elif (kept := self._kept.get((table.name, id))) is not None and kept[0] > now:
                known[id] = kept[1]
        missing = [id for id in ids if id not in known]
        reading: Deferred[_Found] = Deferred()
        if missing:
            reading = self._batches.enqueue(_Wanted(table, missing), len(missing), place)
        else:
            reading.callback({})

        def merge(found: _Found) -> _Found:
            return {id: known[id] if id in known else found[id] for id in ids}

        return reading.addCallback(merge)

    async def _perform(self, wanted: Sequence[_Wanted], timeout: float) -> list[_Found]:
        ids: dict[Table, dict[int, None]] = {}
        for one in wanted:
            ids.setdefault(one.table, {}).update(dict.fromkeys(one.ids))
        found = await self._database.run("lookup", self._read, ids, timeout=timeout)
        until = self._database.seconds() + KEPT
        for table, rows in found.items():
            for id, row in rows.items():
                self._kept.pop((table.name, id), None)  # so that the oldest stand first
                self._kept[table.name, id] = until, row
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return [{id: found[one.table][id] for id in one.ids} for one in wanted]

    def _read(self, cursor: Cursor, wanted: dict[Table, Iterable[int]]) -> dict[Table, _Found]:
        found: dict[Table, _Found] = {}
        for table, ids in wanted.items():
            rows: _Found = dict.fromkeys(ids)
            marks = ", ".join(["%s"] * len(rows))
            statement = f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE id IN ({marks})"
            cursor.execute(self._database.sql(statement), list(rows))
            for row in cursor.fetchall():
                rows[row[0]] = dict(zip(table.columns, row, strict=True))
            found[table] = rows
        return found
