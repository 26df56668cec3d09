"""Whether the file of an embedded database is still the one that was opened under its name.

Under `engines`. A file that was deleted, or replaced by another one, stays open, and SQLite goes on
to write into it; what is written there is gone when the last connection ends.
"""

import os
import sqlite3
from pathlib import Path

from relayd.stores.states import State

PLACES = {
    State.MISSING: "there is no file of this name any more",
    State.REPLACED: "another file has the name now",
}
"""The states of a place, in words."""


class OpenFile(sqlite3.Connection):
    """A connection that remembers which file it has open: its device and inode."""

    file: tuple[int, int] | None = None


def identify(path: Path) -> tuple[int, int] | None:
    """The device and the inode of the file that has a name now; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_read_only(path: Path) -> bool:
    """Whether the file system of a file is mounted read-only: SQLite says "unable to open" then."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def state_of_place(path: Path, connection: OpenFile) -> State | None:
    """Whether the file was deleted, or replaced by another one, since it was opened."""
    now = identify(path)
    if now == connection.file:
        return None
    return State.MISSING if now is None else State.REPLACED
