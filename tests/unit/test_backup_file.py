"""The file of a backup: what is written is read again, and each kind of damage is found."""

import gzip
import hashlib
import io
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from relayd.backup.file import Writer, check, read
from relayd.backup.records import (
    FORMAT,
    STEP,
    BackupError,
    Header,
    Kept,
    Message,
    Record,
    Room,
    Row,
    Sums,
    Table,
    Tag,
    floor,
    in_parts,
    split,
)
from relayd.storage.tables import ACTIONS, QUIZZES

MADE = 1_800_000_000_000
HEADER = Header(
    format=FORMAT, version="1", made=MADE, database="sqlite", chat="sqlite", top=MADE
)  # fmt: skip


def message(id: int, text: str = "é") -> Message:
    return Message(id, json.dumps({"message": text, "id": id}))


def kept(last: int, **members: int) -> Kept:
    return Kept(**{"first": 1, "oldest": 1, "last": last, "hole": 0, "posted": 5} | members)


RECORDS: list[Record] = [
    HEADER,
    Table(name="quizzes", columns=QUIZZES.columns, last_id=9),
    Row((3, "a", 1, "l", None, "")),
    Table(name="actions", columns=ACTIONS.columns, last_id=0),
    Room("a"),
    message(1),
    message(4),
    Tag("ff", 4, MADE),
    kept(4),
    Room("b"),
    kept(7),
]


def written(records: list[Record]) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream)
    for record in records:
        writer.add(record)
    writer.end()
    return stream.getvalue()


WHOLE = written(RECORDS)


def test_records_are_read_as_they_were_written() -> None:
    found = list(read(io.BytesIO(WHOLE)))
    assert found == RECORDS
    assert check(io.BytesIO(WHOLE)) == (HEADER, Sums(1, 0, 2, 2, 1))


def test_the_format_is_as_the_page_says() -> None:
    lines = gzip.decompress(WHOLE).splitlines(keepends=True)
    end = json.loads(lines[-1])
    assert end["type"] == "end"
    assert end["sums"] == {"quizzes": 1, "actions": 0, "rooms": 2, "messages": 2, "tags": 1}
    assert end["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    assert [json.loads(line)["type"] for line in lines[:-1]] == [
        "header", "table", "row", "table", "room", "message", "message", "tag", "kept", "room",
        "kept",
    ]  # fmt: skip


def test_a_file_that_is_cut_off_anywhere_is_broken() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(BackupError):
            check(io.BytesIO(WHOLE[:length]))


def test_a_file_with_any_byte_changed_is_broken_or_has_the_same_content() -> None:
    dice = random.Random(7)
    for place in range(len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= 1 << dice.randrange(8)
        try:
            found = list(read(io.BytesIO(data)))
        except BackupError:
            continue
        assert found == RECORDS, place  # such as the time in the head of gzip


def changed(change: Callable[[list[bytes]], object]) -> bytes:
    """The file with some of its lines changed, and compressed again."""
    lines = gzip.decompress(WHOLE).splitlines(keepends=True)
    change(lines)
    return gzip.compress(b"".join(lines))


DAMAGES: dict[str, tuple[Any, str]] = {
    "empty": (b"", "no header"),
    "no gzip": (b"SQLite format 3", "no backup"),
    "another gzip": (gzip.compress(b"hello\n"), "no header"),
    "line changed": (changed(lambda all: all.__setitem__(2, all[2].replace(b"3", b"4"))), "SHA"),
    "line missing": (changed(lambda all: all.pop(5)), "SHA"),
    "line twice": (changed(lambda all: all.insert(5, all[5])), "line 7: the message 1"),
    "no JSON": (changed(lambda all: all.insert(2, b"{\n")), "line 3: is no record"),
    "unknown": (changed(lambda all: all.insert(2, b'{"type":"x"}\n')), "line 3: is no record"),
    "no UTF-8": (changed(lambda all: all.__setitem__(9, b'{"type":"room","name":"\xff"}\n')), "10"),
    "behind the end": (changed(lambda all: all.append(all[-2])), "behind the end"),
    "two files": (WHOLE + WHOLE, "behind the end"),
    "garbage behind": (WHOLE + b"garbage", "broken"),
    "no end": (changed(lambda all: all.pop()), "its end is missing"),
    "open line": (changed(lambda all: all.append(b"x")), "not ended"),
    "room open": (written(RECORDS[:-1]), "end of a room"),
    "two headers": (written([HEADER, HEADER]), "line 2: is a second header"),
    "no header": (written(RECORDS[1:]), "no header"),
    "later": (
        gzip.compress(b'{"type":"header","format":%d,"new":[]}\n' % (FORMAT + 1)), "later relayd",
    ),
    "room order": (written([HEADER, Room("b"), kept(7), Room("a"), kept(7)]), "out of place"),
    "outside": (written([HEADER, message(1)]), "out of place"),
    "row outside": (changed(lambda all: all.insert(1, all[2])), "no row"),
    "row width": (written([*RECORDS[:2], Row((1, "a"))]), "no row"),
    "row without cells": (
        changed(lambda all: all.insert(1, b'{"type":"row","cells":[]}\n')), "line 2: is no row",
    ),
    "row of a huge id": (written([*RECORDS[:2], Row((2**64, "a", 1, "", "", ""))]), "no record"),
    "last id": (
        written([HEADER, Table(name="quizzes", columns=QUIZZES.columns, last_id=2**63)]), "line 2",
    ),
    "posted": (written([HEADER, Room("a"), kept(8, posted=2**63)]), "line 3: is no record"),
    "tag time": (written([HEADER, Room("a"), Tag("f", 1, 2**63), kept(8)]), "line 3: is no record"),
    "made": (written([replace(HEADER, made=10**30)]), "line 1: is no record"),
    "made before": (written([replace(HEADER, made=-1)]), "line 1: is no record"),
    "top": (written([replace(HEADER, top=2**53 - 1)]), "line 1: is no record"),
    "version": (written([replace(HEADER, version="\x1b[2J")]), "line 1: is no record"),
    "row twice": (changed(lambda all: all.insert(3, all[2])), "line 4: the row 3 is there twice"),
    "row order": (written([*RECORDS[:3], Row((2, "a", 1, "", "", ""))]), "out of place"),
    "row above": (written([*RECORDS[:2], Row((10, "a", 1, "", "", ""))]), "out of place"),
    "tag twice": (
        written([HEADER, Room("a"), Tag("f", 1, 1), Tag("f", 2, 1), kept(8)]), "tag f is there",
    ),
    "row id": (written([*RECORDS[:2], Row(("x", "a", 1, "", "", ""))]), "no row"),
    "table": (written([HEADER, Table(name="users", columns=("id",), last_id=0)]), "users"),
    "columns": (written([HEADER, Table(name="actions", columns=("id",), last_id=0)]), "actions"),
    "ids": (written([HEADER, Room("a"), message(2), message(2), kept(9)]), "message 2"),
    "above": (written([HEADER, Room("a"), message(9), kept(8)]), "higher id"),
    "huge": (written([HEADER, Room("a"), kept(2**53)]), "higher id"),
    "kept": (written([HEADER, Room("a"), kept(8, oldest=10)]), "fit"),
    "hole": (written([HEADER, Room("a"), kept(8, hole=9)]), "fit"),
    "tag": (written([HEADER, Room("a"), Tag("", 1, 1), kept(8)]), "tag"),
    "tag first": (written([HEADER, Room("a"), Tag("f", 1, 1), message(1), kept(8)]), "message 1"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_kind_of_damage_is_found_and_named(damage: str) -> None:
    data, words = DAMAGES[damage]
    with pytest.raises(BackupError, match=words):
        check(io.BytesIO(data))


def test_a_message_of_another_program_is_left_out() -> None:
    stream = io.BytesIO()
    writer = Writer(stream)
    bad = [Message(2, "no JSON"), Message(3, '{"id": 4}'), Message(2**53, '{"id": 1}')]
    records: list[Record] = [HEADER, Room("a"), message(1), *bad, kept(8)]
    for record in records:
        writer.add(record)
    writer.end()
    assert writer.skipped == 3
    stream.seek(0)
    assert check(stream).sums.messages == 1


def test_the_rooms_come_in_parts_and_the_tables_before_them() -> None:
    tables, rooms = split(iter(RECORDS))
    assert list(tables) == RECORDS[:4]
    parts = list(in_parts(rooms, 2, 10**6))
    assert [(part.name, len(part.messages), len(part.tags)) for part in parts] == [
        ("a", 2, 0), ("a", 0, 1), ("b", 0, 0),
    ]  # fmt: skip
    assert [part.kept is not None for part in parts] == [False, True, True]
    by_length = in_parts(iter(RECORDS[4:9]), 100, 10)
    assert [len(part.messages) for part in by_length] == [1, 1, 0]


def test_ids_go_on_above_all_that_may_have_been_given_out() -> None:
    """Redis begins an epoch two hours of ids above its clock, at most, or above its last ids."""
    hour_later = MADE + STEP
    assert floor(HEADER, hour_later) == hour_later + 3 * STEP
    assert floor(HEADER, MADE - STEP) == MADE + 3 * STEP  # a clock that is wrong
    ahead = Header(
        format=1, version="1", made=MADE, database="sqlite", chat="redis", top=MADE + 9 * STEP
    )  # fmt: skip
    assert floor(ahead, hour_later) == hour_later + 9 * STEP + 1
