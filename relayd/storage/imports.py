"""An import that is looked at before it is done: the plan says what a file changes, row by row.

Stands on `tables`, for the console; it blocks. The plan has a fingerprint of the file and of all
rows that it concerns. The import makes the plan again inside its transaction, and is done only if
the fingerprint is still the same: so it changes what the operator has seen, and nothing else.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from relayd.errors import ErrorCode, Refusal
from relayd.storage import engines
from relayd.storage.engines import Bounds, Engine
from relayd.storage.rows import Row, same
from relayd.storage.tables import Rows, Table, examine, write_rows

MOST_BYTES = 2 * 1024 * 1024
"""Bytes of a file."""
MOST_ROWS = 10_000
"""Rows of a file, and of a table whose other rows are removed; `relayctl` imports larger ones."""
MOST_SHOWN = 100
"""Entries of each part of a plan; it counts all."""
_BOUNDS = Bounds(connect=3.0, statement=10.0, lock=3.0)
_TOGETHER = 500  # rows of one statement


class Change(msgspec.Struct, kw_only=True):
    """A row that changes: its id, and the values that change, before and after."""

    id: int
    before: Row
    after: Row


class Refused(msgspec.Struct, kw_only=True):
    """A line of the file that cannot be imported: the first is 1; "" is the whole line."""

    line: int
    column: str
    reason: str


class Plan(msgspec.Struct, kw_only=True):
    """What an import changes.

    Attributes:
        fingerprint: names this plan; "" while lines are refused, since nothing is imported then.
        counts: `added`, `changed`, `removed`, `unchanged` and `refused` rows.
        added: the first rows that it adds; without `id`, the database assigns one.
        changed: the first rows that it changes.
        removed: the first rows that it removes.
        refused: the first lines that are refused.
    """

    fingerprint: str
    counts: dict[str, int]
    added: list[Row]
    changed: list[Change]
    removed: list[Row]
    refused: list[Refused]


class _Work:
    """A plan with all that is needed to carry it out."""

    def __init__(self) -> None:
        self.added: list[Row] = []
        self.changed: list[Change] = []
        self.removed: list[Row] = []
        self.unchanged = 0
        self.write: list[tuple[int | str, ...]] = []


def plan_import(url: str, table: Table, data: bytes, *, remove: bool) -> Plan:
    """What an import of a file would change. Blocks.

    Args:
        url: of the database.
        table: the table.
        data: the content of the file.
        remove: whether it removes rows whose id the file does not have.

    Raises:
        CSVError: the file as a whole is wrong.
        Refusal: 413, it has too many rows, or the table has.
        DatabaseUnavailable: the database does not answer.
    """
    rows, faults = examine(table, data, MOST_SHOWN)
    _check_size(rows)
    engine = engines.engine(url, _BOUNDS)
    with (
        engine.connected() as connection,
        engine.transaction(connection, engine.snapshot) as cursor,
    ):
        work = _compare(engine, cursor, table, rows, remove=remove)
    counts = {
        "added": len(work.added), "changed": len(work.changed), "removed": len(work.removed),
        "unchanged": work.unchanged, "refused": len(faults),
    }  # fmt: skip
    return Plan(
        fingerprint="" if faults else _fingerprint(table, data, work, remove=remove),
        counts=counts,
        added=work.added[:MOST_SHOWN],
        changed=work.changed[:MOST_SHOWN],
        removed=work.removed[:MOST_SHOWN],
        refused=[Refused(line=one.line, column=one.column, reason=one.reason) for one in faults],
    )


def carry_out(
    url: str, table: Table, data: bytes, fingerprint: str, *, remove: bool
) -> dict[str, int]:
    """Imports a file as it was planned, in one transaction. Blocks.

    Args:
        url: of the database.
        table: the table.
        data: the content of the file.
        fingerprint: of the plan that the operator has seen.
        remove: as in the plan.

    Returns:
        How many rows were `added`, `changed` and `removed`.

    Raises:
        CSVError, Refusal, DatabaseUnavailable: as `plan_import`; nothing was changed.
        Refusal: 409, the file or the table is not the one of the plan; nothing was changed.
    """
    rows, faults = examine(table, data, 1)
    _check_size(rows)
    engine = engines.engine(url, _BOUNDS)
    with engine.connected() as connection, engine.transaction(connection) as cursor:
        if engine.dialect == "postgresql":  # nobody else changes it until COMMIT
            cursor.execute(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")
        work = _compare(engine, cursor, table, rows, remove=remove)
        if faults or fingerprint != _fingerprint(table, data, work, remove=remove):
            raise Refusal(
                ErrorCode.CONFLICT, "The file or the table has changed since: look at it again."
            )
        write_rows(engine, cursor, table, Rows(rows.columns, work.write, rows.without_id))
        for ids in _parts([row["id"] for row in work.removed]):
            marks = ", ".join(["%s"] * len(ids))
            cursor.execute(engine.sql(f"DELETE FROM {table.name} WHERE id IN ({marks})"), ids)
    return {
        "added": len(work.added), "changed": len(work.changed), "removed": len(work.removed),
    }  # fmt: skip


def _check_size(rows: Rows) -> None:
    if len(rows.with_id) + len(rows.without_id) > MOST_ROWS:
        raise _too_large("The file")


def _too_large(what: str) -> Refusal:
    return Refusal(
        ErrorCode.TOO_LARGE,
        f"{what} has more than {MOST_ROWS} rows: use relayctl quiz import or relayctl action "
        "import.",
    )


def _compare(engine: Engine, cursor: Any, table: Table, rows: Rows, *, remove: bool) -> _Work:
    """Compares the rows of a file with those of the table."""
    work, names = _Work(), rows.columns
    known: dict[int, Row] = {}
    columns = ", ".join(table.columns)
    ids = [int(row[0]) for row in rows.with_id]
    if remove:
        statement = f"SELECT {columns} FROM {table.name} ORDER BY id LIMIT %s"
        cursor.execute(engine.sql(statement), (MOST_ROWS + 1,))
        known = _by_id(table, cursor.fetchall())
        if len(known) > MOST_ROWS:
            raise _too_large("The table")
    else:
        for part in _parts(ids):
            marks = ", ".join(["%s"] * len(part))
            statement = f"SELECT {columns} FROM {table.name} WHERE id IN ({marks})"
            cursor.execute(engine.sql(statement), part)
            known.update(_by_id(table, cursor.fetchall()))
    for id, *values in rows.with_id:
        row: Row = dict(zip(names, values, strict=True))
        before = known.get(int(id))
        if before is None:
            work.added.append({"id": id, **row})
            work.write.append((id, *values))
        elif same(row, before):
            work.unchanged += 1
        else:
            changed = [name for name in names if not same({name: row[name]}, before)]
            work.changed.append(
                Change(
                    id=int(id),
                    before={name: before[name] for name in changed},
                    after={name: row[name] for name in changed},
                )
            )
            work.write.append((id, *values))
    work.added += [dict(zip(names, values, strict=True)) for values in rows.without_id]
    if remove:
        kept = set(ids)
        work.removed = [row for id, row in known.items() if id not in kept]
    return work


def _by_id(table: Table, found: Sequence[Sequence[Any]]) -> dict[int, Row]:
    return {int(row[0]): dict(zip(table.columns, row, strict=True)) for row in found}


def _fingerprint(table: Table, data: bytes, work: _Work, *, remove: bool) -> str:
    concerned = (work.added, work.changed, work.removed, work.unchanged)
    text = msgspec.json.encode((table.name, remove, concerned))
    return hashlib.sha256(hashlib.sha256(data).digest() + text).hexdigest()


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _TOGETHER):
        yield list(values[start : start + _TOGETHER])
