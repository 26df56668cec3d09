"""Quizzes, actions and chat rooms of a database, as records, and from records into a database.

On `records` and `storage`. A backup reads one snapshot, while relayd writes. A restore is one
transaction, in which nobody else writes: `alone` opens the database for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from relayd.backup.records import (
    BackupError,
    Kept,
    Message,
    Record,
    Room,
    Row,
    Sums,
    Table,
    Tag,
    in_parts,
)
from relayd.storage.engines import Cursor, Engine
from relayd.storage.ids import LOWEST
from relayd.storage.keeping import weigh
from relayd.storage.tables import ACTIONS, QUIZZES, advance_sequence, insert_rows

_ROWS = 500  # of one statement
_LONGEST = 1_000_000  # characters of the messages of one statement
_BODIES = 200  # messages that are read together
_TABLES = {table.name: table for table in (QUIZZES, ACTIONS)}
_CHAT = ("chat_rooms", "chat_messages", "chat_tags")
_ROOM = (
    *("name", "first_id", "oldest_id", "last_id", "hole_id"),
    *("messages", "bytes", "posted_at"),
)


class Source:
    """What a database has, in one snapshot.

    Args:
        engine: of the database.
        cursor: in a transaction that sees one state of it.
    """

    def __init__(self, engine: Engine, cursor: Cursor) -> None:
        self._engine = engine
        self._cursor = cursor

    def count(self, *, chat: bool) -> int:
        """How many rows and messages there are, about."""
        texts = [f"SELECT COUNT(*) FROM {name}" for name in _TABLES]
        if chat:
            texts.append("SELECT COALESCE(SUM(messages), 0) FROM chat_rooms")
        return sum(int(self._one(text)) for text in texts)

    def top(self) -> int:
        """No room has given a higher id, or would begin there; 0 without rooms."""
        highest = int(self._one("SELECT COALESCE(MAX(last_id), 0) FROM chat_rooms"))
        return max(highest, int(self._one(LOWEST)))

    def tables(self) -> Iterator[Record]:
        """Quizzes and actions."""
        for table in _TABLES.values():
            last = _last_id(self._engine, self._cursor, table.name)
            yield Table(name=table.name, columns=table.columns, last_id=last)
            sql = f"SELECT {', '.join(table.columns)} FROM {table.name}"
            for row in self._pages(f"{sql} WHERE id > %s ORDER BY id LIMIT %s", _ROWS, -(2**63)):
                if any(isinstance(cell, bytes) for cell in row):
                    raise BackupError(f"the row {row[0]} of {table.name} holds bytes, not text")
                yield Row(tuple(row))

    def rooms(self) -> Iterator[Record]:
        """The chat rooms with what they keep, by their names."""
        sql = "SELECT name, first_id, oldest_id, last_id, hole_id, posted_at FROM chat_rooms"
        for name, first, oldest, last, hole, posted in self._pages(
            f"{sql} WHERE name > %s ORDER BY name LIMIT %s", _ROWS, ""
        ):
            yield Room(name)
            yield from self._messages(name, oldest)
            self._run("SELECT mark, id, posted_at FROM chat_tags WHERE room = %s", name)
            for mark, id, time in self._cursor.fetchall():
                yield Tag(mark, id, time)
            yield Kept(first=first, oldest=oldest, last=last, hole=hole, posted=posted)

    def _messages(self, room: str, oldest: int) -> Iterator[Record]:
        sql = "SELECT id, body FROM chat_messages WHERE room = %s AND id > %s ORDER BY id LIMIT %s"
        after = oldest - 1
        while True:
            self._run(sql, room, after, _BODIES)
            found = self._cursor.fetchall()
            if not found:
                return
            for id, body in found:
                after = id
                yield Message(id, body if isinstance(body, str) else "")

    def _pages(self, sql: str, size: int, after: Any) -> Iterator[Any]:
        found = [(after,)]
        while found:
            self._run(sql, found[-1][0], size)
            found = self._cursor.fetchall()
            yield from found

    def _run(self, sql: str, *parameters: Any) -> None:
        self._cursor.execute(self._engine.sql(sql), parameters)

    def _one(self, sql: str) -> Any:
        self._cursor.execute(sql)
        return self._cursor.fetchone()[0]


class Target:
    """Puts records into a database.

    Args:
        engine: of the database.
        cursor: in the transaction of the restore.
    """

    def __init__(self, engine: Engine, cursor: Cursor) -> None:
        self._engine = engine
        self._cursor = cursor

    def found(self, *, chat: bool) -> Sums:
        """What there is already."""
        names = ("quizzes", "actions", *(_CHAT if chat else ()))
        counts = []
        for name in names:
            self._cursor.execute(f"SELECT COUNT(*) FROM {name}")
            counts.append(int(self._cursor.fetchone()[0]))
        return Sums(*counts)

    def clear(self, *, chat: bool) -> None:
        """Deletes what there is."""
        for name in (*_TABLES, *(_CHAT if chat else ())):
            self._cursor.execute(f"DELETE FROM {name}")

    def put_floor(self, lowest: int) -> None:
        """Lets rooms that are created later begin above an id, and above an earlier such id."""
        self._cursor.execute(LOWEST)
        lowest = max(lowest, int(self._cursor.fetchone()[0]))
        self._cursor.execute("DELETE FROM chat_floors")
        self._insert("chat_floors", ("lowest_id",), [(lowest,)])

    def put_tables(self, records: Iterable[Record]) -> None:
        """Inserts the rows of both tables; later ids are above all that were given."""
        table = ""
        rows: list[Sequence[Any]] = []

        def flush() -> None:
            if rows:
                self._insert(table, _TABLES[table].columns, rows)
                rows.clear()

        for record in records:
            if isinstance(record, Table):
                flush()
                table = record.name
                self._advance(table, record.last_id)
            elif isinstance(record, Row):
                rows.append(record.cells)
                if len(rows) == _ROWS:
                    flush()
        flush()

    def put_rooms(self, records: Iterable[Record]) -> Iterator[int]:
        """Inserts rooms, messages and tags.

        Args:
            records: of rooms.

        Yields:
            How many messages are inserted.
        """
        count = size = 0
        for part in in_parts(records, _ROWS, _LONGEST):
            own = weigh(part.name, b"")
            rows = [(part.name, one.id, one.body) for one in part.messages]
            self._insert("chat_messages", ("room", "id", "body"), rows)
            count += len(rows)
            size += sum(len(one.body.encode()) + own for one in part.messages)
            marks = [(part.name, tag.mark, tag.id, tag.time) for tag in part.tags]
            self._insert("chat_tags", ("room", "mark", "id", "posted_at"), marks)
            if part.kept is not None:
                self._put_room(part.name, part.kept, count, size)
                count = size = 0
            yield len(rows)

    def _put_room(self, name: str, kept: Kept, count: int, size: int) -> None:
        # trimmed while it was read
        sql = (
            f"DELETE FROM chat_messages WHERE room = %s AND id < %s RETURNING {self._engine.octets}"
        )
        self._cursor.execute(self._engine.sql(sql), (name, kept.oldest))
        gone = self._cursor.fetchall()
        count -= len(gone)
        size -= sum(one[0] + weigh(name, b"") for one in gone)
        ids = (kept.first, kept.oldest, kept.last, kept.hole)
        row = (name, *ids, count, size, kept.posted)
        self._insert("chat_rooms", _ROOM, [row])

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            start = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
            try:
                insert_rows(self._engine, self._cursor, start, rows)
            except ValueError as error:  # PostgreSQL has no U+0000
                raise BackupError(f"{table} cannot hold a text of the backup: {error}") from None

    def _advance(self, table: str, last: int) -> None:
        """Lets later ids of a table be above one."""
        if self._engine.dialect == "postgresql":
            advance_sequence(self._cursor, table, last)
        elif last and _has_sequences(self._cursor):
            self._cursor.execute(
                "UPDATE sqlite_sequence SET seq = ? WHERE name = ? AND seq < ?", (last, table, last)
            )
            self._cursor.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT ?, ? "
                "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?)",
                (table, last, table),
            )


def _last_id(engine: Engine, cursor: Cursor, table: str) -> int:
    """The highest id that a database has given in a table."""
    cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")
    highest = int(cursor.fetchone()[0])
    if engine.dialect == "postgresql":
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", (table,))
        sequence = cursor.fetchone()[0]
        if sequence is None:
            return highest
        cursor.execute(f"SELECT last_value FROM {sequence} WHERE is_called")
    elif _has_sequences(cursor):
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
    else:
        return highest
    row = cursor.fetchone()
    return max(highest, int(row[0])) if row else highest


def _has_sequences(cursor: Cursor) -> bool:
    """Whether a table of SQLite never gives an id twice (AUTOINCREMENT)."""
    cursor.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'sqlite_sequence'")
    return bool(cursor.fetchone()[0])
