"""Single rows and previewed imports, as the console does them, on SQLite and on PostgreSQL."""

from typing import Any

import pytest

from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.storage import engines
from relayd.storage.imports import MOST_ROWS, Plan, carry_out, plan_import
from relayd.storage.rows import MOST_SHOWN, Contents, check_row
from relayd.storage.tables import ACTIONS, QUIZZES, CSVError, Table, import_rows

FOUR = b"""id,name,difficulty,lef_sel,rig_sel,detail
1,Largest planet,1,Jupiter,Mars,"100% <b>sure</b>"
2,Legs,1,8,6,
5,Caf\xc3\xa9_x,2,a,b,c
9,Last,3,,,
"""


class Direct:
    """`Contents` whose interactions run at once, on a connection of their own."""

    def __init__(self, url: str) -> None:
        self._engine = engines.engine(url)
        self.dialect = self._engine.dialect
        self.sql = self._engine.sql

    async def run(self, name: str, interaction: Any, *args: Any, write: bool = False) -> Any:
        with self._engine.connected() as connection:
            if not write:
                return interaction(connection.cursor(), *args)
            with self._engine.transaction(connection) as cursor:
                return interaction(cursor, *args)


def done(work: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@pytest.fixture
def filled(database_url: str) -> str:
    import_rows(database_url, QUIZZES, FOUR)
    return database_url


def contents(url: str) -> Contents:
    database: Any = Direct(url)
    return Contents(database)


def ids(
    url: str, table: Table = QUIZZES, text: str = "", difficulty: str = "", after: int = 0
) -> list[int]:
    found = done(contents(url).find(table, text, difficulty, after))
    return [row["id"] for row in found.rows]


def test_a_search_finds_texts_in_any_case_ids_and_difficulties(filled: str) -> None:
    assert ids(filled) == [1, 2, 5, 9]
    assert ids(filled, text="JUPITER") == [1]
    assert ids(filled, text="0% <B>") == [1]
    assert ids(filled, text="_x") == [5]
    assert ids(filled, text="%") == [1]
    assert ids(filled, text="\\") == []
    assert ids(filled, text="'; DROP TABLE quizzes; --") == []
    assert ids(filled, text="9") == [9]
    assert ids(filled, difficulty="1") == [1, 2]
    assert ids(filled, text="a", difficulty="2") == [5]
    assert ids(filled, after=2) == [5, 9]
    for wrong in ("x", "1.5", "99999999999"):
        with pytest.raises(Refusal):
            ids(filled, difficulty=wrong)


def test_a_list_is_bounded_and_says_how_many_there_are(database_url: str) -> None:
    data = "difficulty\n" + "1\n" * 150
    import_rows(database_url, ACTIONS, data.encode())
    found = done(contents(database_url).find(ACTIONS, "", "", 0))
    assert (len(found.rows), found.total) == (MOST_SHOWN, 150)
    assert len(ids(database_url, ACTIONS, after=found.rows[-1]["id"])) == 50


def test_a_row_is_added_changed_and_deleted_and_draws_know_it(filled: str) -> None:
    rows = contents(filled)
    row = check_row(QUIZZES, {"name": "New", "difficulty": 7, "lef_sel": None})
    id = done(rows.add(QUIZZES, row))
    assert id > 9
    assert ids(filled, difficulty="7") == [id]
    other = {**row, "difficulty": 8}
    done(rows.change(QUIZZES, id, row, other))
    assert ids(filled, difficulty="8") == [id]
    with pytest.raises(Refusal) as late:
        done(rows.change(QUIZZES, id, row, other))
    assert late.value.code is ErrorCode.CONFLICT
    with engines.engine(filled).connected() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT difficulty FROM quiz_slots WHERE quiz_id > 9")
        assert cursor.fetchall() == [(8,)]
    assert done(rows.delete(QUIZZES, [id, 12345])) == 1
    with pytest.raises(Refusal) as missing:
        done(rows.change(QUIZZES, id, other, row))
    assert missing.value.status == 404
    assert ids(filled) == [1, 2, 5, 9]


@pytest.mark.parametrize(
    "row",
    [{}, {"difficulty": ""}, {"difficulty": "x"}, {"difficulty": 2**31}, {"difficulty": 1.5},
     {"difficulty": 1, "name": "x" * 256}, {"difficulty": 1, "detail": "a\0b"}],
)  # fmt: skip
def test_a_wrong_row_is_refused_with_its_column(row: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match=r"^(difficulty|name|detail): "):
        check_row(QUIZZES, row)


def plan(url: str, data: bytes, *, remove: bool = False) -> Plan:
    return plan_import(url, QUIZZES, data, remove=remove)


def counts(plan: Plan) -> tuple[int, ...]:
    return tuple(plan.counts[name] for name in ("added", "changed", "removed", "unchanged"))


NEW = b"id,name,difficulty\n1,Largest planet,1\n2,Feet,4\n7,Seven,1\n,No id,1\n"


def test_a_preview_says_what_changes_and_changes_nothing(filled: str) -> None:
    found = plan(filled, NEW)
    assert counts(found) == (2, 1, 0, 1)
    assert [row.get("id") for row in found.added] == [7, None]
    [change] = found.changed
    assert (change.id, change.before, change.after) == (
        2, {"name": "Legs", "difficulty": 1}, {"name": "Feet", "difficulty": 4},
    )  # fmt: skip
    assert counts(plan(filled, FOUR)) == (0, 0, 0, 4)
    removing = plan(filled, NEW, remove=True)
    assert [row["id"] for row in removing.removed] == [5, 9]
    assert removing.fingerprint != found.fingerprint
    assert ids(filled) == [1, 2, 5, 9]


def test_an_import_does_what_the_preview_has_shown(filled: str) -> None:
    found = plan(filled, NEW, remove=True)
    assert carry_out(filled, QUIZZES, NEW, found.fingerprint, remove=True) == {
        "added": 2, "changed": 1, "removed": 2,
    }  # fmt: skip
    after = ids(filled)
    assert after[:3] == [1, 2, 7]
    assert len(after) == 4
    assert after[3] > 9  # its id was never another row's
    again = plan(filled, NEW[: NEW.index(b",No")], remove=True)
    assert counts(again) == (0, 0, 1, 3)


def test_nothing_is_imported_into_a_table_that_has_changed_since(filled: str) -> None:
    for change in (
        "UPDATE quizzes SET name = 'x' WHERE id = 2",
        "DELETE FROM quizzes WHERE id = 1",
        "INSERT INTO quizzes (id, difficulty) VALUES (7, 1)",
        "INSERT INTO quizzes (id, difficulty) VALUES (8, 1)",
    ):
        found = plan(filled, NEW, remove=True)
        with engines.engine(filled).connected() as connection:
            connection.cursor().execute(change)
        before = ids(filled)
        with pytest.raises(Refusal) as late:
            carry_out(filled, QUIZZES, NEW, found.fingerprint, remove=True)
        assert late.value.status == 409
        assert ids(filled) == before


def test_nothing_is_imported_from_another_file_or_with_another_choice(filled: str) -> None:
    found = plan(filled, NEW)
    for data, remove in ((NEW, True), (NEW + b",more,1\n", False)):
        with pytest.raises(Refusal):
            carry_out(filled, QUIZZES, data, found.fingerprint, remove=remove)
    with pytest.raises(Refusal):
        carry_out(filled, QUIZZES, NEW, "", remove=False)


def test_every_wrong_line_is_listed_and_then_nothing_can_be_imported(filled: str) -> None:
    data = b"id,difficulty,name\n1,x,a\n3,1,ok\n3,1,twice\n4,1\n5,1," + b"y" * 256 + b"\n"
    found = plan(filled, data)
    assert found.fingerprint == ""
    assert [(one.line, one.column) for one in found.refused] == [
        (2, "difficulty"), (4, "id"), (5, ""), (6, "name"),
    ]  # fmt: skip
    assert counts(found) == (1, 0, 0, 0)
    with pytest.raises(Refusal):
        carry_out(filled, QUIZZES, data, "", remove=False)
    assert ids(filled) == [1, 2, 5, 9]


def test_a_file_that_is_none_is_refused_as_a_whole(filled: str) -> None:
    for data in (b"", b"name\nx\n", b"difficulty,zzz\n1,2\n", b"\xff\xfe1", b'difficulty\n"1\n'):
        with pytest.raises(CSVError):
            plan(filled, data)
    too_many = b"difficulty\n" + b"1\n" * (MOST_ROWS + 1)
    with pytest.raises(Refusal, match="relayctl quiz import"):
        plan(filled, too_many)
