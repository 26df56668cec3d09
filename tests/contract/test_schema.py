"""Migrations, on SQLite and on PostgreSQL: up, down, up again, and over what was there before."""

import threading
from typing import Any

import pytest

from relayd.errors import ConfigError, DatabaseUnavailable
from relayd.storage import engines, samples, schema

ALL = [
    "0001.tables",
    "0002.draws",
    "0003.history",
    "0004.quotas",
    "0005.tags",
    "0006.jumps",
    "0007.holes",
    "0008.floors",
]

OLD_TABLES = (
    "CREATE TABLE quizzes (id {serial} PRIMARY KEY, name VARCHAR(255), difficulty INTEGER, "
    "lef_sel VARCHAR(255), rig_sel VARCHAR(255), detail VARCHAR(255))",
    "CREATE TABLE actions (id {serial} PRIMARY KEY, difficulty INTEGER, "
    "lef_sel VARCHAR(255), rig_sel VARCHAR(255), detail VARCHAR(255))",
)


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    with engines.engine(url).connected() as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def test_the_schema_can_be_migrated_up_down_and_up_again(blank_database_url: str) -> None:
    url = blank_database_url
    assert [(step.id, step.applied) for step in schema.status(url)] == [(id, None) for id in ALL]
    assert schema.migrate(url) == ALL
    assert schema.migrate(url) == []
    assert all(step.applied for step in schema.status(url))
    query(url, "INSERT INTO quizzes (difficulty) VALUES (1), (1)")
    assert schema.to_roll_back(url, len(ALL) - 1) == ALL[:0:-1]
    assert schema.rollback(url, len(ALL) - 1) == ALL[:0:-1]
    query(url, "INSERT INTO quizzes (difficulty) VALUES (1)")
    assert schema.rollback(url, 6) == ALL[:1]
    assert schema.rollback(url) == []
    assert schema.migrate(url) == ALL
    assert query(url, "SELECT difficulty, slot FROM quiz_slots ORDER BY 1, 2") == [
        (1, 1), (1, 2), (1, 3),
    ]  # fmt: skip


def test_a_database_from_before_relayd_keeps_every_row(blank_database_url: str) -> None:
    url = blank_database_url
    serial = "SERIAL" if url.startswith("postgresql") else "INTEGER"
    for statement in OLD_TABLES:
        query(url, statement.format(serial=serial))
    query(
        url,
        "INSERT INTO quizzes (id, name, difficulty, detail) "
        "VALUES (7, 'seven', 1, 'é'), (9, 'nine', 1, NULL), (30, NULL, NULL, ''), (31, '', 2, '')",
    )
    query(url, "INSERT INTO actions (id, difficulty) VALUES (4, 1), (5, NULL)")
    before = [query(url, f"SELECT * FROM {table} ORDER BY id") for table in ("quizzes", "actions")]
    schema.migrate(url)

    def after() -> list[list[tuple[Any, ...]]]:
        return [
            query(url, f"SELECT * FROM {table} ORDER BY id") for table in ("quizzes", "actions")
        ]

    assert after() == before
    assert query(url, "SELECT difficulty, slot, quiz_id FROM quiz_slots ORDER BY 1, 2") == [
        (1, 1, 7), (1, 2, 9), (2, 1, 31),
    ]  # fmt: skip
    assert query(url, "SELECT * FROM action_slots") == [(1, 1, 4)]
    schema.rollback(url, 7)
    assert after() == before


def test_migrators_that_start_together_apply_everything_once(blank_database_url: str) -> None:
    outcomes: list[object] = []

    def migrate() -> None:
        try:
            outcomes.append(schema.migrate(blank_database_url))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == sorted(map(str, [[], [], [], ALL]))


def test_a_migration_that_fails_leaves_nothing_behind(blank_database_url: str) -> None:
    url = blank_database_url
    query(url, "CREATE TABLE chat_messages (x INTEGER)")
    with pytest.raises(schema.SchemaError, match="chat_messages"):
        schema.migrate(url)
    applied = [bool(step.applied) for step in schema.status(url)]
    assert applied == [True, True, *[False] * (len(ALL) - 2)]
    query(url, "DROP TABLE chat_messages")
    assert schema.migrate(url) == ALL[2:]


def test_a_migration_unknown_to_this_version_is_listed(blank_database_url: str) -> None:
    url = blank_database_url
    schema.migrate(url)
    query(
        url,
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
        "VALUES ('x', '0009.later', '2030-01-01 00:00:00')",
    )
    last = schema.status(url)[-1]
    assert (last.id, last.known) == ("0009.later", False)
    assert schema.to_roll_back(url) == ALL[-1:]


def test_samples_are_inserted_into_empty_tables_only(database_url: str) -> None:
    query(database_url, "INSERT INTO actions (difficulty) VALUES (1)")
    assert not samples.add_samples(database_url)
    query(database_url, "DELETE FROM actions")
    assert samples.add_samples(database_url)
    assert not samples.add_samples(database_url)
    for table in ("quizzes", "actions"):
        found = query(database_url, f"SELECT DISTINCT difficulty FROM {table} ORDER BY 1")
        assert found == [(1,), (2,), (3,)]


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/db", "sqlite:////proc/x/y.db"])
def test_an_unreachable_database_is_reported_in_one_line(url: str) -> None:
    for call in (schema.migrate, schema.status, schema.rollback, samples.add_samples):
        with pytest.raises(DatabaseUnavailable) as caught:
            call(url)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_wrong_database_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        schema.migrate("oracle://x")
