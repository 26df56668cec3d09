"""A Redis that went back in time: no id is given twice, and everybody learns what is lost.

Two processes' brokers share a real Redis, which is killed, restored from older files, emptied or
replaced by a replica that lacks the last messages.
"""

import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from relayd import wire
from relayd.brokers.over_redis.brokers import RedisBrokers
from relayd.config import Chat, Config, Limits
from relayd.config import Redis as RedisConfig
from relayd.drops import Drops
from relayd.errors import OutcomeUnknown, StoreUnavailable
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.quotas.usage import TAGGED
from relayd.redis import urls
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS
from relayd.wire import ChatEntry
from tests.broker_scene import Listener
from tests.integration.waiting import eventually
from tests.redis_scene import Watch, until
from tests.redis_servers import Redis as RedisServer

DAY = 86_400


class Process:
    """The brokers of one process, and members of its rooms."""

    def __init__(self, number: int, url: str, clock: float = 0.0) -> None:
        from twisted.internet import reactor

        config = Config(
            redis=RedisConfig(url=url), limits=Limits(coalesce=0), chat=Chat(room_age=DAY)
        )
        self.redis = Redis(urls.parse_all([url]), reactor, Settings(first_delay=0.01))
        self.watch = Watch(self.redis.servers[0])
        self.brokers = RedisBrokers(
            self.redis, Hub(Batching(reactor, 0)), config,
            clock=reactor, now=lambda: time.time() + clock, process=f"process{number}",
            drops=Drops(), kinds=KINDS, new_rooms_per_hour=lambda: 0,
        )  # fmt: skip
        self.rooms = self.brokers.rooms
        self.number = number
        self._joined: list[tuple[str, Listener]] = []
        self.brokers.start()

    async def join(self, room: str = "r") -> "Member":
        member = Member()
        await self.brokers.groups.join(f"chat/{room}", member)
        self._joined.append((f"chat/{room}", member))
        return member

    async def say(self, *texts: str, room: str = "r") -> list[ChatEntry]:
        return [await self.rooms.post(room, text) for text in texts]

    async def since(self, entry: ChatEntry, room: str = "r") -> tuple[bool, list[str]]:
        """Whether there is a gap, and the messages after an entry."""
        page = await self.rooms.since(room, entry.id, 99)
        return page.gap, [json.loads(each.body)["message"] for each in page.entries]

    async def stop(self) -> None:
        for group, member in self._joined:
            self.brokers.groups.leave(group, member)
        self._joined = []
        await self.brokers.stop()


class Member(Listener):
    """A client in a room."""

    async def said(self, *, until: str) -> list[str]:
        """What it gets up to a message: texts, and `gap`, `cut off` and `restored`."""
        told = {wire.GAP: "gap", wire.CUT_OFF: "cut off", wire.RESTORED: "restored"}
        got: list[str] = []
        while until not in got:
            for frame in await self.inbox.take(1):
                assert isinstance(frame, bytes)
                got.append(told.get(frame) or json.loads(frame)["message"])
        return got


class Store:
    """A Redis at an address of each process, whichever server is behind it."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._links: list[Path] = []

    def url(self) -> str:
        """A new address."""
        self._links.append(self._folder / f"redis{len(self._links)}")
        self.lead(self.server, self._links[-1])
        return f"unix://{self._links[-1]}"

    def lead(self, server: RedisServer, *links: Path) -> None:
        """The addresses, or all, lead to a server from now on."""
        self.server = server
        for link in links or self._links:
            link.unlink(missing_ok=True)
            link.symlink_to(server.socket)

    def lead_nowhere(self, number: int) -> Path:
        """A process cannot connect any more."""
        self._links[number].unlink()
        return self._links[number]

    def save(self) -> None:
        assert self.server.tell("SAVE") == b"OK"
        shutil.copy(self.server.folder / "dump.rdb", self.server.folder / "older.rdb")

    def go_back(self) -> None:
        """Kills the server; it returns with what it had at `save`."""
        self.server.kill()
        shutil.copy(self.server.folder / "older.rdb", self.server.folder / "dump.rdb")
        self.server.start()

    def empty(self) -> None:
        """Kills the server; it returns with nothing."""
        self.server.kill()
        (self.server.folder / "dump.rdb").unlink()
        self.server.start()

    def restart(self) -> None:
        """Kills the server; it returns with everything."""
        self.server.tell("SAVE")
        self.server.kill()
        self.server.start()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with RedisServer("repl-diskless-sync-delay 0", "appendonly no") as server:
        yield Store(server, tmp_path)


class Processes:
    """Starts processes, and stops those that run at the end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count = itertools.count()
        self.running: list[Process] = []

    async def start(self, **options: Any) -> Process:
        process = Process(next(self._count), self._store.url(), **options)
        self.running.append(process)
        await process.watch.until(True)
        await process.rooms.since("nobody", 0, 1)  # behind the comparison of epochs
        return process

    async def while_away(self, change: Callable[[], None]) -> None:
        """Does something to Redis that ends all connections, until all have it again."""
        for process in self.running:
            process.watch.changes.clear()
        change()
        await until(
            lambda: all(process.watch.changes[-2:] == [False, True] for process in self.running)
        )

    async def cut_off(self, process: Process) -> Path:
        """A process loses Redis and cannot connect; the others go on, and know of it.

        Returns:
            Its address, which leads nowhere.
        """
        others = [each for each in self.running if each is not process]
        for each in self.running:
            each.watch.changes.clear()
        link = self._store.lead_nowhere(process.number)
        for kind in ("normal", "pubsub"):
            self._store.server.tell("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await until(lambda: process.watch.changes[-1:] == [False])
        await until(lambda: all(each.watch.changes[-2:] == [False, True] for each in others))
        for each in others:
            await each.rooms.since("nobody", 0, 1)
        return link

    async def stop(self, *processes: Process) -> None:
        for process in processes or tuple(self.running):
            self.running.remove(process)
            await process.stop()


@pytest_twisted.async_yield_fixture
async def processes(store: Store) -> AsyncIterator[Processes]:
    processes = Processes(store)
    yield processes
    await processes.stop()


@pytest_twisted.ensureDeferred
async def test_after_an_older_snapshot_ids_are_new_and_all_members_are_told(
    store: Store, processes: Processes
) -> None:
    here, there = await processes.start(), await processes.start()
    members = [await here.join(), await there.join()]
    kept = await here.say("1", "2", "3")
    store.save()
    lost = await there.say("4", "5", "6")
    for member in members:
        assert await member.said(until="6") == ["1", "2", "3", "4", "5", "6"]
    await processes.while_away(store.go_back)
    new = await here.say("a", "b", "c", "d", "e")
    assert min(entry.id for entry in new) > lost[-1].id
    for member in members:
        got = await member.said(until="e")
        assert got.count("gap") == 1
        assert [text for text in got if len(text) == 1] == ["a", "b", "c", "d", "e"]
    for process in (here, there):
        for entry in (kept[0], kept[2], *lost):  # the last that was kept, too
            gap, texts = await process.since(entry)
            assert gap
            assert texts[-5:] == ["a", "b", "c", "d", "e"]
        assert await process.since(new[1]) == (False, ["c", "d", "e"])
    page = await there.rooms.last("r", 7, 7)
    texts = [json.loads(entry.body)["message"] for entry in page.entries]
    assert texts == ["2", "3", "a", "b", "c", "d", "e"]


@pytest.mark.parametrize("returns", ["with nothing", "with what it had", "never"])
@pytest_twisted.ensureDeferred
async def test_a_sender_whose_message_was_confirmed_and_lost_unseen_is_told(
    store: Store, processes: Processes, monkeypatch: pytest.MonkeyPatch, returns: str
) -> None:
    process = await processes.start()
    await process.join()
    await process.say("1")
    store.save()
    monkeypatch.setattr(process.rooms, "_release", lambda room, state: None)  # it has not come yet
    saying = ensureDeferred(process.say("2"))
    await until(lambda: process.rooms._rooms["r"].waiting != [])
    monkeypatch.undo()
    if returns == "never":
        store.server.kill()
    elif returns == "with nothing":
        store.empty()
    else:
        store.go_back()
    with pytest.raises(OutcomeUnknown):
        await saying


@pytest_twisted.ensureDeferred
async def test_nobody_who_knew_the_lost_messages_is_needed(
    store: Store, processes: Processes
) -> None:
    old = await processes.start()
    kept = await old.say("1", "2", "3")
    store.save()
    lost = await old.say("4", "5", "6")
    await processes.stop()
    store.go_back()
    new = await processes.start()
    assert (await new.since(lost[-1]))[0]
    assert (await new.since(kept[-1])) == (True, [])
    said = await new.say("a", "b", "c", "d", "e")
    for entry in (*kept, *lost):
        assert (await new.since(entry))[0]
    assert said[0].id > lost[-1].id
    assert await new.since(said[0]) == (False, ["b", "c", "d", "e"])


@pytest_twisted.ensureDeferred
async def test_ids_stay_near_the_clock_so_that_an_emptied_redis_begins_above_them_after_many_losses(
    store: Store, processes: Processes
) -> None:
    """Each time with a process that knows what was lost; the last one leaves before Redis does."""
    old = await processes.start()
    for _ in range(8):
        await old.say("kept")
        store.save()
        await old.say("lost", "lost")
        await processes.while_away(store.go_back)
        seen = (await old.say("new"))[-1]
    await processes.stop()
    store.server.tell("FLUSHALL")
    new = await processes.start()
    assert (await new.say("after"))[0].id > seen.id


@pytest.mark.parametrize("away", [True, False])
@pytest_twisted.ensureDeferred
async def test_ids_go_on_above_those_of_an_emptied_redis_of_which_nobody_knows_any_more(
    store: Store, processes: Processes, away: bool
) -> None:
    """Neither a new process nor one that was away meanwhile; then an older file comes back."""
    here, gone = await processes.start(), await processes.start()
    await gone.say("1")
    # as after a minute with few messages
    store.server.tell("HINCRBY", "relayd:rooms:epoch", "at", "60000")
    store.save()
    link = await processes.cut_off(here)
    gone.watch.changes.clear()
    store.empty()
    await until(lambda: gone.watch.changes[-2:] == [False, True])
    lost = (await gone.say("2", "3", "4"))[-1]
    await processes.stop(gone, *(() if away else (here,)))
    store.go_back()
    if away:
        store.lead(store.server, link)
        await here.watch.until(True)
    else:
        here = await processes.start()
    assert await here.since(lost) == (True, [])
    assert (await here.say("2"))[0].id > lost.id


@pytest_twisted.ensureDeferred
async def test_ids_go_on_above_those_that_a_process_which_has_gone_gave_in_a_lost_epoch(
    store: Store, processes: Processes
) -> None:
    """The other one has seen that epoch, but none of its messages."""
    gone, here = await processes.start(), await processes.start()
    await gone.say("1")
    store.save()
    await processes.while_away(store.empty)
    for process in (here, gone):
        await process.rooms.since("nobody", 0, 1)
    lost = (await gone.say(*map(str, range(50))))[-1]
    await processes.stop(gone)
    await processes.while_away(store.go_back)
    assert await here.since(lost) == (True, [])
    assert (await here.say("2"))[0].id > lost.id


@pytest.mark.parametrize("room", ["r", "another"])
@pytest_twisted.ensureDeferred
async def test_ids_go_on_above_one_that_only_a_client_has_seen(
    processes: Processes, room: str
) -> None:
    """Whether the room has messages, or none is there yet."""
    here, there = await processes.start(), await processes.start()
    member = await there.join()
    kept = (await here.say("1", "2"))[-1]
    ahead = ChatEntry(kept.id + 5_000_000, b"")
    for _ in range(2):  # a second client that comes with it learns of its gap, too
        assert (await here.since(ahead, room))[0]
    new = await there.say("a", "b", room=room)
    assert new[0].id > ahead.id
    assert await here.since(new[0], room) == (False, ["b"])
    if room == "r":
        assert await here.since(kept) == (False, ["a", "b"])
        assert await member.said(until="b") == ["1", "2", "a", "b"]
        page = await here.rooms.last("r", 3, 9)
        assert [json.loads(entry.body)["message"] for entry in page.entries] == ["2", "a", "b"]


@pytest_twisted.ensureDeferred
async def test_a_client_cannot_move_the_ids_further_than_a_day_ahead(processes: Processes) -> None:
    here = await processes.start()
    before = (await here.say("1"))[0]
    far = ChatEntry(int(time.time() * 1000) + 2 * DAY * 1000, b"")
    assert await here.since(far) == (True, ["1"])
    assert (await here.say("2"))[0].id == before.id + 1


@pytest.mark.parametrize("spoke_before", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_process_without_members_may_speak_before_the_one_that_knows_the_lost_ids(
    store: Store, processes: Processes, spoke_before: bool
) -> None:
    """Whether it vouches for the snapshot, since it knows nothing that is missing, or does not."""
    knows = await processes.start()
    member = await knows.join()
    kept = await knows.say("1", "2", "3")
    store.save()
    lost = await knows.say("4", "5", "6")
    others = [await processes.start()] if spoke_before else []
    away = store.lead_nowhere(0)
    store.go_back()
    first = others[0] if others else await processes.start()
    await until(lambda: not knows.redis.servers[0].available)
    await first.watch.until(True)
    new = await first.say("a")
    store.lead(store.server, away)
    got = await member.said(until="a")
    assert got.count("gap") == 1
    assert new[0].id > lost[-1].id
    for entry in (*kept, *lost):
        assert (await first.since(entry))[0]


@pytest_twisted.ensureDeferred
async def test_members_who_were_shown_what_follows_a_loss_are_told_when_it_is_proven(
    store: Store, processes: Processes
) -> None:
    """Their process was cut off then, and may not ask how many others there are to wait for."""
    store.server.lines.append("user default on nopass ~* &* +@all -pubsub")
    store.restart()
    knows, believes = await processes.start(), await processes.start()
    members = [await knows.join(), await believes.join()]
    await knows.say("1")
    store.save()
    theirs = store.lead_nowhere(1)
    for kind in ("normal", "pubsub"):
        store.server.tell("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    await until(lambda: not believes.redis.servers[0].available)
    await knows.watch.until(True)
    await knows.say("lost")
    ours = store.lead_nowhere(0)
    store.go_back()
    store.lead(store.server, theirs)
    await believes.watch.until(True)
    await believes.say("a")
    assert await members[1].said(until="a") == ["1", "cut off", "restored", "a"]
    store.lead(store.server, ours)
    assert (await members[0].said(until="a")).count("gap") == 1
    assert await members[1].said(until="gap") == ["gap"]
    await knows.say("b")
    assert await members[1].said(until="b") == ["b"]


async def lose_what_only_one_knows(store: Store, processes: Processes) -> tuple[Path, Path]:
    """Messages of the first process are lost; the second was away, and nobody is back yet.

    Returns:
        The addresses of both.
    """
    knows, believes = processes.running
    await knows.say("1")
    store.save()
    theirs = await processes.cut_off(believes)
    await knows.say("lost")
    ours = store.lead_nowhere(0)
    store.go_back()
    return ours, theirs


@pytest_twisted.ensureDeferred
async def test_a_process_that_was_away_waits_for_the_one_that_knows_what_is_lost(
    store: Store, processes: Processes
) -> None:
    knows, believes = [await processes.start() for _ in range(2)]
    members = [await knows.join(), await believes.join()]
    ours, theirs = await lose_what_only_one_knows(store, processes)
    store.lead(store.server, theirs)
    await believes.watch.until(True)
    saying = ensureDeferred(believes.say("a"))
    await until(lambda: store.server.tell("HGET", "relayd:rooms:epoch", "verdict") == b"3")
    assert not saying.called
    store.lead(store.server, ours)
    await saying
    for member in members:
        got = await member.said(until="a")
        assert got.count("gap") == 1
        assert got[-1] == "a"


@pytest_twisted.ensureDeferred
async def test_a_process_that_waits_for_one_that_never_comes_tells_of_a_gap_after_seconds(
    store: Store, processes: Processes
) -> None:
    for _ in range(2):
        await processes.start()
    member = await processes.running[1].join()
    _, theirs = await lose_what_only_one_knows(store, processes)
    store.lead(store.server, theirs)
    believes = processes.running[1]
    await believes.watch.until(True)
    with pytest.raises(StoreUnavailable):  # by its own deadline, which is sooner
        await believes.say("refused")
    assert await member.said(until="restored") == ["1", "cut off", "gap", "restored"]
    await believes.say("a")
    assert await member.said(until="a") == ["a"]


@pytest_twisted.ensureDeferred
async def test_a_process_that_only_posted_knows_that_messages_of_others_rooms_are_lost(
    store: Store, processes: Processes
) -> None:
    """It has no members, the other has them in a quiet room: nobody posts, and they are told."""
    here, there = await processes.start(), await processes.start()
    members = [await here.join("quiet"), await there.join("quiet")]
    await here.say("1", room="quiet")
    store.save()
    await there.say("lost", room="another")
    await processes.while_away(store.go_back)
    for member in members:
        assert (await member.said(until="gap"))[0] == "1"


@pytest_twisted.ensureDeferred
async def test_after_a_restart_that_lost_nothing_nobody_is_told_a_gap(
    store: Store, processes: Processes
) -> None:
    here, there = await processes.start(), await processes.start()
    members = [await here.join(), await there.join()]
    kept = await here.say("1", "2", "3")
    for round in range(3):
        await processes.while_away(store.restart)
        for process in (here, there):
            for place, entry in enumerate(kept):
                texts = [json.loads(each.body)["message"] for each in kept[place + 1 :]]
                assert await process.since(entry) == (False, texts)
        kept += await there.say(f"round {round}")
    for member in members:
        got = await member.said(until="round 2")
        assert "gap" not in got
        texts = [text for text in got if text not in ("cut off", "restored")]
        assert texts == ["1", "2", "3", "round 0", "round 1", "round 2"]
    ids = [entry.id for entry in kept]
    assert ids == sorted(set(ids))


@pytest_twisted.ensureDeferred
async def test_a_tag_is_found_again_where_ids_have_jumped(
    store: Store, processes: Processes
) -> None:
    """They do, to the present, in each epoch of Redis: by more than the tags that a room keeps."""
    here = await processes.start()
    first = await here.rooms.post("r", "once", tag="x")
    store.server.tell("HSET", "relayd:{chat/r}:ids", "last", first.id + TAGGED)
    later = await here.rooms.post("r", "another", tag="y")
    assert later.id > first.id + TAGGED
    again = await here.rooms.post("r", "once", tag="x")
    assert again == ChatEntry(first.id, first.body, repeated=True)
    page = await here.rooms.since("r", 0, 9)
    assert [json.loads(entry.body)["message"] for entry in page.entries] == ["once", "another"]


@pytest_twisted.ensureDeferred
async def test_a_process_that_missed_two_restarts_claims_no_loss(
    store: Store, processes: Processes
) -> None:
    away = await processes.start()
    member = await away.join()
    kept = await away.say("1")
    here = await processes.start()
    link = await processes.cut_off(away)
    for text in ("2", "3"):
        here.watch.changes.clear()
        store.restart()
        await until(lambda: len(here.watch.changes) >= 2)
        await here.say(text)
    store.lead(store.server, link)
    await away.watch.until(True)
    assert await away.since(kept[0]) == (False, ["2", "3"])
    assert await member.said(until="restored") == ["1", "cut off", "2", "3", "restored"]


@pytest_twisted.ensureDeferred
async def test_a_process_that_missed_an_epoch_does_not_vouch_for_its_end(
    store: Store, processes: Processes
) -> None:
    """It is back first; its members are told before they see what follows the loss."""
    away = await processes.start()
    member = await away.join()
    await away.say("1")
    here = await processes.start()
    theirs = await processes.cut_off(away)
    here.watch.changes.clear()
    store.restart()
    await until(lambda: len(here.watch.changes) >= 2)
    await here.say("2")
    store.save()
    await here.say("lost")
    store.lead_nowhere(1)
    store.go_back()
    store.lead(store.server, theirs)
    await away.watch.until(True)
    await away.say("3")
    assert (await member.said(until="3"))[:4] == ["1", "cut off", "gap", "2"]


@pytest_twisted.ensureDeferred
async def test_after_flushall_a_speaker_whose_clock_is_behind_is_heard_by_all(
    store: Store, processes: Processes
) -> None:
    here, there = await processes.start(), await processes.start(clock=-3 * 3600)
    members = [await here.join(), await there.join()]
    lost = await here.say("1", "2", "3")
    store.server.tell("FLUSHALL")
    new = await there.say("a", "b")
    assert new[0].id > lost[-1].id
    for member in members:
        got = await member.said(until="b")
        assert got == ["1", "2", "3", "gap", "a", "b"]
    assert (await here.since(lost[0]))[0]
    assert (await there.since(lost[2])) == (True, ["a", "b"])


@pytest_twisted.ensureDeferred
async def test_a_promoted_replica_that_lacks_the_last_messages_begins_an_epoch(
    store: Store, processes: Processes
) -> None:
    with RedisServer(f"replicaof 127.0.0.1 {store.server.port}") as replica:
        eventually(lambda: replica.tell("ROLE")[3] == b"connected")
        here, there = await processes.start(), await processes.start()
        members = [await here.join(), await there.join()]
        kept = await here.say("1", "2", "3")
        eventually(lambda: replica.tell("XLEN", "relayd:{chat/r}:messages") == 3)
        replica.tell("REPLICAOF", "NO", "ONE")  # the link is cut
        lost = await here.say("4", "5", "6")
        store.server.kill()
        await processes.while_away(lambda: store.lead(replica))
        new = await there.say("a")
        assert new[0].id > lost[-1].id
        for member in members:
            assert (await member.said(until="a")).count("gap") == 1
        for entry in (*kept, *lost):
            assert (await there.since(entry))[0]
        await processes.stop()


@pytest_twisted.ensureDeferred
async def test_without_the_right_to_ask_info_a_loss_is_still_noticed_by_those_who_saw_the_messages(
    store: Store, processes: Processes
) -> None:
    store.server.lines.append("user default on nopass ~* &* +@all -info")
    store.restart()
    here = await processes.start()
    member = await here.join()
    await here.say("1", "2", "3")
    store.save()
    lost = await here.say("4", "5", "6")
    await processes.while_away(store.go_back)
    assert "gap" in await member.said(until="restored")
    new = await here.say("a")
    assert new[0].id > lost[-1].id
    assert (await here.since(lost[-1])) == (True, ["a"])


@pytest_twisted.ensureDeferred
async def test_rooms_of_an_earlier_version_keep_their_positions_and_get_an_age(
    store: Store, processes: Processes
) -> None:
    first = int(time.time() * 1000) - 5000
    keys = ("relayd:{chat/old}:messages", "relayd:{chat/old}:ids")
    for id in range(first, first + 3):
        body = b'{"message":"m%d","id":%d,"time":"2026-01-01T00:00:00Z"}' % (id - first, id)
        store.server.tell("XADD", keys[0], f"{id}-0", "t", id, "b", body)
    store.server.tell("HSET", keys[1], "first", first, "last", first + 2)
    process = await processes.start()
    member = await process.join("old")
    for place in range(3):
        entry = ChatEntry(first + place, b"")
        assert await process.since(entry, "old") == (False, ["m0", "m1", "m2"][place + 1 :])
    for key in keys:
        assert 0 < store.server.tell("PTTL", key) <= DAY * 1000
    await process.say("new", room="old")
    assert await member.said(until="new") == ["new"]
    assert await process.since(ChatEntry(first + 2, b""), "old") == (False, ["new"])


@pytest_twisted.ensureDeferred
async def test_rooms_that_nobody_posted_to_leave_nothing_and_markers_go_with_the_history(
    store: Store, processes: Processes
) -> None:
    here, there = await processes.start(), await processes.start()
    for number in range(50):
        await here.join(f"silent{number}")
        await there.rooms.since(f"read{number}", 5, 9)
        await there.rooms.last(f"read{number}", 5, 9)

    def rooms() -> list[bytes]:
        found: list[bytes] = store.server.tell("KEYS", "relayd:{chat/*")
        return [key for key in found if b":fence:" not in key]

    assert rooms() == []
    for number in range(20):
        await here.say("hi", room=f"used{number}")
    assert len(rooms()) == 40
    assert all(0 < store.server.tell("PTTL", key) <= DAY * 1000 for key in rooms())
    for number in range(20):
        assert await here.rooms.delete(f"used{number}")
    assert all(0 < store.server.tell("PTTL", key) <= 60_000 for key in rooms())
    assert len(rooms()) == 20
    # members of rooms that Redis has forgotten leave no marker either
    store.server.tell("FLUSHALL")
    for number in range(50):
        await here.rooms.since(f"silent{number}", 5, 9)
    assert rooms() == []
