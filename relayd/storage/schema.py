"""Applies the migrations of a database, rolls them back, and lists their state.

Runs the SQL files of `schema/<dialect>/` through yoyo-migrations, on connections of `engines`. All
of it blocks: the daemon calls it in a thread before it serves, `relayctl` calls it directly.

We override yoyo in three ways. A migration and the record that it was applied are one transaction,
so a kill leaves both or neither. The lock against concurrent migrations belongs to the connection
or the process and ends with it (yoyo's own is a row that stays). The name of this machine is read
without the network.
"""

import contextlib
import fcntl
import getpass
import glob
import os
import shutil
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yoyo import internalmigrations
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.backends.core.sqlite3 import SQLiteBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import MigrationList, default_migration_table, read_migrations

from relayd.errors import RelaydError
from relayd.storage import engines
from relayd.storage.engines import Bounds, Engine

UTF8 = "UTF8"
"""The encoding that can hold every character, as PostgreSQL calls it."""

_BOUNDS = Bounds(connect=5.0, statement=0.0, lock=10.0)
_INCREMENTAL = 2  # https://sqlite.org/pragma.html#pragma_auto_vacuum
_SPARE = 64 * 1024 * 1024  # bytes of the disk that stay free in any case
_ADVISORY_LOCK = 0x72656C6179640001  # any number that no other program uses


class SchemaError(RelaydError):
    """A migration or rollback failed. The failed step is rolled back."""


@dataclass(frozen=True)
class Step:
    """One migration.

    Attributes:
        id: the name of its file, without `.sql`.
        applied: when it was applied, in UTC; None if it is pending.
        known: whether this version of relayd has its file.
    """

    id: str
    applied: datetime | None
    known: bool = True


def schema_folder(dialect: str) -> Path:
    """Where the SQL files of a dialect are: in an installed package, or in a checkout beside it."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_schema" / dialect
    return installed if installed.is_dir() else package.parent / "schema" / dialect


def migrate(url: str, progress: Callable[[int, int], object] = lambda *_: None) -> list[str]:
    """Applies every pending migration, oldest first.

    A SQLite file that cannot give its free pages back is rewritten so that it can, if the disk has
    space for that.

    Args:
        url: of the database.
        progress: called before each and at the end with how many are applied, and how many were
            pending.

    Returns:
        The ids of the applied migrations.

    Raises:
        ConfigError: the URL is wrong.
        DatabaseUnavailable: the database cannot be reached.
        SchemaError: a migration failed; those before it stay applied.
    """
    with _opened(url) as backend, backend.lock():
        pending = backend.to_apply(_migrations(backend))
        applied: list[str] = []
        for migration in pending:
            progress(len(applied), len(pending))
            applied.append(backend.carry_out(migration, "apply"))
        backend.make_shrinkable()
        progress(len(applied), len(pending))
        return applied


def to_roll_back(url: str, steps: int = 1) -> list[str]:
    """The ids of the migrations that `rollback` would take back, newest first.

    Raises as migrate.
    """
    with _opened(url) as backend:
        return [migration.id for migration in _applied(backend)[:steps]]


def rollback(url: str, steps: int = 1) -> list[str]:
    """Takes back the newest migrations.

    Returns:
        Their ids, newest first.

    Raises:
        ConfigError, DatabaseUnavailable, SchemaError: as migrate.
    """
    with _opened(url) as backend, backend.lock():
        return [backend.carry_out(migration, "rollback") for migration in _applied(backend)[:steps]]


def encoding(engine: engines.Engine) -> str:
    """The encoding of a database, as PostgreSQL calls it. Raises DatabaseUnavailable."""
    if isinstance(engine, engines.SQLite):
        return UTF8
    with engine.connected() as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW server_encoding")
        found: str = cursor.fetchone()[0]
        return found


def status(url: str) -> list[Step]:
    """Every migration this relayd knows, or the database remembers. Raises as migrate."""
    with _opened(url) as backend:
        times = backend.applied_times()
        known = [Step(one.id, times.pop(one.id, None)) for one in _migrations(backend)]
        return known + [Step(id, when, known=False) for id, when in sorted(times.items())]


def _migrations(backend: "_Backend") -> MigrationList:
    # glob.escape: yoyo takes a pattern
    return read_migrations(glob.escape(str(schema_folder(backend.engine.dialect))))


def _applied(backend: "_Backend") -> list[Any]:
    times = backend.applied_times()
    return [one for one in reversed(_migrations(backend)) if one.id in times]


@contextlib.contextmanager
def _opened(url: str) -> Iterator["_Backend"]:
    engine = engines.engine(url, _BOUNDS)
    try:
        with _BACKENDS[engine.dialect](engine) as backend:
            yield backend
    except engine.errors as error:
        if (away := engine.unavailable(error, f"{engine.label}: ")) is not None:
            raise away from error
        raise SchemaError(f"{engine.label}: {engine.reason(error)}") from error


class _Backend:
    """Our overrides of both of yoyo's backends; mixed in before one of them."""

    engine: Engine
    _holds_lock = False
    lock: Callable[[], contextlib.AbstractContextManager[None]]
    to_apply: Callable[[MigrationList], MigrationList]

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        uri = DatabaseURI(engine.dialect, None, None, None, None, "", {})
        super().__init__(uri, default_migration_table)  # type: ignore[call-arg]

    def __enter__(self) -> "_Backend":
        super().__enter__()  # type: ignore[misc]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[misc]

    def connect(self, uri: DatabaseURI) -> Any:
        return self.engine.connect()

    def execute(self, sql: str, *args: Any) -> Any:
        # yoyo begins every transaction with this word; in SQLite, ours locks at once
        sql = self.engine.begin if sql == "BEGIN" else sql
        return super().execute(sql, *args)  # type: ignore[misc]

    def carry_out(self, migration: Any, direction: str) -> str:
        """Applies a migration or takes it back, and notes it, in one transaction."""
        with self.transaction():  # type: ignore[attr-defined]
            migration.process_steps(self, direction)
            self.log_migration(migration, direction)  # type: ignore[attr-defined]
            if direction == "apply":
                self.mark_one(migration, log=False)  # type: ignore[attr-defined]
            else:
                self.unmark_one(migration, log=False)  # type: ignore[attr-defined]
        return str(migration.id)

    def make_shrinkable(self) -> None:
        """Prepares the database for giving free space back, if that is needed and possible."""

    def applied_times(self) -> dict[str, datetime]:
        """When each migration was applied, by its id. Changes nothing, unlike yoyo."""
        if internalmigrations.needs_upgrading(self):
            return {}
        rows = self.execute(
            f"SELECT migration_id, applied_at_utc FROM {default_migration_table}"
        ).fetchall()
        return {
            id: when if isinstance(when, datetime) else datetime.fromisoformat(when)
            for id, when in rows
        }

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """One row of yoyo's log, without a look-up in the network or the list of users."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            user = str(os.getuid())
        return {
            "id": str(uuid.uuid1()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": user,
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


class _PostgreSQL(_Backend, PostgresqlBackend):
    @contextlib.contextmanager
    def lock(self, timeout: float = _BOUNDS.lock) -> Iterator[None]:
        if self._holds_lock:
            yield
            return
        # in a transaction of its own: a pooler would leave a session's lock with a stranger
        with (
            self.engine.connected() as holder,
            self.engine.transaction(holder) as cursor,
        ):
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            self._holds_lock = True
            try:
                yield
            finally:
                self._holds_lock = False


class _SQLite(_Backend, SQLiteBackend):
    engine: engines.SQLite

    @contextlib.contextmanager
    def lock(self, timeout: float = _BOUNDS.lock) -> Iterator[None]:
        if self._holds_lock:
            yield
            return
        # the folder, not the file: closing a file drops SQLite's own locks on it
        folder = os.open(self.engine.path.parent, os.O_RDONLY)
        try:
            _lock_folder(folder, time.monotonic() + timeout)
            self._holds_lock = True
            yield
        finally:
            self._holds_lock = False
            os.close(folder)

    def make_shrinkable(self) -> None:
        if self.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL:
            return
        path = self.engine.path
        size = path.stat().st_size
        # the copy goes through the log beside the file, and needs a temporary one, too
        if shutil.disk_usage(path.parent).free < 2 * size + _SPARE:
            return
        with contextlib.suppress(sqlite3.OperationalError):  # another process uses the file
            self.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self.execute("VACUUM")


_BACKENDS: dict[str, type[_Backend]] = {"postgresql": _PostgreSQL, "sqlite": _SQLite}


def _lock_folder(folder: int, until: float) -> None:
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise SchemaError("another process is migrating this database") from None
            time.sleep(0.1)
