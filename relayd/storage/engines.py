"""Every difference between PostgreSQL and SQLite: URLs, connecting, transactions, errors.

Bottom of the storage layer; knows no reactor, so the daemon's pool and `relayctl` share it. SQL
elsewhere is written once, with `%s` for parameters, and passed through `Engine.sql`.
"""

import contextlib
import os
import socket
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import psycopg2

from relayd.errors import ConfigError, DatabaseUnavailable
from relayd.storage.local_settings import cursor_with
from relayd.storage.place import OpenFile, identify, is_read_only, state_of_place
from relayd.stores import states
from relayd.stores.states import State, Store
from relayd.urls import databases

_LARGEST_WAL = 16 * 1024 * 1024  # bytes that the log beside the file keeps between transactions


class Cursor(Protocol):
    """The part of a DB-API 2.0 cursor (PEP 249) that relayd uses."""

    @property
    def connection(self) -> Any: ...
    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def close(self) -> Any: ...


class Connection(Protocol):
    """The part of a DB-API 2.0 connection (PEP 249) that relayd uses."""

    def cursor(self) -> Any: ...
    def close(self) -> Any: ...
    def commit(self) -> Any: ...


@dataclass(frozen=True)
class Bounds:
    """How long the database may take, in seconds.

    Attributes:
        connect: to make a connection, for each address of the host.
        statement: for one statement; 0 is no bound.
        lock: to wait for a lock that somebody else holds; 0 is as long as a statement may take.
    """

    connect: float = 3.0
    statement: float = 3.0
    lock: float = 0.0


class Engine(ABC):
    """One database as a URL names it.

    Attributes:
        dialect: `sqlite` or `postgresql`.
        module: the name of the DB-API module.
        label: the database in words that may be shown: never the password.
        arguments: positional arguments of the module's `connect`.
        keywords: its keyword arguments.
        errors: the root of its exceptions.
        begin: starts a transaction that will write.
        snapshot: starts a transaction that only reads, and sees one state of the database.
        octets: the size of a message in bytes, in SQL.
        origin: what tells one state of the rooms' table from a restored one, in SQL (RETURNING).
        store: the kind of store in the table of states.
    """

    dialect: ClassVar[str]
    store: ClassVar[Store]
    module: ClassVar[str]
    errors: ClassVar[type[Exception]]
    begin: ClassVar[str]
    snapshot: ClassVar[str]
    octets: ClassVar[str]
    origin: ClassVar[str]
    label: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = {}

    @abstractmethod
    def open(self) -> Connection:
        """Makes a connection in autocommit mode. Raises the module's errors."""

    def connect(self) -> Connection:
        """As `open`; creates an embedded database that is missing."""
        return self.open()

    @abstractmethod
    def opened(self, connection: Any) -> None:
        """Readies a connection the module has just made."""

    @abstractmethod
    def sql(self, text: str) -> str:
        """The statement in this dialect, its parameters written as `%s`."""

    @abstractmethod
    def state_of(self, error: BaseException) -> State | None:
        """The state of the database that an error shows; None if the error is a bug."""

    def lineage(self, cursor: Cursor, origin: str) -> Hashable:
        """The database behind a cursor, with the `origin` it has told: another after a restore."""
        return origin

    def state_of_place(self, connection: Any) -> State | None:
        """Whether a connection leads to something else than what the URL names by now."""
        return None

    @abstractmethod
    def is_lost(self, connection: Any, error: BaseException) -> bool:
        """Whether the connection is unusable after the error."""

    @abstractmethod
    def interrupt(self, connection: Any) -> None:
        """Frees a thread that hangs in the connection; called from another thread, never blocks."""

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection for the block, with the module's errors turned into relayd's.

        Raises:
            DatabaseUnavailable: the database cannot be reached, is too slow or full.
        """
        try:
            connection = self.connect()
            try:
                yield connection
            finally:
                connection.close()
        except self.errors as error:
            if (state := self.state_of(error)) is None:
                raise
            advice = states.remedy(self.store, state)
            raise DatabaseUnavailable(
                f"{self.label}: {self.reason(error)}; {advice}", state
            ) from error

    def unavailable(self, error: BaseException, before: str = "") -> DatabaseUnavailable | None:
        """The exception for an error that shows a state of the database; None if it is a bug."""
        state = self.state_of(error)
        return DatabaseUnavailable(before + self.reason(error), state) if state else None

    def reason(self, error: BaseException) -> str:
        """The error in one line for the log, without the password."""
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__

    @contextlib.contextmanager
    def transaction(self, connection: Connection, begin: str | None = None) -> Iterator[Any]:
        """A cursor inside BEGIN … COMMIT; ROLLBACK when the block raises."""
        cursor = connection.cursor()
        try:
            cursor.execute(begin or self.begin)
            try:
                yield cursor
            except BaseException:
                with contextlib.suppress(self.errors):
                    cursor.execute("ROLLBACK")
                raise
            try:
                cursor.execute("COMMIT")
            except self.errors:
                with contextlib.suppress(self.errors):
                    cursor.execute("ROLLBACK")
                raise
        finally:
            with contextlib.suppress(self.errors):
                cursor.close()


FOLDER_MODE, FILE_MODE = 0o750, 0o640
"""Modes of what is created for SQLite, from which the umask may take more: chat is private."""


class SQLite(Engine):
    """A database file of this machine, in WAL mode; a COMMIT is on the disk when it returns.

    A connection never creates the file, except in `connect`: a file that was deleted while relayd
    runs must not be followed by an empty one in silence.
    """

    dialect, store = "sqlite", Store.SQLITE
    module, errors = "sqlite3", sqlite3.Error
    begin = "BEGIN IMMEDIATE"  # a reader that becomes a writer cannot wait for the lock
    snapshot = "BEGIN"
    octets = "LENGTH(CAST(body AS BLOB))"  # OCTET_LENGTH came with SQLite 3.43
    origin = "''"

    def __init__(self, path: str, bounds: Bounds) -> None:
        self.path = Path(path).absolute()  # the daemon may change its folder later
        self.label = f"SQLite {self.path}"
        self.arguments = (f"{self.path.as_uri()}?mode=rw",)
        self.keywords = {
            "uri": True,
            "factory": OpenFile,
            "check_same_thread": False,
            "isolation_level": None,
            "timeout": bounds.lock or bounds.statement,
        }

    def connect(self) -> sqlite3.Connection:
        """Opens the file; creates the file and its folder if they are missing."""
        self.make_folder()
        self._make_file()
        return self.open()

    def open(self) -> sqlite3.Connection:
        """Opens the file, which must exist."""
        connection = sqlite3.connect(*self.arguments, **self.keywords)
        try:
            self.opened(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def make_folder(self) -> None:
        """Creates the folder of the file; a failure shows when the file is opened."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)

    def _make_file(self) -> None:
        """Creates the file closed to other users; SQLite gives its mode to -wal and -shm."""
        with contextlib.suppress(OSError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))

    def opened(self, connection: OpenFile) -> None:
        """Sets the pragmas that hold for one connection only, and two that stay with the file."""
        connection.file = identify(self.path)
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # older files: `schema.migrate`
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
        connection.note_log(self.path)

    def sql(self, text: str) -> str:
        """Writes parameters as `?`; a literal percent sign is doubled in `text`, as in psycopg2."""
        return text.replace("%s", "?").replace("%%", "%")

    def state_of(self, error: BaseException) -> State | None:
        """Judges by the result code, and by the message where SQLite has none."""
        if not isinstance(error, sqlite3.Error):
            return None
        name = getattr(error, "sqlite_errorname", None)
        if name is not None and name.startswith("SQLITE_CANTOPEN"):
            if is_read_only(self.path):
                return State.READ_ONLY
            if identify(self.path) is None:
                return State.MISSING
        return states.find(self.store, name, str(error))

    def lineage(self, cursor: Cursor, origin: str) -> Hashable:
        """The file that the connection has opened."""
        return cursor.connection.file

    def state_of_place(self, connection: Any) -> State | None:
        """Whether the file was deleted, or replaced by another one."""
        return state_of_place(self.path, connection)

    def is_lost(self, connection: Any, error: BaseException) -> bool:
        """True whenever the file is unavailable: opening it again is cheap, and may help."""
        return self.state_of(error) is not None

    def interrupt(self, connection: Any) -> None:
        """Makes the running statement fail with SQLITE_INTERRUPT."""
        with contextlib.suppress(sqlite3.Error):
            connection.interrupt()


class ForeignSQLite(SQLite):
    """A SQLite file of another program: never created, never written to, its journal unchanged."""

    def make_folder(self) -> None:
        """Does nothing: the file is not ours."""

    def opened(self, connection: OpenFile) -> None:
        """Refuses every statement that writes."""
        connection.file = identify(self.path)
        connection.execute("PRAGMA query_only = ON")


class PostgreSQL(Engine):
    """A PostgreSQL server, through libpq."""

    dialect = "postgresql"
    store = Store.POSTGRESQL
    module = "psycopg2"
    errors = psycopg2.Error
    begin = "BEGIN"
    snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    octets = "OCTET_LENGTH(body)"
    # the start of the server, the database and the table's file; true behind a pooler, too
    origin = (
        "CONCAT_WS(' ', EXTRACT(EPOCH FROM pg_postmaster_start_time()),"
        " pg_relation_filepath(chat_rooms.tableoid))"
    )

    def __init__(self, place: databases.Server, bounds: Bounds) -> None:
        settings: dict[str, str | int] = {"statement_timeout": round(bounds.statement * 1000)}
        if bounds.lock:
            settings["lock_timeout"] = round(bounds.lock * 1000)
        if place.schema:
            settings["search_path"] = place.schema
        milliseconds = str(round(max(bounds.connect, bounds.statement) * 1000))
        self.keywords = {
            "application_name": "relayd",
            # whole seconds; libpq before 17 takes 1 for 2
            "connect_timeout": str(max(1, round(bounds.connect))),
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": "10",
            "keepalives_interval": "3",
            "keepalives_count": "3",
            **place.keywords,
            "client_encoding": "utf8",
            "cursor_factory": cursor_with(settings),
        }
        self._password = place.keywords.get("password", "")
        self.label = place.label

    def open(self) -> Any:
        """Connects, in autocommit mode: a read is one round trip."""
        connection = psycopg2.connect(**self.keywords)
        self.opened(connection)
        return connection

    def opened(self, connection: Any) -> None:
        """Turns off psycopg2's implicit BEGIN."""
        connection.autocommit = True

    def sql(self, text: str) -> str:
        """Returns the statement unchanged, for psycopg2."""
        return text

    def state_of(self, error: BaseException) -> State | None:
        """Judges by the SQLSTATE; the errors of a login have none, only words."""
        if not isinstance(error, psycopg2.Error):
            return None
        found = states.find(self.store, getattr(error, "pgcode", None), str(error))
        if found is None and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
            return State.AWAY
        return found

    def is_lost(self, connection: Any, error: BaseException) -> bool:
        """A server that still talks sends an SQLSTATE; a standby is left for the primary."""
        return (
            connection.closed != 0
            or isinstance(error, psycopg2.InternalError)
            or (self.state_of(error) is not None and getattr(error, "pgcode", None) is None)
        )

    def interrupt(self, connection: Any) -> None:
        """Shuts the socket down under libpq, whose poll() then returns: the server is not asked.

        The caller makes sure that the connection is not closed at the same time: its file
        descriptor could be another socket's by then.
        """
        with (
            contextlib.suppress(OSError, psycopg2.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as theirs,
        ):
            theirs.shutdown(socket.SHUT_RDWR)

    def reason(self, error: BaseException) -> str:
        """The first line of the server's or libpq's words."""
        line = super().reason(error)
        return line.replace(self._password, "***") if self._password else line


def engine(url: str, bounds: Bounds | None = None, *, foreign: bool = False) -> Engine:
    """The engine a database URL names.

    Args:
        url: as `databases.parse` reads it.
        bounds: time limits; the default ones if None.
        foreign: whether the database belongs to another program, and is only read.

    Raises:
        ConfigError: the URL cannot be used. The text never holds the URL's password.
    """
    bounds = bounds or Bounds()
    try:
        place = databases.parse(url)
    except ValueError as error:
        raise ConfigError(f"the database URL {error}") from None
    if isinstance(place, databases.Server):
        return PostgreSQL(place, bounds)
    return ForeignSQLite(place.path, bounds) if foreign else SQLite(place.path, bounds)
