"""Scenarios for every broker: groups, rooms and pairs, as `brokers.interface` has them.

A broker is tested as a cluster of two processes, `here` and `there`. The one in memory has only
one process, so both are the same. A further implementation is one more entry of `CLUSTERS`. Nothing
is taken to arrive at once: a test waits for what must come, and a barrier behind it shows that
nothing else came.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from relayd import wire
from relayd.brokers.lobby import Lobby
from relayd.brokers.memory import MemoryGroups, MemoryPairs, MemoryRooms
from relayd.brokers.over_redis.brokers import RedisBrokers
from relayd.brokers.presence import Presence
from relayd.config import Chat, Config, Limits
from relayd.config import Redis as RedisConfig
from relayd.drops import Drops
from relayd.errors import QuotaExceeded
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.quotas.creation import Creators
from relayd.redis import urls
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS
from relayd.storage import schema
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.wire import ChatEntry, ChatPage
from tests.broker_scene import Cluster, Listener, Process, eventually
from tests.contract.pairs import PairsContract
from tests.redis_scene import Watch
from tests.redis_servers import Redis as RedisServer

QUOTAS = Chat(history_length=20, history_bytes=200_000, total_bytes=1_000_000, max_rooms=50)

# Implementations


@pytest.fixture
def history_url(tmp_path: Path) -> str:
    """A database with the schema."""
    url = f"sqlite:///{tmp_path}/relayd.db"
    schema.migrate(url)
    return url


async def memory_cluster(history: History) -> AsyncIterator[Cluster]:
    """One process."""
    from twisted.internet import reactor

    hub = Hub(Batching(reactor, 0))
    creators = Creators(reactor.seconds, history.tally, per_hour=lambda: 3, most=QUOTAS.max_rooms)
    rooms = MemoryRooms(hub, history, KINDS.history, creators)
    presence = Presence(reactor)
    lobby = Lobby(presence, reactor.seconds, history.posted)
    process = Process(MemoryGroups(hub), rooms, MemoryPairs(reactor.seconds), presence, lobby)
    yield Cluster(process, process)
    assert list(hub) == [], "a group stayed when all its members had left"


async def redis_cluster(history: History) -> AsyncIterator[Cluster]:
    """Two processes on one Redis."""
    from twisted.internet import reactor

    with RedisServer() as server:
        config = Config(
            redis=RedisConfig(url=f"unix://{server.socket}"), limits=Limits(coalesce=0),
            chat=QUOTAS,
        )  # fmt: skip
        targets, settings = urls.parse_all([config.redis.url]), Settings()
        hubs = [Hub(Batching(reactor, 0)), Hub(Batching(reactor, 0))]
        brokers = []
        for number, hub in enumerate(hubs):
            redis = Redis(targets, reactor, settings)
            watch = Watch(redis.servers[0])
            made = RedisBrokers(
                redis, hub, config, clock=reactor, now=time.time,
                process=f"process{number}", drops=Drops(), kinds=KINDS,
                new_rooms_per_hour=lambda: 3,
            )  # fmt: skip
            made.start()
            await watch.until(True)
            brokers.append(made)
        here, there = (
            Process(made.groups, made.rooms, made.pairs, made.presence, made.lobby)
            for made in brokers
        )
        yield Cluster(here, there)
        for made in brokers:
            await made.stop()
        assert [list(hub) for hub in hubs] == [[], []]


CLUSTERS: dict[str, Callable[[History], AsyncIterator[Cluster]]] = {
    "memory": memory_cluster,
    "redis": redis_cluster,
}


@pytest_twisted.async_yield_fixture(params=list(CLUSTERS))
async def cluster(request: pytest.FixtureRequest, history_url: str) -> AsyncIterator[Cluster]:
    from twisted.internet import reactor

    database = Database(history_url, reactor=reactor)
    history = History(
        database,
        keep=QUOTAS.history_length,
        room_bytes=QUOTAS.history_bytes,
        total_bytes=QUOTAS.total_bytes,
    )
    async for cluster in CLUSTERS[request.param](history):
        yield cluster
    await database.close()


class Members:
    """Members of groups that leave at the end of a test."""

    def __init__(self) -> None:
        self._joined: list[tuple[Process, str, Listener]] = []

    async def join(self, process: Process, group: str) -> Listener:
        """A new member of a group."""
        listener = Listener()
        await process.groups.join(group, listener)
        self._joined.append((process, group, listener))
        return listener

    def leave(self) -> None:
        for process, group, listener in self._joined:
            process.groups.leave(group, listener)


@pytest.fixture
def members(cluster: Cluster) -> Iterable[Members]:
    members = Members()
    yield members
    members.leave()


BARRIER = b'{"barrier":true}'


async def take_objects(listener: Listener) -> list[dict[str, Any]]:
    """The JSON objects that a member has got; waits for one if there is none yet."""
    return [json.loads(cast(bytes, item)) for item in await listener.inbox.take(1)]


class TestGroups:
    @pytest_twisted.ensureDeferred
    async def test_a_published_payload_is_delivered_once_to_every_member_of_the_group(
        self, cluster: Cluster, members: Members
    ) -> None:
        listeners = [
            await members.join(process, "camera/a")
            for process in (cluster.here, cluster.there, cluster.here)
        ]
        payload = '{ "x" : 1.50, "n": "é" }'.encode()
        cluster.here.groups.publish("camera/a", payload)
        cluster.here.groups.publish("camera/a", BARRIER)
        for listener in listeners:
            assert await listener.inbox.take(2) == [payload, BARRIER]

    @pytest_twisted.ensureDeferred
    async def test_a_payload_is_delivered_to_its_own_group_only(
        self, cluster: Cluster, members: Members
    ) -> None:
        names = ("camera/a", "camera/A", "camera/b", "push/a")
        listeners = [await members.join(cluster.there, name) for name in names]
        for name in names:
            cluster.here.groups.publish(name, json.dumps({"name": name}).encode())
        for name, listener in zip(names, listeners, strict=True):
            cluster.here.groups.publish(name, BARRIER)
            assert await listener.inbox.take(2) == [json.dumps({"name": name}).encode(), BARRIER]

    @pytest_twisted.ensureDeferred
    async def test_payloads_of_one_publisher_arrive_in_their_order(
        self, cluster: Cluster, members: Members
    ) -> None:
        listeners = [
            await members.join(process, "camera/a") for process in (cluster.here, cluster.there)
        ]
        sent = [b'{"n":%d}' % number for number in range(300)]
        for payload in sent:
            cluster.here.groups.publish("camera/a", payload)
        for listener in listeners:
            assert await listener.inbox.take(300) == sent

    @pytest_twisted.ensureDeferred
    async def test_publishers_in_both_processes_reach_every_member_once(
        self, cluster: Cluster, members: Members
    ) -> None:
        listener = await members.join(cluster.here, "camera/a")
        for number in range(100):
            cluster.here.groups.publish("camera/a", b'{"here":%d}' % number)
            cluster.there.groups.publish("camera/a", b'{"there":%d}' % number)
        got = await listener.inbox.take(200)
        for place in (b'{"here":', b'{"there":'):
            of_place = [item for item in got if isinstance(item, bytes) and item.startswith(place)]
            assert of_place == [b"%b%d}" % (place, number) for number in range(100)]
        assert len(got) == 200

    @pytest_twisted.ensureDeferred
    async def test_a_member_that_left_gets_nothing_and_the_remaining_members_go_on(
        self, cluster: Cluster, members: Members
    ) -> None:
        stays = await members.join(cluster.here, "camera/a")
        leaves = await members.join(cluster.here, "camera/a")
        cluster.there.groups.publish("camera/a", b'{"n":1}')
        assert await leaves.inbox.take(1) == [b'{"n":1}']
        cluster.here.groups.leave("camera/a", leaves)
        cluster.there.groups.publish("camera/a", b'{"n":2}')
        assert await stays.inbox.take(2) == [b'{"n":1}', b'{"n":2}']
        assert await leaves.inbox.take(0) == []

    @pytest_twisted.ensureDeferred
    async def test_a_member_that_rejoins_is_a_member_again(
        self, cluster: Cluster, members: Members
    ) -> None:
        listener = Listener()
        for number in range(3):
            await cluster.here.groups.join("camera/a", listener)
            cluster.there.groups.publish("camera/a", b'{"n":%d}' % number)
            assert await listener.inbox.take(1) == [b'{"n":%d}' % number]
            cluster.here.groups.leave("camera/a", listener)

    @pytest_twisted.ensureDeferred
    async def test_leaving_a_group_without_being_a_member_changes_nothing(
        self, cluster: Cluster, members: Members
    ) -> None:
        listener = await members.join(cluster.here, "camera/a")
        cluster.here.groups.leave("camera/a", Listener())
        cluster.here.groups.leave("camera/b", listener)
        cluster.there.groups.publish("camera/a", b'{"n":1}')
        assert await listener.inbox.take(1) == [b'{"n":1}']

    @pytest_twisted.ensureDeferred
    async def test_publishing_says_how_many_members_are_in_this_process(
        self, cluster: Cluster, members: Members
    ) -> None:
        assert cluster.here.groups.publish("push/a", b'{"n":1}') == 0
        for _ in range(2):
            await members.join(cluster.here, "push/a")
        assert cluster.here.groups.publish("push/a", b'{"n":1}') == 2


class TestPresence:
    @pytest_twisted.ensureDeferred
    async def test_a_watcher_gets_the_members_of_all_processes_then_joins_and_leaves(
        self, cluster: Cluster
    ) -> None:
        here, there, watcher = cluster.here.presence, cluster.there.presence, Listener()
        there.enter("a", "ben")
        there.enter("a", None)
        here.enter("a", "ana")
        here.enter("b", "eve")
        here.watch("a", watcher, watcher.inbox.put)
        assert await take_objects(watcher) == [
            {"presence": "here", "count": 3, "anonymous": 1, "users": ["ana", "ben"]}
        ]
        there.leave("a", "ben")
        here.enter("a", "ben")
        there.enter("a", "cyn")
        there.leave("a", None)
        frames: list[dict[str, Any]] = []
        users = {"ana", "ben"}
        # between the two reports, ben may seem to have left
        while users != {"ana", "ben", "cyn"} or frames[-1]["count"] != 3:
            for frame in await take_objects(watcher):
                frames.append(frame)
                users = users - set(frame["left"]) | set(frame["joined"])
        assert {frame["presence"] for frame in frames} == {"changed"}
        assert frames[-1]["anonymous"] == 0
        here.unwatch("a", watcher)
        there.enter("a", "dan")
        assert await watcher.inbox.take(0) == []
        for process, room, user in [
            (here, "a", "ana"), (here, "b", "eve"), (here, "a", "ben"), (there, "a", "cyn"),
            (there, "a", "dan"),
        ]:  # fmt: skip
            process.leave(room, user)


class TestLobby:
    @pytest_twisted.ensureDeferred
    async def test_rooms_with_members_anywhere_are_listed_the_newest_message_first(
        self, cluster: Cluster
    ) -> None:
        here, there = cluster.here, cluster.there
        entered: list[tuple[Process, str, str | None]] = [
            *((here, "old", None), (there, "old", "ada"), (there, "old", "ben")),
            *((there, "new", None), (here, "new", None), (here, "quiet", None)),
            *((there, "silent", None), (there, "silent", "ada"), (there, "部屋", None)),
        ]
        for room in ("old", "new", "empty"):
            posted = await there.rooms.post(room, "hi")
        await there.rooms.post("quiet", "hi")
        await here.rooms.delete("quiet")
        for process, room, user in entered:
            process.presence.enter(room, user)

        async def listed(process: Process) -> list[tuple[str, int, bool]]:
            found = await process.lobby.rooms()
            assert not found.partial
            return [(room.name, room.members, room.posted is not None) for room in found.rooms]

        wanted = [("new", 2, True), ("old", 3, True), ("silent", 2, False)]
        wanted += [("quiet", 1, False), ("部屋", 1, False)]
        nothing = wanted[:0]
        for process in (here, there):
            await eventually(partial(listed, process), wanted)
        first = (await here.lobby.rooms()).rooms[0].posted
        at = datetime.fromisoformat(json.loads(posted.body)["time"]).timestamp() * 1000
        assert first is not None
        assert 0 <= at - first < 60_000
        for process, room, user in entered:
            process.presence.leave(room, user)
        for process in (here, there):
            await eventually(partial(listed, process), nothing)


class TestRooms:
    @pytest_twisted.ensureDeferred
    async def test_a_posted_message_is_kept_and_delivered_to_everyone_in_the_room(
        self, cluster: Cluster, members: Members
    ) -> None:
        listeners = [
            await members.join(process, "chat/a") for process in (cluster.here, cluster.there)
        ]
        other = await members.join(cluster.there, "chat/b")
        entry = await cluster.here.rooms.post("a", "héllo", "ada")
        message = json.loads(entry.body)
        assert (message["message"], message["user"], message["id"]) == ("héllo", "ada", entry.id)
        for listener in listeners:
            assert await listener.inbox.take(1) == [entry.body]
        assert await cluster.there.rooms.last("a", 10, 10) == ChatPage([entry])
        elsewhere = await cluster.here.rooms.post("b", "barrier")
        assert await other.inbox.take(1) == [elsewhere.body]

    @pytest_twisted.ensureDeferred
    async def test_a_message_without_a_user_names_none(self, cluster: Cluster) -> None:
        entry = await cluster.here.rooms.post("a", "hi")
        assert "user" not in json.loads(entry.body)

    @pytest_twisted.ensureDeferred
    async def test_a_message_that_is_sent_again_with_its_tag_is_kept_and_shown_once(
        self, cluster: Cluster, members: Members
    ) -> None:
        here, there = cluster.here.rooms, cluster.there.rooms
        member = await members.join(cluster.there, "chat/r")
        twice = [here.post("r", "a", tag="x"), here.post("r", "a", tag="x")]
        first, again = await gatherResults(twice)
        assert [first.repeated, again.repeated] == [False, True]
        late = await there.post("r", "a", tag="x")
        assert {(one.id, one.body) for one in (again, late)} == {(first.id, first.body)}
        assert late.repeated
        mixed = [here.post("r", "b"), here.post("r", "a", tag="x"), here.post("r", "c", tag="y")]
        b, repeated, c = await gatherResults(mixed)
        assert (b.id, repeated.id, c.id) == (first.id + 1, first.id, first.id + 2)
        assert await member.inbox.take(3) == [first.body, b.body, c.body]
        page = await there.since("r", 0, 10)
        assert [json.loads(entry.body).get("tag") for entry in page.entries] == ["x", None, "y"]

    @pytest_twisted.ensureDeferred
    async def test_a_tag_counts_in_its_room_and_for_its_user(self, cluster: Cluster) -> None:
        post = cluster.here.rooms.post
        posted = [
            await post("r", "a", tag="x"),
            await post("other", "a", tag="x"),
            await post("r", "a", "ann", tag="x"),
            await post("r", "a", "bob", tag="x"),
            await post("r", "a", tag="y"),
        ]
        assert [entry.repeated for entry in posted] == [False] * 5
        assert (await post("r", "changed", "ann", tag="x")).body == posted[2].body

    @pytest_twisted.ensureDeferred
    async def test_a_tag_of_a_message_that_is_gone_is_free_again(self, cluster: Cluster) -> None:
        rooms = cluster.here.rooms
        first = await rooms.post("r", "a", tag="x")
        await rooms.delete("r")
        second = await cluster.there.rooms.post("r", "a", tag="x")
        assert not second.repeated
        assert second.id > first.id

    @pytest_twisted.ensureDeferred
    async def test_all_members_see_one_order_which_is_that_of_the_ids(
        self, cluster: Cluster, members: Members
    ) -> None:
        listeners = [
            await members.join(process, "chat/a") for process in (cluster.here, cluster.there)
        ]
        said: list[Deferred[ChatEntry]] = []
        for number in range(10):
            said.append(cluster.here.rooms.post("a", f"here {number}"))
            said.append(cluster.there.rooms.post("a", f"there {number}"))
        entries = sorted(await gatherResults(said), key=lambda entry: entry.id)
        ids = [entry.id for entry in entries]
        assert ids == list(range(ids[0], ids[0] + 20))
        for listener in listeners:
            assert await listener.inbox.take(20) == [entry.body for entry in entries]

    @pytest_twisted.ensureDeferred
    async def test_messages_of_one_process_keep_their_order(self, cluster: Cluster) -> None:
        said = [cluster.here.rooms.post("a", str(number)) for number in range(20)]
        ids = [entry.id for entry in await gatherResults(said)]
        assert ids == sorted(ids)
        texts = [
            json.loads(entry.body)["message"]
            for entry in (await cluster.there.rooms.last("a", 99, 99)).entries
        ]
        assert texts == [str(number) for number in range(20)]

    @pytest_twisted.ensureDeferred
    async def test_an_address_creates_as_many_rooms_as_it_may_and_talks_on_in_these(
        self, cluster: Cluster
    ) -> None:
        for number in range(3):
            await cluster.here.rooms.post(f"r{number}", "hi", None, "1.2.3.4")
        with pytest.raises(QuotaExceeded):
            await cluster.here.rooms.post("r3", "hi", None, "1.2.3.4")
        await cluster.here.rooms.post("r3", "hi", None, "5.6.7.8")
        await cluster.here.rooms.post("r3", "hi", None, "1.2.3.4")
        await cluster.here.rooms.post("r4", "hi")
        assert cluster.here.rooms.tally.refused == {"rooms": 0, "rooms_of_address": 1}
        assert (await cluster.there.rooms.last("r3", 9, 9)).entries

    @pytest_twisted.ensureDeferred
    async def test_there_are_no_more_rooms_than_there_may_be(self, cluster: Cluster) -> None:
        for number in range(50):
            await cluster.here.rooms.post(f"r{number}", "hi")
        with pytest.raises(QuotaExceeded):
            await cluster.here.rooms.post("r50", "hi")
        await cluster.here.rooms.post("r49", "hi")
        assert cluster.here.rooms.tally.usage.rooms == 50
        assert cluster.here.rooms.tally.refused == {"rooms": 1, "rooms_of_address": 0}

    @pytest_twisted.ensureDeferred
    async def test_the_rooms_with_the_most_bytes_are_listed(self, cluster: Cluster) -> None:
        await cluster.here.rooms.post("small", "hi")
        for _ in range(3):
            newest = await cluster.here.rooms.post("lärge", "x" * 100)
        found = await cluster.there.rooms.largest(10)
        assert [(room.name, room.messages) for room in found] == [("lärge", 3), ("small", 1)]
        assert found[0].bytes > 300 + 3 * 64
        said = datetime.fromisoformat(json.loads(newest.body)["time"]).timestamp()
        assert abs(found[0].posted / 1000 - said) < 60
        assert cluster.there.rooms.tally.usage == (2, found[0].bytes + found[1].bytes)
        assert await cluster.there.rooms.largest(1) == found[:1]

    @pytest_twisted.ensureDeferred
    async def test_members_of_a_deleted_room_are_told_and_go_on_with_higher_ids(
        self, cluster: Cluster, members: Members
    ) -> None:
        listeners = [
            await members.join(process, "chat/a") for process in (cluster.here, cluster.there)
        ]
        old = [await cluster.here.rooms.post("a", "hi") for _ in range(5)]
        for listener in listeners:
            assert len(await listener.inbox.take(5)) == 5
        assert await cluster.there.rooms.delete("a")
        for listener in listeners:
            assert await listener.inbox.take(1) == [wire.GAP]
        assert (await cluster.here.rooms.last("a", 9, 9)).entries == []
        assert await cluster.here.rooms.since("a", old[2].id, 9) == ChatPage([], gap=True)
        assert await cluster.here.rooms.largest(9) == []
        assert not await cluster.there.rooms.delete("a")
        for listener in listeners:
            assert await listener.inbox.take(1) == [wire.GAP]
        new = await cluster.here.rooms.post("a", "again")
        assert new.id == old[-1].id + 1
        for listener in listeners:
            assert await listener.inbox.take(1) == [new.body]
        assert await cluster.there.rooms.since("a", old[-1].id, 9) == ChatPage([new])
        assert await cluster.there.rooms.since("a", old[2].id, 9) == ChatPage([new], gap=True)

    @pytest_twisted.ensureDeferred
    async def test_a_flood_of_large_messages_into_new_rooms_stays_within_all_bytes(
        self, cluster: Cluster
    ) -> None:
        small = [await cluster.here.rooms.post("small", f"{n}") for n in range(10)]
        for number in range(60):
            await cluster.here.rooms.post(f"r{number % 20}", "x" * 50_000)
        tally = cluster.here.rooms.tally
        assert tally.usage.bytes <= 1_000_000
        assert tally.trimmed >= 1_900_000
        rooms = await cluster.there.rooms.largest(99)
        assert sum(room.bytes for room in rooms) == tally.usage.bytes
        assert max(room.bytes for room in rooms) <= 200_000
        assert (await cluster.there.rooms.last("small", 20, 20)).entries == small

    @pytest_twisted.ensureDeferred
    async def test_a_reader_of_a_room_without_history_creates_nothing(
        self, cluster: Cluster, members: Members
    ) -> None:
        await members.join(cluster.here, "chat/a")
        await cluster.here.rooms.last("a", 9, 9)
        await cluster.here.rooms.since("a", 5, 9)
        assert await cluster.there.rooms.largest(9) == []
        assert cluster.there.rooms.tally.usage == (0, 0)

    @pytest_twisted.ensureDeferred
    async def test_a_message_is_delivered_before_its_post_fires(
        self, cluster: Cluster, members: Members
    ) -> None:
        listener = await members.join(cluster.here, "chat/a")
        for _ in range(5):
            entry = await cluster.here.rooms.post("a", "hi")
            assert await listener.inbox.take(0) == [entry.body]

    @pytest_twisted.ensureDeferred
    async def test_entries_that_are_read_were_delivered_to_the_members_before(
        self, cluster: Cluster, members: Members
    ) -> None:
        """Otherwise a client that joins after reading would get the message a second time."""
        listener = await members.join(cluster.here, "chat/a")
        said: list[Deferred[ChatEntry]] = []
        shown: list[object] = []
        for number in range(20):
            said.append(cluster.here.rooms.post("a", str(number)))
            if number % 2:
                page = await cluster.here.rooms.last("a", 99, 99)
            else:
                page = await cluster.here.rooms.since("a", 0, 99)
            shown += await listener.inbox.take(0)
            assert [entry.body for entry in page.entries] == shown[: len(page.entries)]
        await gatherResults(said)

    @pytest_twisted.ensureDeferred
    async def test_the_last_messages_come_oldest_first(self, cluster: Cluster) -> None:
        entries = [await cluster.here.rooms.post("a", str(number)) for number in range(10)]
        await cluster.here.rooms.post("b", "elsewhere")
        for count in (0, 1, 9, 10, 11):
            wanted = entries[len(entries) - min(count, 10) :]
            page = await cluster.there.rooms.last("a", count, count)
            assert (list(page.entries), page.more) == (wanted, False)
        assert await cluster.there.rooms.last("nobody", 5, 5) == ChatPage([])

    @pytest_twisted.ensureDeferred
    async def test_messages_since_an_id_come_page_by_page(self, cluster: Cluster) -> None:
        entries = [await cluster.here.rooms.post("a", str(number)) for number in range(10)]
        position, got, more = entries[1].id, list[ChatEntry](), list[bool]()
        for _ in range(3):
            page = await cluster.there.rooms.since("a", position, 3)
            assert not page.gap
            assert len(page.entries) <= 3
            got += page.entries
            more.append(page.more)
            position = page.entries[-1].id
        assert (got, more) == (entries[2:], [True, True, False])
        assert await cluster.there.rooms.since("a", position, 3) == ChatPage([])

    @pytest_twisted.ensureDeferred
    async def test_a_page_is_bounded_in_bytes_and_has_at_least_one_message(
        self, cluster: Cluster
    ) -> None:
        sizes = (10, 20, 5000, 30, 40, 50)
        said = [cluster.here.rooms.post("a", "é" * size) for size in sizes]
        entries = await gatherResults(said)
        bodies = [len(entry.body) for entry in entries]
        pages = (entries[:2], entries[2:3], entries[3:5], entries[5:])
        size = sum(bodies[3:5])
        for read_first in (
            cluster.there.rooms.since("a", 0, 99, size),
            cluster.there.rooms.last("a", len(entries), 99, size),
        ):
            page = await read_first
            assert page == ChatPage(list(pages[0]), more=True)
            for expected in pages[1:]:
                page = await cluster.there.rooms.since("a", page.entries[-1].id, 99, size)
                assert page == ChatPage(list(expected), more=expected is not pages[-1])

    @pytest_twisted.ensureDeferred
    async def test_joiners_of_one_moment_share_a_read(self, cluster: Cluster) -> None:
        entries = await gatherResults([cluster.here.rooms.post("a", str(n)) for n in range(5)])
        reads = [Deferred.fromCoroutine(cluster.there.rooms.last("a", 3, 3)) for _ in range(20)]
        first, *others = await gatherResults(reads)
        assert all(page is others[0] for page in others)
        assert first == others[0] == ChatPage(entries[2:])

    @pytest_twisted.ensureDeferred
    async def test_since_0_returns_the_whole_history(self, cluster: Cluster) -> None:
        assert await cluster.here.rooms.since("a", 0, 10) == ChatPage([])
        entry = await cluster.here.rooms.post("a", "first")
        assert await cluster.there.rooms.since("a", 0, 10) == ChatPage([entry])

    @pytest_twisted.ensureDeferred
    async def test_messages_that_are_no_longer_kept_are_a_gap(self, cluster: Cluster) -> None:
        """The rooms of these tests keep 20 messages."""
        said = [cluster.here.rooms.post("a", str(number)) for number in range(30)]
        entries = await gatherResults(said)
        assert await cluster.there.rooms.since("a", entries[8].id, 99) == ChatPage(
            entries[10:], gap=True
        )
        assert await cluster.there.rooms.since("a", entries[9].id, 99) == ChatPage(entries[10:])
        assert await cluster.there.rooms.since("a", 0, 99) == ChatPage(entries[10:], gap=True)

    @pytest_twisted.ensureDeferred
    async def test_an_id_beyond_the_newest_is_a_gap_and_returns_the_whole_history(
        self, cluster: Cluster
    ) -> None:
        entries = [await cluster.here.rooms.post("a", str(number)) for number in range(3)]
        position = entries[-1].id + 1
        page = await cluster.there.rooms.since("a", position, 99)
        assert page == ChatPage(entries, gap=True, from_start=True)
        page = await cluster.there.rooms.since("nobody", 1, 99)
        assert page == ChatPage([], gap=True, from_start=True)


class TestPairs(PairsContract):
    pass
