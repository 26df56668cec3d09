"""Single quizzes and actions: list, search, add, change and delete them, for the console.

Stands on `pool` and `tables`. A list has a bound, and a search reads the whole table at most once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.storage.engines import Cursor
from relayd.storage.pool import Database
from relayd.storage.tables import Table, read_cell, read_integer

MOST_SHOWN = 100
"""Rows of a list."""

Row = dict[str, int | str | None]
"""A row by its columns; a column without a value is None."""


class Found(msgspec.Struct, kw_only=True):
    """A part of a table.

    Attributes:
        rows: in the order of their ids.
        total: the number of all rows that match.
    """

    rows: list[Row]
    total: int


def check_row(table: Table, given: Mapping[str, object]) -> Row:
    """Checks the values of a row, without its id.

    Raises:
        ClientError: `bad_message`; the sentence names the column.
    """
    row: Row = {}
    for column in table.columns[1:]:
        value = given.get(column, "")
        try:
            row[column] = read_cell(column, "" if value is None else str(value))
        except ValueError as error:
            raise ClientError(ErrorCode.BAD_MESSAGE, f"{column}: {error}.") from error
    return row


class Contents:
    """The rows of both tables.

    Args:
        database: has the tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, table: Table, text: str, difficulty: str, after: int) -> Found:
        """Lists rows in the order of their ids. Raises DatabaseUnavailable.

        Args:
            table: the table.
            text: a part of a text, in any case, or an id; "" for every row.
            difficulty: of the rows; "" for any.
            after: the rows have greater ids.

        Raises:
            Refusal: 400, the difficulty is no number.
            DatabaseUnavailable: the database does not answer.
        """
        conditions, values = list[str](), list[int | str]()
        if text:
            texts = [name for name in table.columns if name not in ("id", "difficulty")]
            parts = [rf"LOWER({name}) LIKE LOWER(%s) ESCAPE '\'" for name in texts]
            values += [f"%{_escaped(text)}%"] * len(parts)
            if text.isdecimal() and text.isascii() and len(text) < 10:
                parts.append("id = %s")
                values.append(int(text))
            conditions.append(f"({' OR '.join(parts)})")
        if difficulty:
            try:
                values.append(read_integer(difficulty, -(2**31)))
            except ValueError as error:
                raise Refusal(ErrorCode.BAD_REQUEST, f"difficulty: {error}.") from error
            conditions.append("difficulty = %s")
        return await self._database.run(
            "content.find", self._find, table, conditions, values, after
        )

    def _find(
        self,
        cursor: Cursor,
        table: Table,
        conditions: Sequence[str],
        values: Sequence[int | str],
        after: int,
    ) -> Found:
        sql = self._database.sql
        where = " AND ".join(conditions) or "1 = 1"
        cursor.execute(sql(f"SELECT COUNT(*) FROM {table.name} WHERE {where}"), list(values))
        total = int(cursor.fetchone()[0])
        cursor.execute(
            sql(
                f"SELECT {', '.join(table.columns)} FROM {table.name} "
                f"WHERE {where} AND id > %s ORDER BY id LIMIT %s"
            ),
            [*values, after, MOST_SHOWN],
        )
        rows = [dict(zip(table.columns, row, strict=True)) for row in cursor.fetchall()]
        return Found(rows=rows, total=total)

    async def add(self, table: Table, row: Row) -> int:
        """Adds a row; returns its id. Raises DatabaseUnavailable."""
        return await self._database.run("content.add", self._add, table, row, write=True)

    def _add(self, cursor: Cursor, table: Table, row: Row) -> int:
        columns = ", ".join(row)
        marks = ", ".join(["%s"] * len(row))
        statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks}) RETURNING id"
        cursor.execute(self._database.sql(statement), list(row.values()))
        return int(cursor.fetchone()[0])

    async def change(self, table: Table, id: int, before: Row, row: Row) -> None:
        """Changes a row, if nobody has changed it meanwhile.

        Args:
            table: the table.
            id: of the row.
            before: its values as the operator has seen them.
            row: its new values.

        Raises:
            Refusal: 404, it is not there; 409, it has other values by now.
            DatabaseUnavailable: the database does not answer.
        """
        await self._database.run("content.change", self._change, table, id, before, row, write=True)

    def _change(self, cursor: Cursor, table: Table, id: int, before: Row, row: Row) -> None:
        sql, columns = self._database.sql, table.columns[1:]
        lock = " FOR UPDATE" if self._database.dialect == "postgresql" else ""
        cursor.execute(
            sql(f"SELECT {', '.join(columns)} FROM {table.name} WHERE id = %s{lock}"), [id]
        )
        found = cursor.fetchone()
        if found is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"There is no row {id} any more.")
        if not same(dict(zip(columns, found, strict=True)), before):
            raise Refusal(ErrorCode.CONFLICT, f"Row {id} was changed meanwhile: look at it again.")
        changes = ", ".join(f"{name} = %s" for name in columns)
        cursor.execute(
            sql(f"UPDATE {table.name} SET {changes} WHERE id = %s"),
            [*(row[name] for name in columns), id],
        )

    async def delete(self, table: Table, ids: Sequence[int]) -> int:
        """Deletes rows; returns how many were there. Raises DatabaseUnavailable."""
        return await self._database.run("content.delete", self._delete, table, ids, write=True)

    def _delete(self, cursor: Any, table: Table, ids: Sequence[int]) -> int:
        marks = ", ".join(["%s"] * len(ids))
        statement = f"DELETE FROM {table.name} WHERE id IN ({marks})"
        cursor.execute(self._database.sql(statement), list(ids))
        return int(cursor.rowcount)


def same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two rows have the same values in the columns of the first; None is an empty text."""
    return all(_plain(value) == _plain(other.get(name)) for name, value in one.items())


def _plain(value: object) -> str:
    return "" if value is None else str(value)


def _escaped(text: str) -> str:
    """A text for LIKE, in which it stands for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
