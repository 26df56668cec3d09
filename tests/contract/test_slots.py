"""The slots stay dense and right whatever SQL changes the tables, on SQLite and on PostgreSQL."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from relayd.storage import engines

IDS = st.integers(1, 12)
SETS = st.sets(IDS, min_size=1)
DIFFICULTIES = st.one_of(st.none(), st.integers(1, 3))


class Slots(RuleBasedStateMachine):
    """`quizzes` beside a dict id -> difficulty; transactions and savepoints that are taken back."""

    def __init__(self, engine: engines.Engine, connection: Any) -> None:
        super().__init__()
        self.engine = engine
        self.connection = connection
        self.model: dict[int, int | None] = {}
        self.execute("DELETE FROM quizzes")
        self.execute("BEGIN")

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.cursor()
        cursor.execute(self.engine.sql(sql), values)
        return cursor.fetchall() if cursor.description else []

    def where(self, ids: set[int]) -> str:
        return f"WHERE id IN ({', '.join(map(str, ids))})"

    @rule(rows=st.dictionaries(IDS, DIFFICULTIES, min_size=1))
    def insert(self, rows: dict[int, int | None]) -> None:
        new = {id: difficulty for id, difficulty in rows.items() if id not in self.model}
        for id, difficulty in new.items():
            self.execute("INSERT INTO quizzes (id, difficulty) VALUES (%s, %s)", id, difficulty)
        self.model |= new

    @rule(rows=st.dictionaries(IDS, DIFFICULTIES, min_size=1))
    def upsert(self, rows: dict[int, int | None]) -> None:
        values = ", ".join(f"({id}, {difficulty or 'NULL'})" for id, difficulty in rows.items())
        self.execute(
            f"INSERT INTO quizzes (id, difficulty) VALUES {values} "
            "ON CONFLICT (id) DO UPDATE SET difficulty = excluded.difficulty"
        )
        self.model |= rows

    @rule(rows=st.dictionaries(IDS, DIFFICULTIES, min_size=1))
    def replace(self, rows: dict[int, int | None]) -> None:
        if self.engine.dialect == "sqlite":
            values = ", ".join(f"({id}, {difficulty or 'NULL'})" for id, difficulty in rows.items())
            self.execute(f"INSERT OR REPLACE INTO quizzes (id, difficulty) VALUES {values}")
            self.model |= rows

    @rule(ids=SETS, difficulty=DIFFICULTIES)
    def update(self, ids: set[int], difficulty: int | None) -> None:
        self.execute(f"UPDATE quizzes SET difficulty = %s {self.where(ids)}", difficulty)
        self.model |= {id: difficulty for id in ids if id in self.model}

    @rule(ids=SETS)
    def rotate(self, ids: set[int]) -> None:
        self.execute(f"UPDATE quizzes SET difficulty = difficulty %% 3 + 1 {self.where(ids)}")
        for id in ids & self.model.keys():
            old = self.model[id]
            self.model[id] = None if old is None else old % 3 + 1

    @rule(old=IDS, new=IDS)
    def change_id(self, old: int, new: int) -> None:
        if new in self.model and new != old:
            if self.engine.dialect != "sqlite":
                return
            self.execute("UPDATE OR REPLACE quizzes SET id = %s WHERE id = %s", new, old)
        else:
            self.execute("UPDATE quizzes SET id = %s WHERE id = %s", new, old)
        if old in self.model:
            self.model[new] = self.model.pop(old)

    @rule(ids=SETS)
    def delete(self, ids: set[int]) -> None:
        self.execute(f"DELETE FROM quizzes {self.where(ids)}")
        for id in ids:
            self.model.pop(id, None)

    @rule()
    def clear(self) -> None:
        self.execute(
            "TRUNCATE quizzes" if self.engine.dialect == "postgresql" else "DELETE FROM quizzes"
        )
        self.model = {}

    @rule(ids=SETS)
    def take_back(self, ids: set[int]) -> None:
        self.execute("SAVEPOINT here")
        self.execute(f"UPDATE quizzes SET difficulty = 2 {self.where(ids)}")
        self.execute(f"DELETE FROM quizzes {self.where(ids)}")
        self.execute("ROLLBACK TO SAVEPOINT here")

    @rule()
    def commit(self) -> None:
        self.execute("COMMIT")
        self.execute("BEGIN")

    @invariant()
    def slots_are_dense_and_right(self) -> None:
        slots: dict[int, list[int]] = {}
        rows = self.execute("SELECT difficulty, slot, quiz_id FROM quiz_slots ORDER BY 1, 2")
        for difficulty, slot, id in rows:
            slots.setdefault(difficulty, []).append(id)
            assert slot == len(slots[difficulty])
        wanted: dict[int, list[int]] = {}
        for id, own in sorted(self.model.items()):
            if own is not None:
                wanted.setdefault(own, []).append(id)
        assert {difficulty: sorted(ids) for difficulty, ids in slots.items()} == wanted

    def teardown(self) -> None:
        self.execute("COMMIT")


def test_slots_follow_every_change(database_url: str) -> None:
    engine = engines.engine(database_url)
    with engine.connected() as connection:
        run_state_machine_as_test(
            lambda: Slots(engine, connection),  # type: ignore[arg-type]
            settings=settings(
                max_examples=100,
                stateful_step_count=30,
            ),
        )
