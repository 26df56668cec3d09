"""Whether the files of an embedded database are still those that were opened under their names.

Under `engines`. A file that was deleted, or replaced by another one, stays open, and SQLite goes on
to write into it; what is written there is gone when the last connection ends. The log beside the
file (`-wal`) has what was committed lately. If it alone is lost, an open connection can still move
that into the file; if the process is killed first, it is gone.
"""

import os
import sqlite3
from pathlib import Path

from relayd.stores.states import State

PLACES = {
    State.MISSING: "there is no file of this name any more",
    State.REPLACED: "another file has the name now",
    State.LOG_LOST: "it was deleted, or another file has its name now",
}
"""The states of a place, in words."""


_SAVING = 100  # ms that other programs may hold up the saving of a lost log; it is tried again


class OpenFile(sqlite3.Connection):
    """A connection that remembers which files it has open, by device and inode.

    Attributes:
        file: the database.
    """

    file: tuple[int, int] | None = None
    _path = Path()
    _log: tuple[int, int] | None = None

    def note_log(self, path: Path) -> None:
        """Remembers the log, which SQLite has opened beside the file of this path."""
        self._path = path
        self._log = identify(log_of(path))

    def has_lost_log(self) -> bool:
        """Whether the log was deleted or replaced since it was opened, and the file was not.

        SQLite itself deletes a log only with the last connection.
        """
        if self._log is None or identify(log_of(self._path)) == self._log:
            return False
        return identify(self._path) == self.file

    def save_log(self) -> bool:
        """Moves all of the log into the file; False if another program reads an older state.

        Only while no connection of this process has opened another log: they share its index.
        """
        try:
            self.execute(f"PRAGMA busy_timeout = {_SAVING}")
            busy, _, _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return False
        return not busy


def identify(path: Path) -> tuple[int, int] | None:
    """The device and the inode of the file that has a name now; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def log_of(path: Path) -> Path:
    """The log beside a file."""
    return path.with_name(f"{path.name}-wal")


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
