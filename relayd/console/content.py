"""Quizzes and actions below `/console/api/`, as JSON and CSV: edit, preview, import, export.

Under `console`, on `storage`. Every change is logged with the address of its operator. Files are
read and compared in a thread, one at a time.
"""

import csv
import io
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool

from relayd.config import Config
from relayd.console.feed import read_message
from relayd.console.sessions import Session
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.logs import Logger
from relayd.storage import tables
from relayd.storage.imports import MOST_BYTES, carry_out, plan_import
from relayd.storage.rows import MOST_SHOWN, Contents, Row, check_row
from relayd.storage.tables import CSVError, Table
from relayd.web.answers import Answer, json_answer
from relayd.web.request import Request

TABLES = {table.name: table for table in (tables.QUIZZES, tables.ACTIONS)}
MOST_WAITING = 4
"""Files that wait for the thread."""

T = TypeVar("T")


class Edit(msgspec.Struct):
    """A row as the operator has seen it, and as it shall be."""

    before: dict[str, int | str | None]
    row: dict[str, int | str | None]


class Deletion(msgspec.Struct):
    """The ids of rows that are deleted."""

    ids: list[int]


class Content:
    """The requests for one or both tables. `table` is the segment of the path.

    Args:
        contents: the rows.
        config: returns the configuration, which has the database.
        reactor: for the thread.
    """

    _log = Logger()

    def __init__(self, contents: Contents, config: Callable[[], Config], reactor: Any) -> None:
        self._contents = contents
        self._config = config
        self._reactor = reactor
        self._lock = DeferredLock()

    async def find(self, session: Session, request: Request, table: str) -> Answer:
        """`GET {table}?text=&difficulty=&after=`: the first rows that match, and their number."""
        after = request.argument("after") or "0"
        try:
            number = tables.read_integer(after, -(2**31))
        except ValueError as error:
            raise Refusal(ErrorCode.BAD_REQUEST, f"after: {error}.") from error
        text = (request.argument("text") or "").strip()[:255]
        if "\0" in text:  # PostgreSQL has no such text
            raise Refusal(ErrorCode.BAD_REQUEST, "text: holds the character U+0000.")
        difficulty = (request.argument("difficulty") or "").strip()
        return json_answer(await self._contents.find(_find(table), text, difficulty, number))

    async def add(self, session: Session, request: Request, table: str) -> Answer:
        """`POST {table}`: adds a row, and answers with its id."""
        found = _find(table)
        row = check_row(found, read_message(request, Row))
        id = await self._contents.add(found, row)
        self._note(request, "added row {id} of {table}", id=id, table=table)
        return json_answer({"id": id})

    async def change(self, session: Session, request: Request, table: str, id: str) -> Answer:
        """`PUT {table}/{id}`: changes a row, unless somebody else has meanwhile (409)."""
        found, number = _find(table), _read_id(id)
        edit = read_message(request, Edit)
        row = check_row(found, edit.row)
        await self._contents.change(found, number, edit.before, row)
        self._note(request, "changed row {id} of {table}", id=number, table=table)
        return json_answer({"id": number})

    async def delete(self, session: Session, request: Request, table: str) -> Answer:
        """`POST {table}/delete`: deletes rows by their ids."""
        found = _find(table)
        ids = read_message(request, Deletion).ids
        if not 1 <= len(ids) <= MOST_SHOWN or not all(0 < id <= tables.GREATEST for id in ids):
            raise ClientError(ErrorCode.BAD_MESSAGE, f"Send 1 to {MOST_SHOWN} ids.")
        count = await self._contents.delete(found, ids)
        self._note(request, "deleted {count} rows of {table}", count=count, table=table)
        return json_answer({"count": count})

    async def export(self, session: Session, request: Request, table: str) -> Answer:
        """`GET {table}/export`: all rows as CSV, to save."""
        found = _find(table)

        def write() -> bytes:
            file = io.StringIO()
            # a byte order mark, without which spreadsheets take UTF-8 for something else
            file.write("\ufeff")
            tables.export_rows(self._config().database.url, found, file)
            return file.getvalue().encode()

        body = await self._in_thread(write)
        return Answer(
            body=body,
            content_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="{found.name}.csv"',
                "Cache-Control": "no-store",
            },
        )

    async def preview(self, session: Session, request: Request, table: str) -> Answer:
        """`POST {table}/preview?remove=1`: what an import of the CSV in the body would change."""
        found, data, remove = _find(table), request.body(), request.argument("remove") == "1"
        url = self._config().database.url
        plan = await self._in_thread(lambda: plan_import(url, found, data, remove=remove))
        return json_answer(plan)

    async def carry_out(self, session: Session, request: Request, table: str) -> Answer:
        """`POST {table}/import?remove=1&plan=FINGERPRINT`: does what the preview has shown."""
        found, data, remove = _find(table), request.body(), request.argument("remove") == "1"
        plan, url = request.argument("plan") or "", self._config().database.url
        done = await self._in_thread(lambda: carry_out(url, found, data, plan, remove=remove))
        self._note(
            request, "imported {table}: {added} added, {changed} changed, {removed} removed",
            table=table, **done,
        )  # fmt: skip
        return json_answer(done)

    def max_body(self, path: str) -> int | None:
        """The largest size of a body; None for the usual one."""
        return MOST_BYTES if path.endswith(("/preview", "/import")) else None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Runs something that blocks. Raises Refusal for a wrong file, and what `work` raises."""
        if len(self._lock.waiting) >= MOST_WAITING:
            raise Refusal(
                ErrorCode.TOO_MANY_REQUESTS, "Other files are read at this moment.", retry_after=5
            )

        def run() -> "Deferred[T]":
            return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

        try:
            return await self._lock.run(run)
        except (CSVError, csv.Error) as error:
            raise Refusal(ErrorCode.BAD_REQUEST, f"The file is wrong: {error}.") from error

    def _note(self, request: Request, words: str, **fields: object) -> None:
        self._log.info(f"console: {{peer}} has {words}", peer=request.client_host, **fields)


def _find(name: str) -> Table:
    if name not in TABLES:
        raise Refusal(ErrorCode.NOT_FOUND)
    return TABLES[name]


def _read_id(text: str) -> int:
    try:
        return tables.read_integer(text, 1)
    except ValueError as error:
        raise Refusal(ErrorCode.NOT_FOUND, "There is no such row.") from error
