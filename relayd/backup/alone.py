"""Opens a database that nobody else uses, for a restore.

On `storage.engines`. A relayd that ran on would go on with ids and sums that it knows from before.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from relayd.backup.records import BackupError, InUse
from relayd.errors import DatabaseUnavailable
from relayd.storage import engines, schema
from relayd.storage.engines import Bounds, Engine
from relayd.storage.place import OpenFile
from relayd.stores.states import State

BOUNDS = Bounds(connect=5.0, statement=3600.0, lock=5.0)
"""For backups and restores: their statements are short, except where a table is cleared."""

_GOODBYE = 3.0  # seconds until PostgreSQL has noticed that a connection was closed, at most
_USERS = """
    SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'relayd' AND pid <> pg_backend_pid()
"""
_LOCK = "LOCK TABLE quizzes, actions, chat_rooms, chat_messages, chat_tags IN EXCLUSIVE MODE"
_PATIENT = "SET LOCAL idle_in_transaction_session_timeout = 0"


class _AloneSQLite(engines.SQLite):
    """A file that no other process has open, or can open meanwhile."""

    def opened(self, connection: OpenFile) -> None:
        """Locks the file before it is read: every open connection of others holds a lock, too."""
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        super().opened(connection)


@contextlib.contextmanager
def reading(url: str) -> Iterator[tuple[Engine, Any]]:
    """A cursor that sees one state of a database, which others go on to use.

    Raises:
        ConfigError: the URL is wrong.
        DatabaseUnavailable: the database cannot be reached.
        BackupError: there is no database, or not the schema of this version.
    """
    engine = engines.engine(url, BOUNDS)
    if isinstance(engine, engines.SQLite) and not engine.path.is_file():
        raise BackupError(f"{engine.label}: there is no file of this name")
    if any(step.applied is None or not step.known for step in schema.status(url)):
        raise BackupError(
            f"{engine.label} has the schema of another version of relayd: relayctl db status"
        )
    with (
        engine.connected() as connection,
        engine.transaction(connection, engine.snapshot) as cursor,
    ):
        if engine.dialect == "postgresql":
            cursor.execute(_PATIENT)
        yield engine, cursor


@contextlib.contextmanager
def writing(url: str) -> Iterator[tuple[Engine, Any]]:
    """A cursor in a transaction, during which nobody else writes to a database.

    Raises:
        ConfigError: the URL is wrong.
        DatabaseUnavailable: the database cannot be reached.
        InUse: somebody uses it.
    """
    engine = engines.engine(url, BOUNDS)
    if isinstance(engine, engines.SQLite):
        # whoever has it open keeps its lock until the end
        engine = _AloneSQLite(str(engine.path), replace(BOUNDS, lock=0.5))
    try:
        with engine.connected() as connection, engine.transaction(connection) as cursor:
            if engine.dialect == "postgresql":
                _take_postgresql(engine, cursor)
            yield engine, cursor
    except DatabaseUnavailable as error:
        if error.state == State.LOCKED:
            raise InUse(f"{engine.label} is in use: stop every relayd on it first") from error
        raise


def _take_postgresql(engine: Engine, cursor: Any) -> None:
    until = time.monotonic() + _GOODBYE
    while True:
        cursor.execute(_USERS)
        count = cursor.fetchone()[0]
        if not count or time.monotonic() > until:
            break
        time.sleep(0.1)
        cursor.execute("SELECT pg_stat_clear_snapshot()")
    if count:
        raise InUse(
            f"{engine.label} is in use: relayd has {count} connections to it; stop every relayd "
            "on it first"
        )
    cursor.execute(_PATIENT)
    cursor.execute(_LOCK)
