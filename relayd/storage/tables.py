"""Import and export of quizzes and actions as CSV; an import is one transaction.

Stands on `engines`; `relayctl` stands on it. The files are CSV (RFC 4180) in UTF-8, with or without
a byte order mark, with a header row. Columns may be in any order, and all but `difficulty` are
optional. A row with an `id` updates the row with that id, or inserts it; for a row without, the
database assigns the id. An empty cell is an empty text. A text that a spreadsheet would take for a
formula has an apostrophe before it in the file (`shield`).
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from relayd.errors import RelaydError
from relayd.storage import engines
from relayd.storage.engines import Bounds, Engine

_BOUNDS = Bounds(connect=5.0, statement=600.0, lock=10.0)
_ROWS = 500  # rows of one statement
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
GREATEST = 2**31 - 1  # of an INTEGER column in PostgreSQL
_TEXT = 255  # characters
# also in full width, which a Japanese spreadsheet may read as the same
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


@dataclass(frozen=True)
class Table:
    """A table that is imported and exported.

    Attributes:
        name: as in the database.
        columns: all columns, in the order of an export.
    """

    name: str
    columns: tuple[str, ...]


QUIZZES = Table("quizzes", ("id", "name", "difficulty", "lef_sel", "rig_sel", "detail"))
ACTIONS = Table("actions", ("id", "difficulty", "lef_sel", "rig_sel", "detail"))


class CSVError(RelaydError):
    """The file is wrong; nothing was imported. The text names the line and the column."""


@dataclass(frozen=True)
class Imported:
    """The number of rows that an import added, and that it changed."""

    added: int
    changed: int


class Rows(NamedTuple):
    """A file's content.

    Attributes:
        columns: the header's columns without `id`.
        with_id: rows whose first value is their id, the others following as in `columns`.
        without_id: rows to which the database assigns the id.
    """

    columns: tuple[str, ...]
    with_id: list[tuple[int | str, ...]]
    without_id: list[tuple[int | str, ...]]


class Fault(NamedTuple):
    """What is wrong with a line of a file.

    Attributes:
        line: the first is 1.
        column: "" if it is the whole line.
        reason: a sentence without its first capital.
    """

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        where = f", column {self.column}" if self.column else ""
        return f"line {self.line}{where}: {self.reason}"


def parse(table: Table, data: bytes) -> Rows:
    """Reads a CSV file.

    Raises:
        CSVError: naming the line (the first is 1) and the column.
    """
    rows, faults = examine(table, data, 1)
    if faults:
        raise CSVError(str(faults[0]))
    return rows


def examine(table: Table, data: bytes, most: int) -> tuple[Rows, list[Fault]]:
    """Reads a CSV file as far as it is right.

    Args:
        table: the table.
        data: the content of the file.
        most: how many faults end the reading.

    Returns:
        The right rows, and the faults of the others.

    Raises:
        CSVError: the file as a whole is wrong: not UTF-8, not CSV, or without a right header.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CSVError(f"line {line}: not UTF-8 (byte 0x{data[error.start]:02x})") from None
    records = _records(text)
    _, header = next(records, (1, []))
    header = [name.strip() for name in header]
    _check_header(table, header)
    columns = tuple(name for name in header if name != "id")
    rows, faults = Rows(columns, [], []), list[Fault]()
    lines_of_ids: dict[int, int] = {}
    for line, record in records:
        if len(record) != len(header):
            reason = f"{len(record)} cells, but the header row has {len(header)} columns"
            faults.append(Fault(line, "", reason))
        else:
            cells: dict[str, Any] = dict(zip(header, record, strict=True))
            column = ""
            try:
                for column in columns:
                    cells[column] = read_cell(column, unshield(cells[column]))
                values = tuple(cells[column] for column in columns)
                column = "id"
                if not str(cells.get("id", "")).strip():
                    rows.without_id.append(values)
                    continue
                id = read_integer(cells["id"], 1)
                if lines_of_ids.setdefault(id, line) != line:
                    raise ValueError(f"{id} was on line {lines_of_ids[id]} already")
                rows.with_id.append((id, *values))
            except ValueError as error:
                faults.append(Fault(line, column, str(error)))
        if len(faults) >= most:
            break
    return rows, faults


def import_rows(
    url: str, table: Table, data: bytes, progress: Callable[[int, int], object] = lambda *_: None
) -> Imported:
    """Reads a CSV file into the database, in one transaction. Blocks.

    Args:
        url: of the database.
        table: the table.
        data: the content of the file.
        progress: called after each statement with the number of rows done, and of all rows.

    Raises:
        CSVError: the file is wrong; nothing was changed.
        ConfigError: the URL is wrong.
        DatabaseUnavailable: the database cannot be reached; nothing was changed.
    """
    rows = parse(table, data)
    engine = engines.engine(url, _BOUNDS)
    with engine.connected() as connection, engine.transaction(connection) as cursor:
        changed = 0
        for part in _parts(rows.with_id):
            changed += _count_known(engine, cursor, table, [row[0] for row in part])
        write_rows(engine, cursor, table, rows, progress)
    return Imported(len(rows.with_id) - changed + len(rows.without_id), changed)


def write_rows(
    engine: Engine,
    cursor: Any,
    table: Table,
    rows: Rows,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> None:
    """Adds rows, and changes those whose id is there; within a transaction.

    Args:
        engine: of the database.
        cursor: of the transaction.
        table: the table.
        rows: as `parse` returns them.
        progress: as of `import_rows`.
    """
    done, total = 0, len(rows.with_id) + len(rows.without_id)
    if rows.with_id:
        updates = ", ".join(f"{name} = excluded.{name}" for name in rows.columns)
        start = f"INSERT INTO {table.name} (id, {', '.join(rows.columns)}) VALUES "
        for part in _parts(rows.with_id):
            insert_rows(engine, cursor, start, part, f" ON CONFLICT (id) DO UPDATE SET {updates}")
            done += len(part)
            progress(done, total)
        if engine.dialect == "postgresql":
            advance_sequence(cursor, table.name)
    start = f"INSERT INTO {table.name} ({', '.join(rows.columns)}) VALUES "
    for part in _parts(rows.without_id):
        insert_rows(engine, cursor, start, part)
        done += len(part)
        progress(done, total)


def export_rows(url: str, table: Table, file: IO[str]) -> int:
    """Writes a snapshot of the table as CSV, ordered by id. Blocks.

    Returns:
        The number of rows.

    Raises:
        ConfigError: the URL is wrong.
        DatabaseUnavailable: the database cannot be reached.
    """
    engine = engines.engine(url, _BOUNDS)
    statement = engine.sql(
        f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE id > %s ORDER BY id LIMIT %s"
    )
    writer = csv.writer(file, lineterminator="\n")
    count = 0
    with (
        engine.connected() as connection,
        engine.transaction(connection, engine.snapshot) as cursor,
    ):
        writer.writerow(table.columns)
        rows = [(-(2**63),)]
        while rows:
            cursor.execute(statement, (rows[-1][0], _ROWS))
            rows = cursor.fetchall()
            writer.writerows(map(_shielded, rows))
            count += len(rows)
    return count


def shield(text: str) -> str:
    """A text as a cell that no spreadsheet runs: `'` is before `=`, `+`, `-`, `@`, tab or line end.

    A text that has the apostrophe already gets one more, so that `unshield` returns each text.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unshield(cell: str) -> str:
    """The text of a cell that `shield` has written; other cells are texts themselves."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _shielded(row: Sequence[Any]) -> list[Any]:
    return [shield(value) if isinstance(value, str) else value for value in row]


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the line on which it starts."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CSVError(f"line {line}: not CSV ({error})") from None
        if record:
            yield line, record


def _check_header(table: Table, header: Sequence[str]) -> None:
    allowed = ", ".join(table.columns)
    if not header:
        raise CSVError(f"line 1: no header row; its columns are {allowed}")
    for name in header:
        if name not in table.columns:
            raise CSVError(f"line 1: unknown column {name[:50]!r}; the columns are {allowed}")
        if header.count(name) > 1:
            raise CSVError(f"line 1: the column {name} occurs twice")
    if "difficulty" not in header:
        raise CSVError("line 1: the column difficulty is missing")


def read_cell(column: str, cell: str) -> int | str:
    """The value of a cell. Raises ValueError: the text says what is wrong."""
    if column == "difficulty":
        return read_integer(cell, -GREATEST - 1)
    if len(cell) > _TEXT:
        raise ValueError(f"{len(cell)} characters; at most {_TEXT} are allowed")
    if "\0" in cell:
        raise ValueError("holds the character U+0000")
    return cell


def read_integer(cell: str, smallest: int) -> int:
    """A whole number of a column. Raises ValueError."""
    text = cell.strip()
    if not text:
        raise ValueError("is empty; a whole number is needed")
    if not _INTEGER.fullmatch(text) or not smallest <= int(text) <= GREATEST:
        raise ValueError(f"{text[:50]!r} is not a whole number from {smallest} to {GREATEST}")
    return int(text)


def _parts(rows: Sequence[tuple[int | str, ...]]) -> Iterator[Sequence[tuple[int | str, ...]]]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


def insert_rows(
    engine: Engine, cursor: Any, start: str, rows: Sequence[Sequence[Any]], end: str = ""
) -> None:
    """Inserts rows in one statement.

    Args:
        engine: of the database.
        cursor: in a transaction.
        start: the statement before its rows.
        rows: at least one, and as many as parameters allow.
        end: the statement behind its rows.
    """
    row = "(" + ", ".join(["%s"] * len(rows[0])) + ")"
    statement = engine.sql(start + ", ".join([row] * len(rows)) + end)
    cursor.execute(statement, [value for row in rows for value in row])


def _count_known(engine: Engine, cursor: Any, table: Table, ids: Sequence[int | str]) -> int:
    marks = ", ".join(["%s"] * len(ids))
    cursor.execute(
        engine.sql(f"SELECT COUNT(*) FROM {table.name} WHERE id IN ({marks})"), list(ids)
    )
    return int(cursor.fetchone()[0])


def advance_sequence(cursor: Any, table: str, last: int = 0) -> None:
    """Advances the sequence of the ids past the greatest id of a table, and past `last`.

    Args:
        cursor: in a transaction of PostgreSQL.
        table: its name.
        last: an id that was given.
    """
    cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", (table,))
    sequence = cursor.fetchone()[0]
    if sequence is None:  # the table is not relayd's own, and has another source of ids
        return
    cursor.execute(
        f"SELECT setval(%s, top.id) FROM "
        f"(SELECT GREATEST(MAX(id), %s) AS id FROM {table}) top "
        f"WHERE top.id > 0 AND top.id >= (SELECT last_value FROM {sequence})",
        (sequence, last),
    )
