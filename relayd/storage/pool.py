"""The one door to the database: named, timed, bounded interactions on an adbapi pool.

Stands on `engines` and `jobs`; `draws` and `history` stand on it. Its guarantees:

- `run` never keeps its caller longer than the deadline, even if the server hangs. When the deadline
  passes, the caller gets DatabaseUnavailable, and a thread that hangs in the connection is freed
  from outside, so that neither the pool nor a shutdown hangs with it.
- A broken connection is discarded. A read is then retried once on a new one; a write only if its
  BEGIN failed, because a later statement may have been executed. A write that fails was not
  committed, unless the error is a CommitUnanswered.
- What the database refuses, or that it does not answer, is noted in its `stores.health.Health`,
  which logs it when it begins and when it ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from relayd.errors import DatabaseUnavailable, NotStorable
from relayd.logs import Logger
from relayd.storage import engines
from relayd.storage.engines import Bounds, Cursor, Engine
from relayd.storage.jobs import Job, Pool
from relayd.storage.place import PLACES
from relayd.stores.health import Health
from relayd.stores.logins import Logins
from relayd.stores.states import State
from relayd.tally import Buckets

T = TypeVar("T")

_MAX_WAITING = 1000  # interactions that wait for a thread; beyond it they fail at once
_READ = 0.1  # seconds after a deadline, to hear of threads that have ended
_GRACE = 2.0  # seconds a freed thread has to end in close()
_NO_CHARACTER = ("22P05", "22021")  # SQLSTATEs: the encoding cannot hold a text
_OF_THE_SITE = "see [django] in the configuration, and the log of the site's database"


@dataclass
class Stats:
    """The statistics of the interactions of one name.

    Attributes:
        count: how many were requested.
        failures: how many of these failed, for any reason.
        seconds: how long they took, the wait for a thread included.
    """

    count: int = 0
    failures: int = 0
    seconds: Buckets = field(default_factory=Buckets)


class Database:
    """A database and the threads that talk to it.

    Args:
        url: as in `engines.engine`.
        reactor: provides IReactorCore, IReactorTime and IReactorThreads.
        pool_size: how many threads, each with a connection of its own.
        connect_timeout: seconds a connection may take.
        statement_timeout: seconds one statement may take.
        deadline: seconds that a call of `run` takes at most.
        foreign: whether the database belongs to another program, and is only read.

    Attributes:
        engine: the parts that depend on the kind of database.
        deadline: as given.
        stats: the statistics of each interaction, by its name.
        threads: how many interactions run at once; others wait.
        given_up: interactions whose thread was freed because the deadline had passed.
        health: the state of the database.

    Raises:
        ConfigError: the URL is wrong.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        *,
        reactor: Any,
        pool_size: int = 4,
        connect_timeout: float = 3.0,
        statement_timeout: float = 3.0,
        deadline: float = 4.0,
        foreign: bool = False,
    ) -> None:
        self._bounds = Bounds(connect_timeout, statement_timeout)
        self.engine = engines.engine(url, self._bounds, foreign=foreign)
        self._logins = Logins(self.engine.label, reactor)
        self.deadline = deadline
        self.stats: dict[str, Stats] = {}
        self._reactor = reactor
        self.threads = pool_size
        self.given_up = 0
        self._jobs: dict[Job, Deferred[Any]] = {}
        self._max_jobs = pool_size + _MAX_WAITING
        self.health = Health(
            self.engine.store,
            self.engine.label,
            reactor,
            self.log,
            probe=self._probe,
            advice=_OF_THE_SITE if foreign else "",
        )
        self._reads: list[Callable[[Cursor], object]] = [] if foreign else [_check_schema]
        self._writes: list[Callable[[Cursor], object]] = []
        self._closed: Deferred[None] | None = None
        self._pool = Pool(
            self.engine,
            self._give_up_all,
            cp_reactor=reactor,
            cp_min=1,
            cp_max=pool_size,
            cp_name="database",
        )

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect

    @property
    def file(self) -> Path | None:
        """The file of an embedded database; None for a server."""
        return self.engine.path if isinstance(self.engine, engines.SQLite) else None

    @property
    def unfinished(self) -> int:
        """Interactions that have a thread or wait for one."""
        return len(self._jobs)

    @property
    def closed(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closed is not None

    def sql(self, text: str) -> str:
        """The statement in this database's dialect; its parameters are written `%s`."""
        return self.engine.sql(text)

    def seconds(self) -> float:
        """The reactor's clock, in seconds."""
        return float(self._reactor.seconds())

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Calls something in the reactor's thread after a while."""
        self._reactor.callLater(seconds, call)

    def log_in_anew(self, url: str) -> None:
        """Uses another user or password for the same database, as soon as the database takes them.

        Every thread then makes a new connection before its next interaction. Until then all goes on
        as before; an attempt that fails is made again.

        Args:
            url: as in the constructor, but for user and password.
        """
        engine = engines.engine(url, self._bounds)

        async def attempt() -> None:
            await self._start(_log_in, (), False, None, fresh=True, engine=engine)

        def adopt() -> None:
            self.engine = engine
            self._pool.log_in_anew(engine)
            self.health.ask_soon()

        if engine.keywords != self.engine.keywords:
            self._pool.also_try(engine)
            self._logins.change(attempt, adopt)
        else:
            self._pool.also_try(None)
            self._logins.stop()

    def needs(self, attempt: Callable[[Cursor], object], *, write: bool = False) -> None:
        """Adds something that relayd needs of the database, for the probes of `health`.

        Args:
            attempt: does it; called with a cursor, outside the reactor's thread. It leaves nothing
                behind, and raises the module's errors.
            write: whether it writes; then it is called inside a transaction.
        """
        (self._writes if write else self._reads).append(attempt)

    async def run(
        self,
        name: str,
        interaction: Callable[..., T],
        *args: Any,
        write: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Runs an interaction in a pool thread.

        Args:
            name: the name in `stats` and in the log.
            interaction: called with a DB-API cursor and `args`, outside the reactor's thread.
            *args: further arguments of the interaction.
            write: True runs the interaction inside one transaction, never twice. False runs each
                statement alone, and retries the interaction after a lost connection.
            timeout: seconds to wait if that is less than the deadline.

        Returns:
            The result of the interaction.

        Raises:
            DatabaseUnavailable: the database is unavailable, too slow or full, the deadline passed,
                or too many interactions are pending. A write was not committed, and will not be.
            NotStorable: the database's encoding lacks a character. Nothing was done.
            CommitUnanswered: one that was may have been committed, or may still be.
            Exception: any other exception of the interaction.
        """
        stats = self.stats.setdefault(name, Stats())
        stats.count += 1
        started = self.seconds()
        try:
            result = await self._start(interaction, args, write, timeout)
        except DatabaseUnavailable as error:
            stats.failures += 1
            if self._closed is None:
                self.health.refused(State(error.state), str(error))
            raise
        except BaseException as error:
            stats.failures += 1
            if getattr(error, "pgcode", None) in _NO_CHARACTER:
                raise NotStorable(self.engine.reason(error)) from error
            raise
        finally:
            stats.seconds.observe(self.seconds() - started)
        return result

    async def check_schema(self) -> None:
        """Makes sure that the database answers and has the tables of the newest migration.

        Raises:
            DatabaseUnavailable: the database does not answer, or lacks a table.
        """
        await self.run("check schema", _check_schema)

    async def close(self) -> None:
        """Ends the threads and their connections, also of a hanging interaction.

        Interactions in flight have until their deadline; new ones are refused from now on.
        """
        if self._closed is None:
            self._closed = Deferred()
            self.health.stop()
            self._logins.stop()
            await self._jobs_end(self.deadline + _GRACE)
            self._end_pool()
            self._closed.callback(None)
        elif not self._closed.called:
            waiter: Deferred[None] = Deferred()
            self._closed.addCallback(waiter.callback)
            await waiter

    def _jobs_end(self, limit: float) -> "Deferred[None]":
        """Fires when no thread works any more, or after `limit` seconds."""
        ended: Deferred[None] = Deferred()

        def end(_: object = None) -> None:
            if timer.active():
                timer.cancel()
            if not ended.called:
                ended.callback(None)

        timer = self._reactor.callLater(limit, end)
        DeferredList(list(self._jobs.values())).addBoth(end)
        return ended

    def _start(
        self,
        interaction: Callable[..., T],
        args: tuple[Any, ...],
        write: bool,
        timeout: float | None,
        *,
        fresh: bool = False,
        engine: Engine | None = None,
    ) -> "Deferred[T]":
        answer: Deferred[T] = Deferred()
        if self._closed is not None or len(self._jobs) >= self._max_jobs:
            reason = "closed" if self._closed is not None else "too many interactions wait"
            answer.errback(DatabaseUnavailable(f"{self.engine.label}: {reason}", State.SLOW))
            return answer
        job = Job(engine or self.engine, interaction, args, write, fresh=fresh)
        limit = self.deadline if timeout is None else max(0.0, min(timeout, self.deadline))
        work: Deferred[Any] = self._pool.runWithConnection(job)
        self._jobs[job] = work

        timer: Any = None

        def overdue() -> None:
            # a process that stood still runs its timers before it hears of its threads
            nonlocal timer
            timer = self._reactor.callLater(_READ, late)

        def late() -> None:
            self.given_up += 1
            answer.errback(job.give_up(f"{self.engine.label}: no answer in {limit:.1f} s"))

        timer = self._reactor.callLater(limit, overdue)

        def done(result: Any) -> None:
            del self._jobs[job]
            if job.moved is not None and self._closed is None:
                self.health.refused(job.moved, PLACES[job.moved])
            if timer.active():
                timer.cancel()
                answer.callback(result)  # a Failure goes down the error branch

        work.addBoth(done)
        return answer

    def _give_up_all(self) -> None:
        for job in self._jobs:
            job.give_up("it is closed")

    def _end_pool(self) -> None:
        if self._jobs:
            self.log.warn("{label}: a thread could not be freed", label=self.engine.label)
            if self._pool.shutdownID is not None:  # it would join that thread
                self._reactor.removeSystemEventTrigger(self._pool.shutdownID)
                self._pool.shutdownID = None
        else:
            self._pool.close()

    async def _probe(self) -> bool:
        """Does on a new connection what relayd needs of the database."""
        if self._closed is not None:
            return False
        write = bool(self._writes)
        try:
            await self._start(self._attempt, (), write, None, fresh=True)
        except DatabaseUnavailable as error:
            if self._closed is None:
                self.health.refused(State(error.state), str(error))
            return False
        return True

    def _attempt(self, cursor: Cursor) -> None:
        for attempt in (*self._reads, *self._writes):
            attempt(cursor)


def _log_in(cursor: Cursor) -> None:
    cursor.execute("SELECT 1")


def _check_schema(cursor: Cursor) -> None:
    cursor.execute("SELECT hole_id FROM quiz_slots, chat_rooms, chat_tags, chat_floors LIMIT 1")
    cursor.fetchone()
