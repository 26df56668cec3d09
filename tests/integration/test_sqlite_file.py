"""The SQLite file under kill -9, and while somebody else holds it."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted

from relayd.errors import DatabaseUnavailable, StoreUnavailable
from relayd.storage import schema
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.stores.states import State

WRITER = """
import sys
from twisted.internet import reactor
from relayd.storage.history import History
from relayd.storage.pool import Database

history = History(Database(sys.argv[1], reactor=reactor))

def kept(entry, number):
    print(entry.id, entry.body.decode(), flush=True)
    write(number + 3)

def write(number):
    history.append("a", f"message {number}").addCallback(kept, number)

reactor.callWhenRunning(lambda: [write(n) for n in range(3)])
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_an_acknowledged_message_survives_kill_9(sqlite_url: str) -> None:
    from twisted.internet import reactor

    acknowledged: list[tuple[int, str]] = []
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, sqlite_url], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(200):
            id, _, body = writer.stdout.readline().partition(" ")
            acknowledged.append((int(id), body.rstrip("\n")))
        os.kill(writer.pid, signal.SIGKILL)
        for line in writer.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                id, _, body = line.partition(" ")
                acknowledged.append((int(id), body.rstrip("\n")))
        writer.wait()
        writer.stdout.close()
    database = Database(sqlite_url, reactor=reactor)
    try:
        entries, gap, *_ = await History(database).since("a", 0)
        kept = [(entry.id, entry.body.decode()) for entry in entries]
        assert not gap
        assert set(acknowledged) <= set(kept)
        assert len({id for id, _ in kept}) == len(kept)
        assert len({body for _, body in kept}) == len(kept)
    finally:
        await database.close()


@pytest_twisted.ensureDeferred
async def test_a_file_locked_by_another_process_is_unavailable_until_it_is_free(
    sqlite_url: str,
) -> None:
    from twisted.internet import reactor

    database = Database(sqlite_url, reactor=reactor, statement_timeout=0.1)
    history = History(database)
    somebody = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        somebody.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await history.append("a", "lost")
        assert (await history.last("a", 5)).entries == []  # readers do not wait in WAL mode
        somebody.execute("ROLLBACK")
        entry = await history.append("a", "kept")
        assert (await history.last("a", 5)).entries == [entry]
    finally:
        somebody.close()
        await database.close()


@pytest_twisted.ensureDeferred
async def test_a_query_without_end_is_interrupted_at_the_deadline(sqlite_url: str) -> None:
    from twisted.internet import reactor

    def endless(cursor: sqlite3.Cursor) -> None:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
        )

    database = Database(sqlite_url, reactor=reactor, pool_size=1)
    with pytest.raises(DatabaseUnavailable, match="no answer"):
        await database.run("endless", endless, timeout=0.3)
    await database.check_schema()  # the only thread is free again
    await database.close()


@pytest_twisted.ensureDeferred
async def test_the_file_and_its_folder_are_created_by_a_migration_and_by_nothing_else(
    tmp_path: Path,
) -> None:
    from twisted.internet import reactor

    url = f"sqlite:///{tmp_path}/a/b/c.db"
    database = Database(url, reactor=reactor)
    with pytest.raises(DatabaseUnavailable):
        await database.check_schema()
    assert database.health.state is State.MISSING
    assert not (tmp_path / "a").exists()
    schema.migrate(url)
    await database.check_schema()
    await database.close()
