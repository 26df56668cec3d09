"""Several programs change the tables at once, as psql would: the slots stay dense and right."""

import random
import threading

import psycopg2
import psycopg2.errors
import pytest

from tests.servers import PostgreSQL

STATEMENTS = (
    "INSERT INTO quizzes (difficulty) SELECT 1 + n % 3 FROM generate_series(1, {n}) n",
    "DELETE FROM quizzes WHERE id IN (SELECT id FROM quizzes ORDER BY random() LIMIT {n})",
    "UPDATE quizzes SET difficulty = 1 + (random() * 2)::integer WHERE id % 7 = {n} % 7",
    "UPDATE quizzes SET name = 'same' WHERE id % 7 = {n} % 7",
)


def write(url: str, level: str, seed: int, failures: list[BaseException]) -> None:
    """Many small transactions; conflicts that PostgreSQL itself reports are part of the game."""
    draw = random.Random(seed)
    connection = psycopg2.connect(url)
    connection.set_session(isolation_level=level)
    try:
        for _ in range(60):
            try:
                with connection, connection.cursor() as cursor:
                    for _ in range(draw.randint(1, 3)):
                        cursor.execute(draw.choice(STATEMENTS).format(n=draw.randint(1, 9)))
            except (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected):
                pass
    except BaseException as error:
        failures.append(error)
    finally:
        connection.close()


@pytest.mark.parametrize(
    "levels",
    [
        ["READ COMMITTED"] * 4,
        ["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    ],
)
def test_concurrent_writers_keep_the_slots_dense(postgresql_url: str, levels: list[str]) -> None:
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=write, args=(postgresql_url, level, seed, failures))
        for seed, level in enumerate(levels)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with psycopg2.connect(postgresql_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT difficulty, MIN(slot), MAX(slot) - COUNT(*), COUNT(*) - COUNT(DISTINCT slot) "
            "FROM quiz_slots GROUP BY difficulty"
        )
        rows = cursor.fetchall()
        assert rows
        assert {row[1:] for row in rows} == {(1, 0, 0)}
        cursor.execute(
            "SELECT COUNT(*) FROM quizzes q FULL JOIN quiz_slots s "
            "ON s.quiz_id = q.id AND s.difficulty = q.difficulty "
            "WHERE q.id IS NULL OR s.quiz_id IS NULL"
        )
        assert cursor.fetchone() == (0,)
    connection.close()


def test_a_program_that_may_only_write_quizzes_can_still_do_that(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    name = postgresql_url.rpartition("/")[2]
    postgresql.execute(f"CREATE ROLE editor_{name} LOGIN")
    postgresql.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON quizzes TO editor_{name};"
        f"GRANT USAGE ON SEQUENCE quizzes_id_seq TO editor_{name}",
        name,
    )
    connection = psycopg2.connect(postgresql_url, user=f"editor_{name}")
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO quizzes (difficulty) VALUES (1), (1)")
        cursor.execute("UPDATE quizzes SET difficulty = 2 WHERE id = 1")
    with (
        connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        cursor.execute("SELECT * FROM quiz_slots")
    connection.close()
    with psycopg2.connect(postgresql_url) as owner, owner.cursor() as cursor:
        cursor.execute("SELECT difficulty, slot, quiz_id FROM quiz_slots ORDER BY 1")
        assert cursor.fetchall() == [(1, 1, 2), (2, 1, 1)]
    owner.close()


def test_a_draw_reads_no_whole_table(postgresql_url: str) -> None:
    """By PostgreSQL's statistics, rows read do not grow with the table, also with an old plan."""
    connection = psycopg2.connect(postgresql_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO quizzes (difficulty) VALUES (1), (1), (1), (1)")
        cursor.execute("INSERT INTO actions (difficulty) VALUES (1)")
        cursor.execute("ANALYZE")
        for _ in range(10):  # the plan made now is kept by the session
            cursor.execute("SELECT relayd_draw(ARRAY[1])")
        cursor.execute("INSERT INTO quizzes (difficulty) SELECT 1 FROM generate_series(1, 20000)")
        cursor.execute("SELECT pg_stat_force_next_flush()")
        seen = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'quiz_slots'"
        cursor.execute(seen)
        before = cursor.fetchone()
        for _ in range(100):
            cursor.execute("SELECT relayd_draw(ARRAY[1])")
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(seen)
        assert cursor.fetchone() == before
    connection.close()
