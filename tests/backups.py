"""Files of backups, as `relayctl backup` writes them."""

import json
import secrets
from pathlib import Path

from relayd.backup.file import Writer
from relayd.backup.records import Header, Kept, Message, Record, Room, Row, Table
from relayd.storage.tables import QUIZZES

MADE = 1_800_000_000_000
"""The Unix time of a backup in ms, and the first id of its rooms."""


def write_backup(path: Path, rooms: int, messages: int, length: int = 10) -> Path:
    """A backup with so many rooms of so many messages."""
    records: list[Record] = [
        Header(format=1, version="1", made=MADE, database="x", chat="x", top=MADE),
        Table(name="quizzes", columns=QUIZZES.columns, last_id=1),
        Row((1, f"of {path.name}", 1, "", "", "")),
    ]
    for room in range(rooms):
        records.append(Room(f"room{room:04}"))
        for id in range(MADE, MADE + messages):
            text = secrets.token_hex(length)
            time = "2026-11-29T05:20:00.000Z"
            records.append(Message(id, json.dumps({"message": text, "id": id, "time": time})))
        last = MADE + messages
        records.append(Kept(first=MADE, oldest=MADE, last=last, hole=0, posted=last))
    with path.open("wb") as stream:
        writer = Writer(stream)
        for record in records:
            writer.add(record)
        writer.end()
    return path
