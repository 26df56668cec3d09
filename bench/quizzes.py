"""A PostgreSQL with quizzes for the load `pairs`."""

import io
from contextlib import AbstractContextManager

import psycopg2

from relayd.storage import schema
from tests.servers import PostgreSQL

_DIFFICULTIES = 5  # as in bench.loads


def server() -> AbstractContextManager[PostgreSQL]:
    """A server of our own, as the tests have it: fsync off, which reads do not notice."""
    return PostgreSQL()


def fill(server: PostgreSQL, name: str, count: int) -> str:
    """Makes a database in relayd's schema with so many quizzes, and 1,000 actions.

    An index on the difficulty is there for those who look for rows by it; relayd does not.

    Returns:
        Its URL.
    """
    server.execute(f"CREATE DATABASE {name}")
    url = server.url(name)
    schema.migrate(url)
    lines = (f"{n}\tquiz {n}\t{1 + n % _DIFFICULTIES}\tl\tr\td\n" for n in range(1, count + 1))
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.copy_expert(
            "COPY quizzes (id, name, difficulty, lef_sel, rig_sel, detail) FROM STDIN",
            io.StringIO("".join(lines)),
        )
        cursor.execute(
            "INSERT INTO actions (difficulty, lef_sel, rig_sel) "
            "SELECT 1 + n %% %s, 'l', 'r' FROM generate_series(1, 1000) n",
            (_DIFFICULTIES,),
        )
        cursor.execute("CREATE INDEX bench_difficulty ON quizzes (difficulty)")
        cursor.execute("VACUUM ANALYZE")
    finally:
        connection.close()
    return url + "?sslmode=disable"
