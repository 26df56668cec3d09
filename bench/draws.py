"""What a draw costs beside four reads by primary key, at 1,000,000 quizzes on PostgreSQL.

    python bench/draws.py [--rows 1000000] [--rounds 3000]

Starts a PostgreSQL of its own (as the tests do: fsync off, which reads do not notice), fills it
through COPY with the triggers on, and takes turns between the things it compares, so that a change
of the machine's mood meets all of them alike. Prints medians in microseconds, twice: on a bare
connection, and through relayd's door (adbapi thread, deadline, statistics).
"""

import argparse
import io
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet import task
from twisted.internet.defer import Deferred

from relayd.storage import engines, schema
from relayd.storage.draws import Draws, draw_postgresql
from relayd.storage.pool import Database
from tests.servers import PostgreSQL

DIFFICULTIES = 3
FIELDS = "id, name, difficulty, lef_sel, rig_sel, detail"


def fill(connection: Any, rows: int) -> list[int]:
    """Fills both tables; prints what that took. Returns the quizzes' ids, every third number."""
    cursor = connection.cursor()
    ids = [3 * n for n in range(1, rows + 1)]
    lines = (
        f"{id}\tquiz {id}\t{1 + n % DIFFICULTIES}\tleft\tright\tdetail of {id}\n"
        for n, id in enumerate(ids)
    )
    text = io.StringIO("".join(lines))
    started = time.perf_counter()
    cursor.copy_expert(f"COPY quizzes ({FIELDS}) FROM STDIN", text)
    print(f"COPY of {rows:,} quizzes, triggers on: {time.perf_counter() - started:.1f} s")
    cursor.execute(
        "INSERT INTO actions (difficulty, lef_sel, rig_sel) "
        "SELECT 1 + n %% %s, 'left', 'right' FROM generate_series(1, 10000) n",
        (DIFFICULTIES,),
    )
    cursor.execute("VACUUM ANALYZE")
    return ids


def change(connection: Any, rows: int) -> None:
    """Prints what the triggers cost when rows are changed, then deleted, by the half million."""
    cursor = connection.cursor()
    for words, statement in (
        ("UPDATE of one difficulty", "UPDATE quizzes SET difficulty = 9 WHERE id = 6"),
        ("DELETE of one quiz", "DELETE FROM quizzes WHERE id = 9"),
        ("INSERT of one quiz", "INSERT INTO quizzes (id, difficulty) VALUES (9, 1)"),
        ("UPDATE of all names", "UPDATE quizzes SET name = 'new'"),
        (f"DELETE of {rows // 2:,} quizzes", "DELETE FROM quizzes WHERE id % 2 = 0"),
        (
            f"UPDATE of {rows // 2:,} difficulties",
            "UPDATE quizzes SET difficulty = difficulty % 3 + 1",
        ),
    ):
        started = time.perf_counter()
        cursor.execute(statement)
        print(f"{words}: {time.perf_counter() - started:.3f} s")


Things = dict[str, Callable[[Any], Any]]


def compared(ids: list[int]) -> Things:
    """What is compared; each takes a cursor."""

    def draw(cursor: Any) -> None:
        assert draw_postgresql(cursor, [random.randint(1, DIFFICULTIES)])[0] is not None

    def prepared(cursor: Any) -> None:
        cursor.execute("EXECUTE four_rows(%s)", (random.sample(ids, 4),))
        assert len(cursor.fetchall()) == 4

    def one_statement(cursor: Any) -> None:
        chosen = random.sample(ids, 4)
        cursor.execute(f"SELECT {FIELDS} FROM quizzes WHERE id = ANY(%s)", (chosen,))
        assert len(cursor.fetchall()) == 4

    def two_statements(cursor: Any) -> None:
        chosen = random.sample(ids, 3)
        cursor.execute(f"SELECT {FIELDS} FROM quizzes WHERE id = ANY(%s)", (chosen,))
        assert len(cursor.fetchall()) == 3
        cursor.execute("SELECT * FROM actions WHERE id = %s", (random.randint(1, 10000),))
        assert cursor.fetchone() is not None

    def four_statements(cursor: Any) -> None:
        for id in random.sample(ids, 3):
            cursor.execute(f"SELECT {FIELDS} FROM quizzes WHERE id = %s", (id,))
            assert cursor.fetchone() is not None
        cursor.execute("SELECT * FROM actions WHERE id = %s", (random.randint(1, 10000),))
        assert cursor.fetchone() is not None

    return {
        "a draw (3 quizzes and 1 action)": draw,
        "4 rows, one prepared statement": prepared,
        "4 rows, one statement, id = ANY": one_statement,
        "3 rows id = ANY, then 1 row": two_statements,
        "4 rows, four statements": four_statements,
    }


PREPARE = f"PREPARE four_rows(integer[]) AS SELECT {FIELDS} FROM quizzes WHERE id = ANY($1)"


def on_a_connection(connection: Any, things: Things, rounds: int) -> None:
    """Measures on a bare psycopg2 connection."""
    cursor = connection.cursor()
    cursor.execute(PREPARE)
    times: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            started = time.perf_counter()
            thing(cursor)
            times[name].append(time.perf_counter() - started)
    show("on a bare connection", times)


async def through_the_door(reactor: Any, url: str, things: Things, rounds: int) -> None:
    """Measures as the daemon does it, one thing at a time."""
    database = Database(url, reactor=reactor, pool_size=1)
    draws = Draws(database)
    await database.run("prepare", lambda cursor: cursor.execute(PREPARE))

    def run(thing: Callable[[Any], Any]) -> Callable[[], Awaitable[Any]]:
        return lambda: database.run("read", thing)

    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        name: run(thing) for name, thing in things.items()
    }
    asked[next(iter(things))] = lambda: draws.draw(random.randint(1, DIFFICULTIES))
    times: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, ask in asked.items():
            started = time.perf_counter()
            await ask()
            times[name].append(time.perf_counter() - started)
    show("through relayd's door", times)
    await database.close()


def show(words: str, times: dict[str, list[float]]) -> None:
    """Prints the medians, and the draw's share of each."""
    print(f"\n{words}, median of {len(next(iter(times.values()))):,}, µs:")
    medians = {name: statistics.median(each) * 1e6 for name, each in times.items()}
    draw = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"  {name:34} {median:8.1f}   draw / this = {draw / median:.2f}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3000)
    options = parser.parse_args()
    with PostgreSQL() as server:
        url = server.url(server.create(), unix=True)
        schema.migrate(url)
        connection = engines.engine(url, engines.Bounds(statement=60)).connect()
        things = compared(fill(connection, options.rows))
        on_a_connection(connection, things, options.rounds)

        def measure(reactor: Any) -> "Deferred[None]":
            return Deferred.fromCoroutine(through_the_door(reactor, url, things, options.rounds))

        try:
            task.react(measure)
        except SystemExit as ended:
            if ended.code:
                raise
        print()
        change(connection, options.rows)
        connection.close()


if __name__ == "__main__":
    main()
