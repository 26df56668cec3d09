"""The work of the pool's threads: connections, transactions, the second try, giving up.

Stands on `engines`; `pool` stands on it.
"""

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from twisted.enterprise import adbapi

from relayd.errors import CommitUnanswered, DatabaseUnavailable
from relayd.storage.engines import Engine
from relayd.storage.gate import Gate
from relayd.storage.place import PLACES, OpenFile
from relayd.stores.states import State

_ALONE = 1.0  # seconds that the saving of a lost log waits for the work of other threads


class Connections:
    """The argument of a job from adbapi: its thread's connection, opened at the first use.

    Replaces adbapi.Connection, whose commit and rollback would use a connection that may be dead;
    each job runs its own transaction.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    def commit(self) -> None:
        """Does nothing: every connection is in autocommit mode."""

    def rollback(self) -> None:
        """Does nothing, as `commit`."""

    def has_one(self) -> bool:
        """Whether this thread has a connection from an earlier job."""
        return self._pool.threadID() in self._pool.connections

    def get(self) -> Any:
        """This thread's connection; connects if there is none. Raises the module's errors."""
        return self._pool.connect()

    def get_fresh(self, engine: Engine) -> Any:
        """A connection of the engine that no other job uses. Raises the module's errors."""
        return self._pool.open(engine)

    def beside(self) -> AbstractContextManager[None]:
        """For a block that works beside those of other threads."""
        return self._pool.beside()

    def have_lost_log(self) -> bool:
        """Whether the log of the pool's connections has no name any more."""
        return self._pool.has_lost_log()

    def save_log(self) -> bool:
        """Saves it, and closes all connections; for a thread that is not `beside` others."""
        return self._pool.save_log()

    def throw_away(self) -> None:
        """Closes this thread's connection."""
        self._pool.disconnect(self._pool.connections.get(self._pool.threadID()))


class Pool(adbapi.ConnectionPool):
    """adbapi's pool, on an engine, with threads that cannot keep the process alive.

    Args:
        engine: makes the connections.
        give_up_all: frees every thread that may hang.
        **options: adbapi's own, `cp_…`.
    """

    connectionFactory = Connections  # type: ignore[assignment]

    def __init__(self, engine: Engine, give_up_all: Callable[[], None], **options: Any) -> None:
        super().__init__(engine.module, **options)  # `connect` has the engine connect
        self._give_up_all = give_up_all
        self._login = 0
        self._logins: dict[int, int] = {}  # of the connection of each thread
        self._engine = engine
        self._other: Engine | None = None
        self._gate = Gate()
        # a thread that cannot be freed must not keep the process alive
        self.threadpool.threadFactory = functools.partial(  # type: ignore[assignment]
            threading.Thread, daemon=True
        )

    def also_try(self, engine: Engine | None) -> None:
        """Makes a connection with the engine's login if the database refuses the one in use.

        Between the change of a password in the database and the next attempt with the new one, a
        thread may need a new connection.
        """
        self._other = engine

    def log_in_anew(self, engine: Engine) -> None:
        """Uses the engine from now on: each thread for its next job, on a new connection."""
        self._engine, self._other = engine, None
        self._login += 1

    def connect(self) -> Any:
        """This thread's connection, unless that has an earlier login; else a new one."""
        thread, login = self.threadID(), self._login
        if self._logins.get(thread, login) != login:
            self.disconnect(self.connections.get(thread))
        self._logins[thread] = login
        if thread not in self.connections:
            self.connections[thread] = self.open(self._engine)
        return self.connections[thread]

    def open(self, engine: Engine) -> Any:
        """A new connection, with the other login if the engine's is refused."""
        other = self._other
        try:
            return engine.open()
        except engine.errors as error:
            if other in (None, engine) or engine.state_of(error) is not State.FORBIDDEN:
                raise
            return other.open()

    def beside(self) -> AbstractContextManager[None]:
        """For a block of a thread that works beside others, whose connections share a log."""
        return self._gate.shared() if self._engine.dialect == "sqlite" else nullcontext()

    def has_lost_log(self) -> bool:
        """Whether the connections write into a log that has no name any more; all have the same."""
        for connection in list(self.connections.values()):
            return isinstance(connection, OpenFile) and connection.has_lost_log()
        return False

    def save_log(self) -> bool:
        """Moves the lost log into the file, while no thread works, and closes all connections.

        A connection that is opened next makes a new log. Two logs at a time would be mixed up.

        Returns:
            Whether nothing is lost; else the connections stay.
        """
        with self._gate.alone(_ALONE) as alone:
            if not self.has_lost_log():  # another thread has done it
                return True
            if not alone or not next(iter(self.connections.values())).save_log():
                return False
            for connection in self.connections.values():
                connection.close()
            self.connections.clear()
            return True

    def finalClose(self) -> None:
        """At the reactor's end: joins the threads, so frees them first."""
        self._give_up_all()
        super().finalClose()


class Job:
    """One interaction in a pool thread.

    `_lock` orders the reactor, which may give the job up, and the thread, which may close the
    connection: only a connection that is surely still this job's own is interrupted. A `fresh` job
    makes a connection of its own, which ends with it: that shows what a new one is refused.
    """

    def __init__(
        self,
        engine: Engine,
        interaction: Callable[..., Any],
        args: tuple[Any, ...],
        write: bool,
        *,
        fresh: bool = False,
    ) -> None:
        self._engine = engine
        self._interaction = interaction
        self._args = args
        self._write = write
        self._fresh = fresh
        self._lock = threading.Lock()
        self._connection: Any = None
        self._given_up = False
        self._began = False
        self._committing = False
        self._result: Any = None
        self.moved: State | None = None
        """What happened to the files of the database, if all is well again."""

    def give_up(self, reason: str) -> DatabaseUnavailable:
        """Abandons the job and frees its thread; called in the reactor, never blocks.

        Returns:
            The error for the caller of the job. A write that has not come to its COMMIT never will.
        """
        with self._lock:
            self._given_up = True
            if self._connection is not None:
                self._engine.interrupt(self._connection)
            return self._error(reason, unanswered=self._committing)

    def _error(
        self, reason: str, state: State = State.AWAY, *, unanswered: bool
    ) -> DatabaseUnavailable:
        if unanswered:
            return CommitUnanswered(reason, self._result)
        return DatabaseUnavailable(reason, state)

    def __call__(self, connections: Connections) -> Any:
        """Runs the job in a pool thread; returns the interaction's result.

        Raises:
            DatabaseUnavailable: the database is unavailable, or the job was given up. A write may
                have been committed only if this is a CommitUnanswered.
            Exception: any other exception of the interaction.
        """
        had_one = connections.has_one()
        try:
            return self._attempt(connections)
        except _Lost as lost:
            # a connection that was made for another server, or another setting, is left for a new
            # one; a refused transaction has done nothing
            refused = lost.state in (State.READ_ONLY, State.REPLACED) and not lost.in_commit
            again = not self._write or not self._began or refused
            if not (had_one and again):
                raise self._error(
                    lost.reason, lost.state, unanswered=lost.in_commit
                ) from lost.__cause__
        self._began = False
        try:
            return self._attempt(connections)
        except _Lost as lost:
            raise self._error(
                lost.reason, lost.state, unanswered=lost.in_commit
            ) from lost.__cause__

    def _attempt(self, connections: Connections) -> Any:
        result, done = None, False
        with connections.beside():
            lost = connections.have_lost_log()
            if not lost:
                result, done = self._work(connections), True
                lost = self._write and connections.have_lost_log()
        if lost:
            if connections.save_log():
                self.moved = State.LOG_LOST
            elif done:
                raise _Lost(PLACES[State.LOG_LOST], State.LOG_LOST, in_commit=True)
            else:
                raise DatabaseUnavailable(PLACES[State.LOG_LOST], State.LOG_LOST)
        if done:
            return result
        with connections.beside():
            return self._work(connections)

    def _work(self, connections: Connections) -> Any:
        if self._given_up:
            raise DatabaseUnavailable("given up before a thread was free")
        engine = self._engine
        try:
            connection = connections.get_fresh(engine) if self._fresh else connections.get()
        except engine.errors as error:
            if (away := engine.unavailable(error)) is not None:
                raise away from error
            raise
        close = connection.close if self._fresh else connections.throw_away
        self._check_place(connection, close)
        with self._lock:
            if self._given_up:
                raise DatabaseUnavailable("given up while it connected")
            self._connection = connection
        try:
            result = self._interact(connection)
        except BaseException as error:
            given_up = self._let_go()
            if isinstance(error, engine.errors):
                in_commit = self._committing and _may_have_committed(error)
                state = engine.state_of(error)
                if given_up or in_commit or engine.is_lost(connection, error):
                    close()
                    raise _Lost(engine.reason(error), state, in_commit=in_commit) from error
                if state is not None:
                    raise DatabaseUnavailable(engine.reason(error), state) from error
            raise
        if self._let_go() or self._fresh:
            close()  # the socket may be shut down: the next job must not get it
        elif self._write:
            self._check_place(connection, close)
        return result

    def _check_place(self, connection: Any, close: Callable[[], None]) -> None:
        """Makes sure that the connection still leads to the file that has the name.

        What was committed to another file is not kept.
        """
        state = self._engine.state_of_place(connection)
        if state is None:
            return
        close()
        if state is State.REPLACED:
            self.moved = state
            raise _Lost(PLACES[state], state, in_commit=False)
        raise DatabaseUnavailable(PLACES[state], state)

    def _interact(self, connection: Any) -> Any:
        if self._write:
            with self._engine.transaction(connection) as cursor:
                self._began = True
                self._result = self._interaction(cursor, *self._args)
                self._begin_commit()
            return self._result
        cursor = connection.cursor()
        try:
            return self._interaction(cursor, *self._args)
        finally:
            cursor.close()

    def _begin_commit(self) -> None:
        with self._lock:
            if self._given_up:
                raise DatabaseUnavailable("given up before its COMMIT")
            self._committing = True

    def _let_go(self) -> bool:
        """Returns the connection to the pool; True if the job was given up meanwhile."""
        with self._lock:
            self._connection = None
            return self._given_up


def _may_have_committed(error: Exception) -> bool:
    """Whether a COMMIT that raised the error may have been executed all the same.

    A database that says why it did not is believed, but for a PostgreSQL that shuts down (57P01 to
    57P03), maybe between a COMMIT and its answer, and for a SQLite that could not write or read its
    files: whoever opens them next may find all of the transaction there.
    """
    code = getattr(error, "pgcode", None) or getattr(error, "sqlite_errorname", None) or ""
    return not code or code.startswith(("57P", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB"))


class _Lost(Exception):
    """The connection broke during the interaction; another connection may work."""

    def __init__(self, reason: str, state: State | None, *, in_commit: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.state = state or State.AWAY
        self.in_commit = in_commit
