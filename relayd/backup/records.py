"""The records of a backup: what each line of the file holds, and the sums of them. Pure.

At the bottom of `backup`. A backup is a header, the tables with their rows, the chat rooms, and an
end. What is known of a room stands behind its messages, since a room may be trimmed while it is
read: messages below `oldest` are left out when it is restored.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

from relayd.errors import RelaydError

FORMAT = 1
"""The number of this format; a file with a higher one is of a later version of relayd."""

STEP = 3_600_000
"""An hour in ms, and so of ids: how far ahead of the clock Redis begins an epoch (`epochs`)."""


_INTEGER = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # as databases have them
_MOMENT = Annotated[int, msgspec.Meta(ge=0, le=2**47)]  # before the year 6430
# what clients count in (2^53), but for 278 years of ids, which a restore may add
_TOP = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 2**43)]
# printed to a terminal, so without control characters
_VERSION = Annotated[str, msgspec.Meta(max_length=100, pattern=r"\A[!-~]*\Z")]


class BackupError(RelaydError):
    """A backup cannot be made, or the file is none; the text is a sentence for the operator."""


class InUse(RelaydError):
    """A relayd uses the store; nothing was changed."""


class NotEmpty(RelaydError):
    """The store has data already; nothing was changed."""


class Header(msgspec.Struct, tag="header", kw_only=True):
    """The first record.

    Attributes:
        format: `FORMAT` of the relayd that wrote the file.
        version: of that relayd.
        made: Unix time in ms when the snapshot was taken, by the clock of the chat's store.
        database: the kind of database that the quizzes are from.
        chat: the kind of store that the chat is from.
        top: no room had given a higher id.
    """

    format: int
    version: _VERSION
    made: _MOMENT
    database: str
    chat: str
    top: _TOP


class Table(msgspec.Struct, tag="table", kw_only=True):
    """A table, whose rows follow.

    Attributes:
        name: of the table.
        columns: the names of the columns, in the order of the cells of each row.
        last_id: the highest id that the database has given; 0 if that is not known.
    """

    name: str
    columns: tuple[str, ...]
    last_id: _INTEGER


class Row(msgspec.Struct, tag="row"):
    """A row of the table before it."""

    cells: tuple[str | _INTEGER | float | None, ...]


class Room(msgspec.Struct, tag="room"):
    """A chat room; its messages follow, then its tags, then `Kept`."""

    name: str


class Message(msgspec.Struct, tag="message", omit_defaults=True):
    """A chat message.

    Attributes:
        id: its id; in a room each is higher than the one before.
        body: the JSON that clients see.
        time: Unix time in ms when relayd received it; 0: as the body says.
    """

    id: int
    body: str
    time: _INTEGER = 0


class Tag(msgspec.Struct, tag="tag"):
    """A tag of a message.

    Attributes:
        mark: identifies the tag of its sender.
        id: of the message.
        time: Unix time of the message in ms.
    """

    mark: str
    id: int
    time: _INTEGER


class Kept(msgspec.Struct, tag="kept", kw_only=True):
    """What is known of a room when its messages were read.

    Attributes:
        first: the first id there ever was.
        oldest: the id of the oldest message that is kept; lower ones are left out.
        last: no higher id was given.
        hole: the last id of a part whose messages may be lost; 0 for none.
        posted: Unix time of its newest message in ms.
    """

    first: int
    oldest: int
    last: int
    hole: int
    posted: _INTEGER


class Sums(msgspec.Struct):
    """How many records of each kind a backup has."""

    quizzes: int = 0
    actions: int = 0
    rooms: int = 0
    messages: int = 0
    tags: int = 0


class End(msgspec.Struct, tag="end"):
    """The last record.

    Attributes:
        sums: the records of each kind.
        sha256: the digest, in hexadecimal, of all lines before this one, with their line ends.
    """

    sums: Sums
    sha256: str


Record = Header | Table | Row | Room | Message | Tag | Kept | End
Source = Iterator[Record]
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode


class Counting:
    """Counts records on their way.

    Attributes:
        sums: what has passed.
        table: the table whose rows pass.
    """

    def __init__(self) -> None:
        self.sums = Sums()
        self.table = ""

    def count(self, record: Any) -> None:
        """Counts one record."""
        sums = self.sums
        if isinstance(record, Message):
            sums.messages += 1
        elif isinstance(record, Row):
            setattr(sums, self.table, getattr(sums, self.table) + 1)
        elif isinstance(record, Tag):
            sums.tags += 1
        elif isinstance(record, Room):
            sums.rooms += 1
        elif isinstance(record, Table):
            self.table = record.name

    @property
    def done(self) -> int:
        """How many rows and messages have passed."""
        return self.sums.quizzes + self.sums.actions + self.sums.messages


class Part(NamedTuple):
    """A part of a room.

    Attributes:
        name: of the room.
        messages: some of its messages.
        tags: some of its tags.
        kept: with the last part, what is known of the room.
    """

    name: str
    messages: list[Message]
    tags: list[Tag]
    kept: Kept | None


def in_parts(records: Iterable[Record], size: int, most: int) -> Iterator[Part]:
    """The rooms among records, in parts.

    Args:
        records: of rooms.
        size: messages and tags of a part, at most.
        most: characters of its messages after which a part ends.
    """
    name, length = "", 0
    messages: list[Message] = []
    tags: list[Tag] = []
    for record in records:
        kept = record if isinstance(record, Kept) else None
        if isinstance(record, Room):
            name = record.name
        elif isinstance(record, Message):
            messages.append(record)
            length += len(record.body)
        elif isinstance(record, Tag):
            tags.append(record)
        if kept is not None or len(messages) + len(tags) >= size or length >= most:
            yield Part(name, messages, tags, kept)
            messages, tags, length = [], [], 0


def floor(header: Header, now: int) -> int:
    """An id that is above all that were given before the store was lost.

    Ids follow the clock. Over Redis they may be up to two hours of ids ahead of it, or as far ahead
    as they were already at the time of the backup.

    Args:
        header: of the backup.
        now: Unix time in ms.
    """
    return max(max(now, header.made) + 3 * STEP, header.top + max(0, now - header.made) + 1)


def split(records: Iterator[Record]) -> tuple[Iterator[Record], Iterator[Record]]:
    """The records before the first room, and those from there on, to be read in this order."""
    first: list[Record] = []

    def tables() -> Iterator[Record]:
        for record in records:
            if isinstance(record, Room):
                first.append(record)
                return
            yield record

    def rooms() -> Iterator[Record]:
        yield from first
        yield from records

    return tables(), rooms()


def lifted(records: Iterable[Record], lowest: int, *, lost: bool) -> Iterator[Record]:
    """Lets all rooms among records go on above an id.

    Args:
        records: of rooms.
        lowest: no room goes on with a lower id.
        lost: whether messages may have been lost up to there.
    """
    for record in records:
        if isinstance(record, Kept):
            record.last = max(record.last, lowest)
            record.hole = record.last if lost else record.hole
        yield record
