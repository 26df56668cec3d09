"""What the chat rooms keep, on SQLite and on PostgreSQL: trimmed, expired, deleted, counted."""

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from relayd.errors import QuotaExceeded
from relayd.quotas.usage import Creation, Usage
from relayd.storage import engines, schema
from relayd.storage.disk import DiskWatch
from relayd.storage.history import History
from relayd.storage.keeping import weigh
from relayd.storage.pool import Database
from relayd.storage.upkeep import Upkeep
from relayd.wire import ChatEntry, ChatPage


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def fill(history: History, room: str, count: int) -> list[ChatEntry]:
    return await gatherResults([history.append(room, f"m{n}") for n in range(count)])


LARGE = "x" * 50_000
HOUR = 3600.0


async def measured(database: Database) -> dict[str, int]:
    """The bytes of each room, from its messages."""

    def measure(cursor: engines.Cursor) -> dict[str, int]:
        cursor.execute("SELECT room, body FROM chat_messages")
        found: dict[str, int] = {}
        for room, body in cursor.fetchall():
            found[room] = found.get(room, 0) + weigh(room, body.encode())
        return found

    return await database.run("measure", measure)


async def noted(database: Database) -> dict[str, int]:
    """The bytes of each room, from its row."""

    def read(cursor: engines.Cursor) -> dict[str, int]:
        cursor.execute("SELECT name, bytes FROM chat_rooms")
        return dict(cursor.fetchall())

    return await database.run("read", read)


def upkeep_of(database: Database, history: History, clock: Clock, rooms: int = 100) -> Upkeep:
    from twisted.internet import reactor

    disk = DiskWatch(reactor, None, 0)
    return Upkeep(reactor, database, history, disk, age=HOUR, rooms=rooms, clock=clock)


async def finish(upkeep: Upkeep) -> None:
    """Makes steps until nothing is left to do."""
    while await upkeep.step():
        pass


@pytest_twisted.ensureDeferred
async def test_the_noted_sizes_are_those_of_the_messages(database: Database) -> None:
    history = History(database, keep=150, room_bytes=20_000, total_bytes=50_000)
    for n in range(5):
        await gatherResults(
            [history.append(f"Zürich{n}", "é" * (n * 40 + 1)) for _ in range(n * 90)]
        )
    assert await noted(database) == await measured(database)
    before = history.tally.usage
    await history.recount()
    assert history.tally.usage == before


@pytest_twisted.ensureDeferred
async def test_a_room_keeps_no_more_bytes_than_it_may_and_says_so_in_a_gap(
    database: Database,
) -> None:
    history = History(database, room_bytes=1_000_000)
    entries = [await history.append("a", LARGE) for _ in range(60)]
    assert (await measured(database))["a"] <= 1_000_000
    kept, gap, *_ = await history.since("a", 0)
    assert gap
    assert kept == entries[-len(kept) :]
    assert len(kept) >= 16


@pytest_twisted.ensureDeferred
async def test_when_all_rooms_keep_too_much_the_largest_loses_and_small_ones_keep_theirs(
    database: Database,
) -> None:
    history = History(database, total_bytes=1_000_000)
    small = await fill(history, "small", 50)
    for n in range(80):
        await history.append(f"flood{n % 3}", LARGE)
        assert history.tally.usage.bytes <= 1_000_000
    assert (await history.last("small", 100)).entries == small
    assert sum((await measured(database)).values()) == history.tally.usage.bytes <= 1_000_000
    assert history.tally.trimmed > 2_000_000


@pytest_twisted.ensureDeferred
async def test_many_rooms_of_one_large_message_stay_within_all_bytes_too(
    database: Database,
) -> None:
    history = History(database, total_bytes=1_000_000)
    await gatherResults([history.append(f"r{n}", LARGE) for n in range(60)])
    assert sum((await measured(database)).values()) <= 1_000_000 + 300_000  # one transaction more
    await history.append("last", "hi")
    assert sum((await measured(database)).values()) <= 1_000_000


@pytest_twisted.ensureDeferred
async def test_a_message_that_may_not_create_its_room_is_refused_and_leaves_nothing(
    database: Database,
) -> None:
    history = History(database)
    with pytest.raises(QuotaExceeded):
        await history.append("new", "hi", None, Creation(allowed=False))
    assert await noted(database) == {}
    creations = [Creation(), Creation()]
    for creation in creations:
        await history.append("old", "hi", None, creation)
    assert [creation.done for creation in creations] == [True, False]
    await history.append("old", "hi", None, Creation(allowed=False))
    assert history.tally.usage.rooms == 1


@pytest_twisted.ensureDeferred
async def test_reading_a_room_without_history_creates_nothing(database: Database) -> None:
    history = History(database)
    await history.last("a", 50, 100)
    await history.since("a", 7, 100)
    assert await noted(database) == {}


@pytest_twisted.ensureDeferred
async def test_a_room_without_messages_for_its_age_expires_and_its_ids_never_go_back(
    database: Database,
) -> None:
    clock = Clock()
    history = History(database, clock=clock)
    upkeep = upkeep_of(database, history, clock)
    old = await fill(history, "old", 30)
    clock.now += HOUR - 1
    fresh = await fill(history, "fresh", 3)
    await finish(upkeep)
    assert (await history.last("old", 100)).entries == old
    clock.now += 2
    await finish(upkeep)
    assert set(await noted(database)) == {"fresh"}
    assert (await history.last("fresh", 100)).entries == fresh
    page = await history.since("old", old[-1].id)
    assert page == ChatPage([], gap=True, from_start=True)
    assert (await history.append("old", "again")).id > old[-1].id
    assert history.tally.usage.rooms == 2


@pytest_twisted.ensureDeferred
async def test_beyond_the_number_of_rooms_the_longest_idle_expire(database: Database) -> None:
    clock = Clock()
    history = History(database, clock=clock)
    for n in range(6):
        clock.now += 100
        await history.append(f"r{n}", "hi")
    await finish(upkeep_of(database, history, clock, rooms=4))
    clock.now += 100
    await finish(upkeep_of(database, history, clock, rooms=4))
    assert set(await noted(database)) == {"r2", "r3", "r4", "r5"}


@pytest_twisted.ensureDeferred
async def test_a_deleted_room_has_no_messages_and_its_ids_go_on(database: Database) -> None:
    clock = Clock()
    history = History(database, clock=clock)
    entries = await fill(history, "a", 20)
    await fill(history, "b", 2)
    assert await history.delete("a")
    assert not await history.delete("a")
    assert not await history.delete("nobody")
    assert (await history.last("a", 100)).entries == []
    assert await history.since("a", entries[3].id) == ChatPage([], gap=True)
    assert [(room.name, room.messages) for room in await history.largest(10)] == [("b", 2)]
    (later,) = await fill(history, "a", 1)
    assert later.id == entries[-1].id + 1
    assert await history.since("a", entries[-1].id) == ChatPage([later])
    assert await history.since("a", 0) == ChatPage([later], gap=True)


@pytest_twisted.ensureDeferred
async def test_a_size_that_something_else_has_made_wrong_is_mended(database: Database) -> None:
    clock = Clock()
    history = History(database, clock=clock)
    await fill(history, "a", 20)
    await fill(history, "b", 20)

    def spoil(cursor: engines.Cursor) -> None:
        cursor.execute("UPDATE chat_rooms SET bytes = 0 WHERE name = 'a'")
        cursor.execute("DELETE FROM chat_messages WHERE room = 'b'")

    await database.run("spoil", spoil, write=True)
    upkeep = upkeep_of(database, history, clock)
    for _ in range(3):
        await upkeep.step()
    assert (await noted(database))["a"] == (await measured(database))["a"]
    assert (await noted(database)).get("b", 0) == 0


@pytest_twisted.ensureDeferred
async def test_the_file_of_expired_rooms_shrinks(sqlite_url: str) -> None:
    from twisted.internet import reactor

    clock = Clock()
    database = Database(sqlite_url, reactor=reactor)
    try:
        history = History(database, clock=clock)
        await gatherResults([history.append(f"r{n % 7}", LARGE) for n in range(400)])
        path = Path(sqlite_url.removeprefix("sqlite:///"))
        assert path.stat().st_size > 15_000_000
        clock.now += 2 * HOUR
        await finish(upkeep_of(database, history, clock))
        await database.run("checkpoint", lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        assert path.stat().st_size < 6_000_000
        assert history.tally.usage == Usage(0, 0)
    finally:
        await database.close()


@pytest_twisted.ensureDeferred
async def test_a_database_from_before_the_quotas_gets_sizes_and_can_shrink(
    blank_database_url: str,
) -> None:
    from twisted.internet import reactor

    url = blank_database_url
    schema.migrate(url)
    schema.rollback(url, 5)
    with engines.engine(url).connected() as connection:
        cursor = connection.cursor()
        cursor.execute("INSERT INTO chat_rooms VALUES ('Zürich', 1, 1, 2), ('empty', 1, 3, 2)")
        cursor.execute("INSERT INTO chat_messages VALUES ('Zürich', 1, 'é'), ('Zürich', 2, '{}')")
        if url.startswith("sqlite"):
            cursor.execute("PRAGMA auto_vacuum = NONE")
            cursor.execute("VACUUM")
    schema.migrate(url)
    database = Database(url, reactor=reactor)
    try:
        own = weigh("Zürich", b"")
        assert await noted(database) == {"Zürich": 4 + 2 * own, "empty": 0}
        history = History(database)
        await finish(upkeep_of(database, history, Clock()))
        assert history.tally.usage.bytes == 4 + 2 * own
        if url.startswith("sqlite"):
            mode = await database.run(
                "mode", lambda cursor: cursor.execute("PRAGMA auto_vacuum").fetchone()[0]
            )
            assert mode == 2
    finally:
        await database.close()
