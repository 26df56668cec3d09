"""CSV into the database and out of it, on SQLite and on PostgreSQL."""

import io
from typing import Any

import pytest

from relayd.storage import engines
from relayd.storage.tables import ACTIONS, QUIZZES, CSVError, Imported, export_rows, import_rows


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    with engines.engine(url).connected() as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def export(url: str, table: Any = QUIZZES) -> str:
    file = io.StringIO()
    export_rows(url, table, file)
    return file.getvalue()


def test_rows_without_id_are_added_and_rows_with_id_changed(database_url: str) -> None:
    data = "difficulty,id,name\n1,,a\n2,5,b\n3,,c\n"
    assert import_rows(database_url, QUIZZES, data.encode()) == Imported(3, 0)
    assert export(database_url) == (
        "id,name,difficulty,lef_sel,rig_sel,detail\n5,b,2,,,\n6,a,1,,,\n7,c,3,,,\n"
    )
    query(database_url, "UPDATE quizzes SET detail = 'stays' WHERE id = 5")
    assert import_rows(database_url, QUIZZES, b"id,difficulty\n5,9\n8,1\n") == Imported(1, 1)
    assert query(database_url, "SELECT name, difficulty, detail FROM quizzes WHERE id = 5") == [
        ("b", 9, "stays")
    ]


def test_an_exported_table_is_imported_unchanged(database_url: str) -> None:
    nasty = (
        'id,difficulty,lef_sel,rig_sel,detail\n3,-1,"a,""b""\n c",%s \' \\,é😀\n'
        "4,-1,'=1+1,''-5,'＠b\n"
    )
    import_rows(database_url, ACTIONS, nasty.encode())
    assert export(database_url, ACTIONS) == nasty
    rows = query(database_url, "SELECT lef_sel, rig_sel, detail FROM actions WHERE id = 4")
    assert rows == [("=1+1", "'-5", "＠b")]
    query(database_url, "DELETE FROM actions")
    assert import_rows(database_url, ACTIONS, nasty.encode()) == Imported(2, 0)
    assert export(database_url, ACTIONS) == nasty


def test_ids_from_a_file_never_collide_with_later_ones(database_url: str) -> None:
    import_rows(database_url, ACTIONS, b"id,difficulty\n1,1\n2,1\n100,1\n")
    query(database_url, "INSERT INTO actions (difficulty) VALUES (2)")
    import_rows(database_url, ACTIONS, b"difficulty,id\n3,\n3,50\n")
    query(database_url, "INSERT INTO actions (difficulty) VALUES (4)")
    assert query(database_url, "SELECT id, difficulty FROM actions WHERE id > 2 ORDER BY id") == [
        (50, 3), (100, 1), (101, 2), (102, 3), (103, 4),
    ]  # fmt: skip


def test_an_import_is_all_or_nothing(database_url: str) -> None:
    import_rows(database_url, QUIZZES, b"difficulty,name\n1,a\n")
    before = export(database_url)
    rows = "".join(f"{n},1,x\n" for n in range(1, 2000))
    with pytest.raises(CSVError, match="line 2001, column difficulty"):
        import_rows(database_url, QUIZZES, f"id,difficulty,name\n{rows},x,y\n".encode())
    assert export(database_url) == before


def test_thousands_of_rows_count_at_once_for_draws(database_url: str) -> None:
    data = "id,difficulty\n" + "".join(f"{3 * n + 3},{n % 2}\n" for n in range(3000))
    assert import_rows(database_url, QUIZZES, data.encode()) == Imported(3000, 0)
    assert import_rows(database_url, QUIZZES, data.encode()) == Imported(0, 3000)
    assert len(export(database_url).splitlines()) == 3001
    assert query(
        database_url,
        "SELECT difficulty, COUNT(*), MAX(slot) FROM quiz_slots GROUP BY difficulty ORDER BY 1",
    ) == [(0, 1500, 1500), (1, 1500, 1500)]
