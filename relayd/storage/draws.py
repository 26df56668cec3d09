"""Draws: up to three quizzes of a difficulty and one action of it, uniformly, without repetition.

Stands on `pool` and on the dense slots of migration 0002: triggers number the rows of a difficulty
1 to n without a gap, whichever program changes the tables. So a draw is a few
primary-key look-ups however large the table is (docs/decisions/0002-draws.md).
"""

import contextlib
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed

from relayd.storage.batches import Batches
from relayd.storage.engines import Cursor
from relayd.storage.pool import Database
from relayd.tally import Buckets

QUIZZES = 3  # the most quizzes of one draw, as in schema/postgresql/0002

# the range of an INTEGER column in PostgreSQL; no row can have another difficulty
_SMALLEST, _GREATEST = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class Draw:
    """The result of a draw.

    Attributes:
        quiz_ids: one to three different `quizzes.id`, in random order.
        action_id: one `actions.id`.
    """

    quiz_ids: list[int]
    action_id: int


class Draws:
    """Draws from a database. Requests made during an interaction share the next one.

    Args:
        database: with migration 0002.

    Attributes:
        latency: seconds from a request to its draw, without failed requests.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.latency = Buckets()
        self._interaction: Callable[[Cursor, Sequence[int]], list[Draw | None]] = (
            draw_postgresql if database.dialect == "postgresql" else draw_sqlite
        )
        if database.dialect == "postgresql":  # there are rights in it
            database.needs(lambda cursor: draw_postgresql(cursor, [1]))
        self._batches: Batches[int, Draw | None] = Batches(
            self._perform, seconds=database.seconds, deadline=database.deadline
        )

    def draw(self, difficulty: int, pair: str = "") -> "Deferred[Draw | None]":
        """Draws from the current rows.

        Args:
            difficulty: as in the tables.
            pair: the UUID of the pair that asks; pairs have their turns.

        Returns:
            Fires with the draw, or with None if there is no quiz or no action of the difficulty.
            Fails with DatabaseUnavailable.
        """
        if not _SMALLEST <= difficulty <= _GREATEST:
            return succeed(None)
        drawn = self._batches.enqueue(difficulty, place=pair)
        return drawn.addCallback(self._drawn, self._database.seconds())

    def _drawn(self, draw: Draw | None, asked: float) -> Draw | None:
        self.latency.observe(self._database.seconds() - asked)
        return draw

    async def _perform(self, difficulties: Sequence[int], timeout: float) -> list[Draw | None]:
        return await self._database.run("draw", self._interaction, difficulties, timeout=timeout)


def draw_postgresql(cursor: Cursor, difficulties: Sequence[int]) -> list[Draw | None]:
    """Draws once for each difficulty given, in one statement and so one round trip."""
    cursor.execute(
        "SELECT quiz_ids, action_id FROM relayd_draw(%s::integer[])", (list(difficulties),)
    )
    return [_draw(quiz_ids, action_id) for quiz_ids, action_id in cursor.fetchall()]


def draw_sqlite(cursor: Cursor, difficulties: Sequence[int]) -> list[Draw | None]:
    """Draws once for each difficulty given, in one read transaction: the slots stay dense."""
    cursor.execute("BEGIN")
    try:
        return [
            _draw(
                _pick(cursor, "quiz_slots", "quiz_id", difficulty, QUIZZES),
                next(iter(_pick(cursor, "action_slots", "action_id", difficulty, 1)), None),
            )
            for difficulty in difficulties
        ]
    finally:
        # after a grave error SQLite has done it already
        with contextlib.suppress(sqlite3.Error):
            cursor.execute("ROLLBACK")


def _pick(cursor: Cursor, table: str, column: str, difficulty: int, count: int) -> list[int]:
    cursor.execute(f"SELECT MAX(slot) FROM {table} WHERE difficulty = ?", (difficulty,))
    size: int = cursor.fetchone()[0] or 0
    picked = []
    for slot in random.sample(range(1, size + 1), min(count, size)):
        cursor.execute(
            f"SELECT {column} FROM {table} WHERE difficulty = ? AND slot = ?", (difficulty, slot)
        )
        picked.append(cursor.fetchone()[0])
    return picked


def _draw(quiz_ids: list[int], action_id: int | None) -> Draw | None:
    return Draw(quiz_ids, action_id) if quiz_ids and action_id is not None else None
