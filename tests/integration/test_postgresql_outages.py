"""A real PostgreSQL that goes away and comes back under the pool: nobody hangs or restarts."""

import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from relayd.errors import DatabaseUnavailable, StoreUnavailable
from relayd.storage import samples, schema
from relayd.storage.draws import Draws
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.stores.states import State
from tests.servers import PostgreSQL

PROMISE = 5.0  # seconds within which every request is answered
SLACK = 3.0  # more, for a busy machine


@pytest_twisted.async_yield_fixture
async def database(own_postgresql: PostgreSQL) -> AsyncIterator[Database]:
    """The pool with its default bounds, on a server that the test may stop."""
    from twisted.internet import reactor

    schema.migrate(own_postgresql.url())
    samples.add_samples(own_postgresql.url())
    pool = Database(own_postgresql.url(), reactor=reactor)
    yield pool
    await pool.close()


async def errors_within_promise(requests: "list[Deferred[Any]]") -> set[type]:
    """The types of the failures; every request must fail, and in time."""
    started = time.monotonic()
    outcomes = await DeferredList(requests, consumeErrors=True)
    assert time.monotonic() - started < PROMISE + SLACK
    assert not any(success for success, _ in outcomes)
    return {failure.type for _, failure in outcomes}


def requests_of_all_kinds(database: Database, draws: Draws, history: History) -> list[Any]:
    coroutines: list[Awaitable[Any]] = [
        database.check_schema(), history.last("a", 5), history.since("a", 0),
    ]  # fmt: skip
    return [
        *(draws.draw(n % 3 + 1) for n in range(20)),
        *(history.append("a", f"lost {n}") for n in range(20)),
        *(Deferred.fromCoroutine(one) for one in coroutines),  # type: ignore[arg-type]
    ]


async def works(draws: Draws, history: History) -> None:
    drawn = [draws.draw(n % 3 + 1) for n in range(20)]
    assert None not in [await one for one in drawn]
    entries = await gatherResults([history.append("a", "kept") for _ in range(5)])
    assert (await history.last("a", 5)).entries == entries


@pytest_twisted.ensureDeferred
async def test_requests_fail_while_postgresql_is_stopped_and_work_after_its_start(
    own_postgresql: PostgreSQL, database: Database
) -> None:
    draws, history = Draws(database), History(database)
    await works(draws, history)
    own_postgresql.stop(signal.SIGQUIT)
    expected = {DatabaseUnavailable, StoreUnavailable}
    for _ in range(2):
        requests = requests_of_all_kinds(database, draws, history)
        assert await errors_within_promise(requests) == expected
    own_postgresql.start()
    await works(draws, history)


@pytest_twisted.ensureDeferred
async def test_requests_fail_while_postgresql_hangs_and_work_after_it_resumes(
    own_postgresql: PostgreSQL, database: Database
) -> None:
    draws, history = Draws(database), History(database)
    await works(draws, history)
    under_way: list[Deferred[Any]] = [draws.draw(1), history.append("a", "uncertain")]
    own_postgresql.pause()
    try:
        requests = requests_of_all_kinds(database, draws, history)
        expected = {DatabaseUnavailable, StoreUnavailable}
        assert await errors_within_promise(requests) == expected
        # on new connections, which the kernel still accepts
        requests = requests_of_all_kinds(database, draws, history)
        assert await errors_within_promise(requests) == expected
    finally:
        own_postgresql.resume()
    await DeferredList(under_way, consumeErrors=True)
    await works(draws, history)
    entries, gap, *_ = await history.since("a", 0)
    ids = [entry.id for entry in entries]
    assert not gap
    assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest_twisted.ensureDeferred
async def test_a_restart_in_a_quiet_hour_is_not_noticed(
    own_postgresql: PostgreSQL, database: Database
) -> None:
    """Every thread's connection is dead then: reads, and writes that had not begun, are redone."""
    draws, history = Draws(database), History(database)

    def nap(cursor: Any) -> None:
        cursor.execute("SELECT pg_sleep(0.2)")

    async def all_threads() -> None:
        naps = [Deferred.fromCoroutine(database.run("nap", nap)) for _ in range(4)]
        await gatherResults(naps)

    await all_threads()
    own_postgresql.stop(signal.SIGINT)
    own_postgresql.start()
    await works(draws, history)
    for _ in range(8):
        await database.run("write", nap, write=True)
    await all_threads()
    assert all(stats.failures == 0 for stats in database.stats.values())


@pytest_twisted.ensureDeferred
async def test_closing_ends_while_a_query_hangs(own_postgresql: PostgreSQL) -> None:
    from twisted.internet import reactor

    def look(cursor: Any) -> None:
        cursor.execute("SELECT 1")

    before = set(threading.enumerate())
    database = Database(own_postgresql.url(), reactor=reactor, deadline=1.0)
    await database.run("look", look)
    own_postgresql.pause()
    try:
        hanging = Deferred.fromCoroutine(database.run("look", look))
        started = time.monotonic()
        await database.close()
        assert time.monotonic() - started < 1.0 + SLACK
        with pytest.raises(DatabaseUnavailable):
            await hanging
        with pytest.raises(DatabaseUnavailable):
            await database.run("look", look)
        left = [thread for thread in set(threading.enumerate()) - before if "Pool" in thread.name]
        assert left == []
    finally:
        own_postgresql.resume()


@pytest_twisted.ensureDeferred
async def test_the_statement_timeout_ends_a_slow_statement_and_keeps_the_connection(
    own_postgresql: PostgreSQL,
) -> None:
    from twisted.internet import reactor

    def pid(cursor: Any) -> int:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])

    def slow(cursor: Any) -> None:
        cursor.execute("SELECT pg_sleep(60)")

    database = Database(own_postgresql.url(), reactor=reactor, pool_size=1, statement_timeout=1.5)
    try:
        before = await database.run("pid", pid)
        for write in (False, True):
            with pytest.raises(DatabaseUnavailable, match="statement timeout"):
                await database.run("slow", slow, write=write)
        assert await database.run("pid", pid) == before
    finally:
        await database.close()


@pytest_twisted.ensureDeferred
async def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    own_postgresql: PostgreSQL, database: Database
) -> None:
    lines: list[str] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        if event.get("log_namespace") == "relayd.storage.pool.Database":
            lines.append(event["log_level"].name)
        elif event.get("log_failure") is not None:
            lines.append("failure")

    globalLogPublisher.addObserver(observe)
    try:
        await database.check_schema()
        own_postgresql.stop(signal.SIGQUIT)
        for _ in range(5):
            with pytest.raises(DatabaseUnavailable):
                await database.check_schema()
        own_postgresql.start()
        back: Deferred[None] = Deferred()
        database.health.watch(lambda: back.callback(None))
        await back
    finally:
        globalLogPublisher.removeObserver(observe)
    assert lines == ["warn", "info"]
    assert database.health.state is State.OK


@pytest_twisted.ensureDeferred
async def test_an_error_of_the_program_comes_through_and_rolls_back(database: Database) -> None:
    def wrong(cursor: Any) -> None:
        cursor.execute("DELETE FROM quizzes")
        raise ZeroDivisionError

    def count(cursor: Any) -> int:
        cursor.execute("SELECT COUNT(*) FROM quizzes")
        return int(cursor.fetchone()[0])

    before = await database.run("count", count)
    with pytest.raises(ZeroDivisionError):
        await database.run("wrong", wrong, write=True)
    with pytest.raises(database.engine.errors, match="division by zero"):
        await database.run("wrong", lambda cursor: cursor.execute("SELECT 1 / 0"))
    assert await database.run("count", count) == before > 0
