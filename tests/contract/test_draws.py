"""Draws, on SQLite and on PostgreSQL: what may be drawn, and that it is uniform."""

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable

import pytest_twisted
from twisted.internet.defer import gatherResults

from relayd.storage import engines
from relayd.storage.draws import Draw, Draws
from relayd.storage.engines import Connection, Cursor
from relayd.storage.pool import Database

DRAWS = 100_000


def p_value(counts: Iterable[int], cells: int) -> float:
    """Of a chi-squared test against the uniform distribution, by Wilson and Hilferty (1931)."""
    counts = list(counts)
    expected = sum(counts) / cells
    squares = sum((count - expected) ** 2 for count in counts) + (cells - len(counts)) * expected**2
    degrees = cells - 1
    spread = 2 / (9 * degrees)
    z = ((squares / expected / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)) / 2


def test_the_p_value_tells_uniform_from_skewed() -> None:
    """Chi-squared 16.27 with 3 degrees of freedom is p = 0.001 in the tables."""
    e, d = 1000.0, math.sqrt(16.266 * 1000 / 4)
    assert abs(p_value([round(e + d), round(e - d), round(e + d), round(e - d)], 4) - 0.001) < 2e-4
    assert p_value([1000, 1000, 1000, 1000], 4) > 0.99


def execute(connection: Connection, engine: engines.Engine, sql: str, *values: object) -> None:
    connection.cursor().execute(engine.sql(sql), values)


def add(database: Database, table: str, rows: dict[int, int | None]) -> None:
    """Adds rows (id: difficulty) as another program would."""
    engine = database.engine
    with engine.connected() as connection:
        for id, difficulty in rows.items():
            statement = f"INSERT INTO {table} (id, difficulty) VALUES (%s, %s)"
            execute(connection, engine, statement, id, difficulty)


async def draw_many(database: Database, difficulty: int, count: int) -> list[Draw]:
    draws = Draws(database)
    drawn: list[Draw | None] = []
    for _ in range(0, count, 5000):
        drawn += await gatherResults([draws.draw(difficulty) for _ in range(min(count, 5000))])
    return [draw for draw in drawn if draw is not None]


@pytest_twisted.ensureDeferred
async def test_a_draw_has_up_to_three_different_quizzes_and_one_action(
    database: Database,
) -> None:
    add(database, "quizzes", {5: 1, 9: 1, 14: 2, 15: 2, 30: 2, 31: 2, 40: None, 50: 3})
    add(database, "actions", {2: 1, 4: 2, 6: None, 8: 4})
    for difficulty, ids, action in ((1, {5, 9}, 2), (2, {14, 15, 30, 31}, 4)):
        for draw in await draw_many(database, difficulty, 100):
            assert len(set(draw.quiz_ids)) == len(draw.quiz_ids) == min(3, len(ids))
            assert set(draw.quiz_ids) <= ids
            assert draw.action_id == action


@pytest_twisted.ensureDeferred
async def test_a_draw_without_a_quiz_or_an_action_returns_nothing(database: Database) -> None:
    add(database, "quizzes", {1: 1, 2: None})
    add(database, "actions", {1: 2, 2: None})
    draws = Draws(database)
    for difficulty in (0, 1, 2, 3, -1, 2**31 - 1, -(2**31), 2**31, -(2**63) - 1, 10**30):
        assert await draws.draw(difficulty) is None


@pytest_twisted.ensureDeferred
async def test_changes_by_another_program_count_at_once(database: Database) -> None:
    engine, draws = database.engine, Draws(database)
    add(database, "actions", {1: 1})
    with engine.connected() as psql:
        steps: list[tuple[str, set[int]]] = [
            ("INSERT INTO quizzes (id, difficulty) VALUES (1, 1), (2, 1)", {1, 2}),
            ("INSERT INTO quizzes (id, difficulty) VALUES (3, 2)", {1, 2}),
            ("UPDATE quizzes SET difficulty = 1 WHERE id = 3", {1, 2, 3}),
            ("DELETE FROM quizzes WHERE id = 1", {2, 3}),
            ("UPDATE quizzes SET id = 11 WHERE id = 2", {11, 3}),
            ("UPDATE quizzes SET difficulty = NULL WHERE id = 11", {3}),
        ]
        for statement, ids in steps:
            execute(psql, engine, statement)
            draw = await draws.draw(1)
            assert draw is not None
            assert set(draw.quiz_ids) == ids
        execute(psql, engine, "DELETE FROM quizzes")
        assert await draws.draw(1) is None


@pytest_twisted.ensureDeferred
async def test_pending_draws_share_one_interaction(database: Database) -> None:
    add(database, "quizzes", {1: 1, 2: 2})
    add(database, "actions", {1: 1, 2: 2})
    draws = Draws(database)
    drawn = await gatherResults([draws.draw(n % 3) for n in range(300)])
    assert [draw and draw.action_id for draw in drawn] == [n % 3 or None for n in range(300)]
    assert database.stats["draw"].count == 2


def seed(cursor: Cursor, dialect: str) -> None:
    if dialect == "postgresql":
        cursor.execute("SELECT setseed(0.25)")
    else:
        random.seed(25)


@pytest_twisted.ensureDeferred
async def test_100_000_draws_over_rows_with_gaps_are_uniform(database: Database) -> None:
    """Every ordered triple of quizzes is as likely as any other; so is every action.

    p > 0.001 for each of six tests: with a right program, a seed chosen at random would fail in
    0.6 % of the runs. The seed is fixed, so that a failure is one of the program.
    """
    ids = [3, 4, 9, 27, 28, 29, 1000]
    add(database, "quizzes", {**dict.fromkeys(ids, 1), **dict.fromkeys(range(100, 130), 2)})
    add(database, "actions", dict.fromkeys(ids, 1))
    with database.engine.connected() as psql:  # gaps that deletions leave, too
        execute(psql, database.engine, "DELETE FROM quizzes WHERE id IN (4, 29)")
        execute(psql, database.engine, "UPDATE quizzes SET difficulty = 1 WHERE id IN (103, 120)")
    quizzes = {3, 9, 27, 28, 103, 120, 1000}
    await database.run("seed", seed, database.dialect)
    drawn = await draw_many(database, 1, DRAWS)
    assert len(drawn) == DRAWS

    def check(values: Iterable[Hashable], cells: int) -> None:
        counts = Counter(values)
        assert len(counts) <= cells
        assert p_value(counts.values(), cells) > 0.001

    assert {id for draw in drawn for id in draw.quiz_ids} == quizzes
    check((tuple(draw.quiz_ids) for draw in drawn), 7 * 6 * 5)
    for position in range(3):
        check((draw.quiz_ids[position] for draw in drawn), 7)
    check((frozenset(draw.quiz_ids) for draw in drawn), 35)
    check((draw.action_id for draw in drawn), 7)
