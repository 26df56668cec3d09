"""The file of a backup: JSON lines, compressed with gzip, with sums and a digest at the end.

On `records`. Nothing in the file is trusted before it was read to its end: `check` reads all of it,
in bounded memory, and says what is wrong.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import msgspec

from relayd import wire
from relayd.backup.records import (
    FORMAT,
    BackupError,
    Counting,
    End,
    Header,
    Kept,
    Message,
    Record,
    Room,
    Row,
    Sums,
    Table,
    Tag,
    decode,
    encode,
)
from relayd.errors import ClientError
from relayd.storage.tables import ACTIONS, QUIZZES

_LEVEL = 5  # of gzip
_LONGEST = 16 * 1024 * 1024  # bytes of a line
_LARGEST_ID = 2**53  # browsers and Lua count in doubles
_LONGEST_NAME = 400  # characters; earlier versions allowed more than 100
_EVERY = 500  # records between two reports of the progress
_COLUMNS = {table.name: table.columns for table in (QUIZZES, ACTIONS)}

Progress = Callable[[int], object]
"""Called now and then with how many rows and messages are done."""


class _Format(msgspec.Struct):
    format: int


class Checked(NamedTuple):
    """What a whole file holds."""

    header: Header
    sums: Sums


class Writer:
    """Writes a backup; the caller makes sure that it is on the disk.

    Args:
        stream: where it goes.
        progress: is called with the rows and messages that were written.

    Attributes:
        skipped: the messages that are none, and were left out.
    """

    def __init__(self, stream: IO[bytes], progress: Progress = lambda _: None) -> None:
        self._file = gzip.GzipFile("", "wb", _LEVEL, stream, mtime=0)
        self._progress = progress
        self._counting, self._digest = Counting(), hashlib.sha256()
        self.skipped = 0

    def add(self, record: Record) -> None:
        """Writes one record: the header first, then all others but the end."""
        if isinstance(record, Message) and not _is_valid(record):
            self.skipped += 1
            return
        line = encode(record) + b"\n"
        self._digest.update(line)
        self._file.write(line)
        self._counting.count(record)
        if self._counting.done % _EVERY == 0:
            self._progress(self._counting.done)

    def end(self) -> Sums:
        """Writes the end; returns the sums."""
        sums = self._counting.sums
        self._file.write(encode(End(sums, self._digest.hexdigest())) + b"\n")
        self._file.close()
        return sums


def read(stream: IO[bytes]) -> Iterator[Record]:
    """The records of a backup, each of them valid, in an order that is valid.

    Raises:
        BackupError: the rest is broken, is of a later version, or is no backup.
    """
    lines = _lines(stream)
    line = next(lines, b"")
    _check_format(line)
    digest, counting, order = hashlib.sha256(line), Counting(), _Order()
    header = _decoded(1, line)
    if not isinstance(header, Header):
        raise BackupError("line 1: is no header")
    yield header
    number, end = 1, None
    for number, line in enumerate(lines, 2):
        if end is not None:
            raise BackupError(f"line {number}: goes on behind the end")
        record = _decoded(number, line)
        if isinstance(record, End):
            end = record
            continue
        digest.update(line)
        try:
            order.check(record)
        except ValueError as error:
            raise BackupError(f"line {number}: {error}") from None
        counting.count(record)
        yield record
    if end is None:
        raise BackupError(f"line {number}: the file ends here, and its end is missing")
    if order.is_open:
        raise BackupError(f"line {number}: the end of a room is missing")
    if end.sha256 != digest.hexdigest() or end.sums != counting.sums:
        raise BackupError("the file was changed: its SHA-256 or its sums differ from its content")


def check(stream: IO[bytes], progress: Progress = lambda _: None) -> Checked:
    """Reads a backup to its end. Raises BackupError."""
    counting, header = Counting(), None
    for number, record in enumerate(read(stream)):
        if isinstance(record, Header):
            header = record
        counting.count(record)
        if number % _EVERY == 0:
            progress(counting.done)
    assert header is not None
    return Checked(header, counting.sums)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as file:
            while line := file.readline(_LONGEST):
                if not line.endswith(b"\n"):
                    raise BackupError("a line is too long, or not ended")
                yield line
    except EOFError:
        raise BackupError("the file is truncated") from None
    except gzip.BadGzipFile as error:
        raise BackupError(f"the file is broken, or no backup: {error}") from None
    except zlib.error as error:
        raise BackupError(f"the file is broken: {error}") from None


def _is_valid(message: Message) -> bool:
    """Whether clients may get a message: its JSON is one object, with its id."""
    try:
        wire.check_entry(message.id, message.body.encode())
    except (ClientError, ValueError):
        return False
    return 0 < message.id < _LARGEST_ID


def _check_format(line: bytes) -> None:
    """Says clearly that a file is of a later version, whatever else it has."""
    try:
        found = msgspec.json.decode(line, type=_Format).format
    except wire.UNDECODABLE:
        raise BackupError("line 1: is no header of a backup") from None
    if found > FORMAT:
        raise BackupError(
            f"it has format {found}, of a later relayd; this one reads formats up to {FORMAT}"
        )


def _decoded(number: int, line: bytes) -> Any:
    try:
        return decode(line)
    except wire.UNDECODABLE as error:
        raise BackupError(f"line {number}: is no record ({error})") from None


class _Order:
    """Checks each record by those before it; raises ValueError."""

    def __init__(self) -> None:
        self._tables: list[str] = []
        self._width = 0
        self._row, self._last_row = -(2**63), 0  # ids of the table
        self._room = ""
        self._last = 0
        self._tagged = 0
        self._marks: set[str] = set()  # of the room
        self.is_open = False

    def check(self, record: Record) -> None:
        """Checks one record."""
        if isinstance(record, Message):
            self._check_message(record)
        elif isinstance(record, Row):
            self._check_row(record)
        elif isinstance(record, Tag):
            self._check_tag(record)
        elif isinstance(record, Kept):
            self._check_kept(record)
        elif isinstance(record, Room):
            self._check_room(record)
        elif isinstance(record, Table):
            self._check_table(record)
        else:
            raise ValueError("is a second header")

    def _check_table(self, table: Table) -> None:
        if table.columns != _COLUMNS.get(table.name) or table.name in self._tables or self._room:
            raise ValueError(f"the table {table.name[:50]!r} is unknown, or out of place")
        self._tables.append(table.name)
        self._width = len(table.columns)
        self._row, self._last_row = -(2**63), table.last_id

    def _check_row(self, row: Row) -> None:
        fits = self._tables and len(row.cells) == self._width and not self._room
        if not fits or type(row.cells[0]) is not int:
            raise ValueError("is no row of the table before it")
        if not self._row < row.cells[0] <= self._last_row:
            raise ValueError(f"the row {row.cells[0]} is there twice, or out of place")
        self._row = row.cells[0]

    def _check_room(self, room: Room) -> None:
        if self.is_open or room.name <= self._room or len(room.name) > _LONGEST_NAME:
            raise ValueError(f"the room {room.name[:100]!r} is none, or out of place")
        self._room, self._last, self._tagged, self.is_open = room.name, 0, 0, True
        self._marks.clear()

    def _check_message(self, message: Message) -> None:
        if not self.is_open or self._tagged or message.id <= self._last or message.time < 0:
            raise ValueError(f"the message {message.id} is out of place")
        if not _is_valid(message):
            raise ValueError(f"the message {message.id} is none")
        self._last = message.id

    def _check_tag(self, tag: Tag) -> None:
        if not self.is_open or not tag.mark or tag.id <= 0 or tag.time < 0:
            raise ValueError("the tag is none, or out of place")
        if tag.mark in self._marks:
            raise ValueError(f"the tag {tag.mark[:100]} is there twice")
        self._marks.add(tag.mark)
        self._tagged = max(self._tagged, tag.id)

    def _check_kept(self, kept: Kept) -> None:
        if not self.is_open or not max(self._last, self._tagged) <= kept.last < _LARGEST_ID:
            raise ValueError(f"the room {self._room} has a higher id than its last one")
        fits = 0 < kept.first <= kept.oldest <= kept.last + 1 and 0 <= kept.hole <= kept.last
        if not fits or kept.posted < 0:
            raise ValueError(f"the ids of the room {self._room} do not fit together")
        self.is_open = False
