"""The chat history, on SQLite and on PostgreSQL."""

import json
from collections.abc import Sequence
from datetime import datetime

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from relayd.errors import StoreUnavailable
from relayd.storage import engines
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.wire import ChatEntry, ChatPage

START = 1_700_000_000.123
FIRST = 1_700_000_000_123


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def texts(entries: Sequence[ChatEntry]) -> list[str]:
    return [json.loads(entry.body)["message"] for entry in entries]


async def fill(history: History, room: str, count: int, start: int = 0) -> list[ChatEntry]:
    return await gatherResults([history.append(room, f"m{n}") for n in range(start, start + count)])


@pytest_twisted.ensureDeferred
async def test_a_message_is_stored_as_clients_see_it(database: Database) -> None:
    history = History(database, clock=Clock())
    odd = "a\0b\\\"<b>é😀\u2028 %s ? ' \r\n"
    entry = await history.append("Zürich", odd, "Ann")
    assert json.loads(entry.body) == {
        "message": odd, "id": FIRST, "time": "2023-11-14T22:13:20.123Z", "user": "Ann",
    }  # fmt: skip
    plain = await history.append("Zürich", "")
    assert json.loads(plain.body).keys() == {"message", "id", "time"}
    assert (await history.last("Zürich", 50)).entries == [entry, plain]
    assert await history.since("Zürich", 0) == ChatPage([entry, plain])


@pytest_twisted.ensureDeferred
async def test_ids_are_consecutive_in_each_room_and_answers_come_in_order(
    database: Database,
) -> None:
    history = History(database)
    fired: list[int] = []
    deferreds = [history.append("ab"[n % 2], f"m{n}") for n in range(2000)]

    def note(entry: ChatEntry, number: int) -> ChatEntry:
        fired.append(number)
        return entry

    for number, deferred in enumerate(deferreds):
        deferred.addCallback(note, number)
    entries = await gatherResults(deferreds)
    assert fired == list(range(2000))
    for room in range(2):
        ids = [entry.id for entry in entries[room::2]]
        assert ids == list(range(ids[0], ids[0] + 1000))
        assert (await history.last("ab"[room], 5000)).entries == entries[room::2]
    assert database.stats["history.append"].count < 10  # group commit


@pytest_twisted.ensureDeferred
async def test_last_returns_the_newest_messages_oldest_first(database: Database) -> None:
    history = History(database)
    entries = await fill(history, "a", 10)
    await fill(history, "b", 3)
    assert (await history.last("a", 3)).entries == entries[-3:]
    assert (await history.last("a", 0)).entries == []
    assert (await history.last("a", 10**9)).entries == entries
    assert (await history.last("nobody", 3)).entries == []


@pytest_twisted.ensureDeferred
async def test_since_returns_the_messages_after_an_id(database: Database) -> None:
    history = History(database)
    entries = await fill(history, "a", 5)
    first, last = entries[0].id, entries[-1].id
    assert await history.since("a", 0) == ChatPage(entries)
    assert await history.since("a", first - 1) == ChatPage(entries)
    assert await history.since("a", first) == ChatPage(entries[1:])
    assert await history.since("a", last) == ChatPage([])


@pytest_twisted.ensureDeferred
async def test_since_an_id_of_a_lost_database_is_a_gap(database: Database) -> None:
    """After the database was lost, a room starts at the present time: above all its old ids."""
    history = History(database)
    entries = await fill(history, "a", 5)
    for id in (1, entries[0].id - 2):
        assert await history.since("a", id) == ChatPage(entries, gap=True)
    for id in (entries[-1].id + 1, 2**63 - 1, 2**70):
        assert await history.since("a", id) == ChatPage(entries, gap=True, from_start=True)
    assert await history.since("new", 7) == ChatPage([], gap=True, from_start=True)
    assert await history.since("new", 0) == ChatPage([])


@pytest_twisted.ensureDeferred
async def test_a_room_keeps_only_its_newest_messages(database: Database) -> None:
    history = History(database, keep=150)
    entries: list[ChatEntry] = []
    for n in range(0, 400, 40):
        entries += await fill(history, "a", 40, n)
    other = await fill(history, "b", 2)
    kept = entries[-150:]
    assert (await history.last("a", 1000)).entries == kept
    assert await history.since("a", 0) == ChatPage(kept, gap=True)
    assert await history.since("a", kept[0].id - 1) == ChatPage(kept)
    assert await history.since("a", kept[0].id - 2) == ChatPage(kept, gap=True)
    assert await history.since("b", 0) == ChatPage(other)

    def rows(cursor: engines.Cursor) -> int:
        cursor.execute("SELECT COUNT(*) FROM chat_messages WHERE room = 'a'")
        return int(cursor.fetchone()[0])

    assert 150 <= await database.run("count", rows) < 150 + 100


@pytest_twisted.ensureDeferred
async def test_raising_the_history_length_does_not_hide_the_gap_of_trimmed_messages(
    database: Database,
) -> None:
    await fill(History(database, keep=10), "a", 30)
    history = History(database, keep=1000)
    entries = await fill(history, "a", 5, 30)
    assert texts((await history.last("a", 100)).entries) == [f"m{n}" for n in range(20, 35)]
    kept, gap, *_ = await history.since("a", 0)
    assert gap
    assert kept[-5:] == entries


@pytest_twisted.ensureDeferred
async def test_a_message_lost_in_a_rolled_back_batch_leaves_no_hole(database: Database) -> None:
    """Ids are taken in the transaction: what failed as a whole is as if it had never been."""
    history = History(database)
    (first,) = await fill(history, "a", 1)

    def lock(cursor: engines.Cursor) -> None:
        cursor.execute("ALTER TABLE chat_messages RENAME TO hidden")

    def unlock(cursor: engines.Cursor) -> None:
        cursor.execute("ALTER TABLE hidden RENAME TO chat_messages")

    await database.run("hide", lock, write=True)
    with pytest.raises(StoreUnavailable):
        await history.append("a", "lost")
    await database.run("show", unlock, write=True)
    (second,) = await fill(history, "a", 1)
    assert second.id == first.id + 1


@pytest_twisted.ensureDeferred
async def test_two_processes_on_one_database_give_no_id_twice(
    database: Database, database_url: str
) -> None:
    from twisted.internet import reactor

    other = Database(database_url, reactor=reactor, deadline=30, statement_timeout=30)
    try:
        histories = [History(database), History(other)]
        entries = await gatherResults([histories[n % 2].append("a", f"m{n}") for n in range(400)])
        ids = sorted(entry.id for entry in entries)
        assert len(set(ids)) == 400
        assert (await histories[0].last("a", 400)).entries == sorted(
            entries, key=lambda entry: entry.id
        )
    finally:
        await other.close()


@pytest_twisted.ensureDeferred
async def test_beyond_the_bound_a_message_is_refused_at_once(database: Database) -> None:
    history = History(database)
    text = "x" * (1 << 20)
    outcomes = [history.append("a", text) for _ in range(40)]
    refused = []
    for outcome in outcomes:
        try:
            await outcome
        except StoreUnavailable as error:
            refused.append(error)
    # one is under way; 16 and their room's name fill half of 32 MiB, the other half is for others
    assert len(refused) == 40 - 1 - 16


@pytest_twisted.ensureDeferred
async def test_time_is_utc_in_rfc_3339(database: Database) -> None:
    entry = await History(database).append("a", "now")
    stamp = json.loads(entry.body)["time"]
    assert stamp.endswith("Z")
    assert int(datetime.fromisoformat(stamp).timestamp() * 1000 + 0.5) == entry.id


async def lose(database: Database, after: int) -> None:
    """Puts room `a` back to where it was when it got an id."""

    def put_back(cursor: engines.Cursor) -> None:
        cursor.execute(f"DELETE FROM chat_messages WHERE room = 'a' AND id > {after}")
        cursor.execute(
            f"UPDATE chat_rooms SET messages = messages - (last_id - {after}), last_id = {after} "
            "WHERE name = 'a'"
        )

    await database.run("lose", put_back, write=True)


@pytest_twisted.ensureDeferred
async def test_after_a_start_ids_go_on_at_the_present_and_only_lost_ones_are_a_gap(
    database: Database,
) -> None:
    clock = Clock()
    entries = await fill(History(database, clock=clock), "a", 6)
    await lose(database, entries[3].id)
    clock.now += 60
    history = History(database, clock=clock)
    before = await history.since("a", entries[5].id)
    assert before == ChatPage(entries[:4], gap=True, from_start=True)
    later = await fill(history, "a", 2)
    assert [entry.id for entry in later] == [FIRST + 60_000, FIRST + 60_001]
    kept = entries[:4] + later
    assert await history.since("a", entries[3].id) == ChatPage(later)
    assert await history.since("a", later[0].id) == ChatPage(later[1:])
    assert await history.since("a", 0) == ChatPage(kept)
    for lost in (entries[4].id, entries[5].id, later[0].id - 1):
        assert await history.since("a", lost) == ChatPage(later, gap=True)
    above = await history.since("a", later[1].id + 1)
    assert above == ChatPage(kept, gap=True, from_start=True)
    assert (await history.last("a", 3)).entries == kept[-3:]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("ahead", "believed"), [(5, True), (80_000_000, True), (90_000_000, False)]
)
async def test_ids_jump_over_one_that_a_client_has_seen_and_the_history_has_not(
    database: Database, ahead: int, believed: bool
) -> None:
    """The clock may have gone back, too."""
    history = History(database, clock=Clock())
    entries = await fill(history, "a", 3)
    seen = FIRST + ahead
    assert await history.since("a", seen) == ChatPage(entries, gap=True, from_start=True)
    later = await fill(history, "a", 2)
    first = seen + 1 if believed else entries[-1].id + 1
    assert [entry.id for entry in later] == [first, first + 1]
    assert await history.since("a", entries[-1].id) == ChatPage(later)


@pytest_twisted.ensureDeferred
async def test_messages_are_counted_where_ids_jump(database: Database) -> None:
    clock = Clock()
    entries: list[ChatEntry] = []
    for n in range(0, 400, 40):
        clock.now += 60
        history = History(database, clock=clock, keep=150)
        entries += await fill(history, "a", 40, n)
        kept = entries[-150:]
        assert (await history.last("a", 1000)).entries == kept
        assert [(room.name, room.messages) for room in await history.largest(1)] == [
            ("a", len(kept))
        ]
    assert await history.since("a", 0) == ChatPage(kept, gap=True)
    assert await history.since("a", entries[-151].id) == ChatPage(kept)
    assert await history.since("a", entries[-152].id) == ChatPage(kept, gap=True)
    clock.now += 60
    few = History(database, clock=clock, keep=3)
    last = await fill(few, "a", 40, 400)
    assert (await few.last("a", 1000)).entries == last[-3:]
    assert await few.since("a", last[-4].id) == ChatPage(last[-3:])


@pytest_twisted.ensureDeferred
async def test_the_time_of_the_newest_message_is_that_of_each_room_which_keeps_any(
    database: Database,
) -> None:
    clock = Clock()
    history = History(database, clock=clock)
    assert await history.posted([]) == {}
    for room, seconds in (("a", 0), ("部屋", 1), ("a", 2), ("gone", 3)):
        clock.now = START + seconds
        await history.append(room, "hi")
    await history.delete("gone")
    many = [f"r{number}" for number in range(1200)]
    found = await history.posted(["a", *many, "gone", "部屋", "A"])
    assert found == {"a": FIRST + 2000, "部屋": FIRST + 1000}
