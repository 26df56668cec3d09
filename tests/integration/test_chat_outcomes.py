"""Chat over a Redis whose answers are lost or late: senders are told the truth.

A refused message is never in the history, neither then nor later; an acknowledged one always is.
"""

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from relayd.brokers.over_redis.brokers import RedisBrokers
from relayd.config import Config
from relayd.config import Redis as RedisConfig
from relayd.drops import Drops
from relayd.errors import OutcomeUnknown, StoreUnavailable
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.redis import urls
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis as Servers
from relayd.relays.paths import KINDS
from relayd.wire import ChatEntry, ChatPage
from tests.cable import Cable
from tests.redis_scene import Watch, turn, until
from tests.redis_servers import Redis

DEADLINE = 1.0


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(redis: Redis) -> None:
    redis.tell("FLUSHALL")


@contextlib.asynccontextmanager
async def process(port: int, name: str = "here") -> AsyncIterator[tuple[RedisBrokers, Watch]]:
    """The brokers of a process."""
    from twisted.internet import reactor

    config = Config(redis=RedisConfig(url=f"redis://127.0.0.1:{port}", deadline=DEADLINE))
    settings = Settings(deadline=DEADLINE, ping_interval=0.5, longest_delay=0.1)
    servers = Servers(urls.parse_all([config.redis.url]), reactor, settings)
    watch = Watch(servers.servers[0])
    brokers = RedisBrokers(
        servers, Hub(Batching(reactor, 0)), config,
        clock=reactor, now=time.time, process=name, drops=Drops(), kinds=KINDS,
        new_rooms_per_hour=lambda: 0,
    )  # fmt: skip
    brokers.start()
    await watch.until(True)
    try:
        yield brokers, watch
    finally:
        await brokers.stop()


def kept(redis: Redis, room: str = "r") -> list[bytes]:
    """The messages in the history."""
    entries = redis.tell("XRANGE", f"relayd:{{chat/{room}}}:messages", "-", "+")
    return [body for _, (_, _, _, body) in entries]


def texts(redis: Redis) -> list[str]:
    return [body.decode().split('"')[3] for body in kept(redis)]


async def outcome(posted: "Deferred[ChatEntry]") -> ChatEntry | type[Exception]:
    try:
        return await posted
    except (StoreUnavailable, OutcomeUnknown) as error:
        return type(error)


@pytest_twisted.ensureDeferred
async def test_a_message_whose_answer_is_cut_off_is_found_in_the_room(redis: Redis) -> None:
    with Cable(redis.port) as cable:
        async with process(cable.port) as (brokers, _):
            first = await brokers.rooms.post("r", "first")
            cable.be("mute")
            posted = [brokers.rooms.post("r", "same") for _ in range(3)]
            await until(lambda: len(kept(redis)) == 4)
            cable.be("cut")
            cable.be("through")
            entries = [await outcome(each) for each in posted]
            assert sorted(entry.id - first.id for entry in entries) == [1, 2, 3]  # type: ignore[union-attr]
            assert {entry.body for entry in entries} == set(kept(redis)[1:])  # type: ignore[union-attr]
            again = await brokers.rooms.post("r", "on")
            assert again.id == first.id + 4


@pytest_twisted.ensureDeferred
async def test_a_message_that_never_reached_redis_is_refused_and_the_next_one_is_kept(
    redis: Redis,
) -> None:
    with Cable(redis.port) as cable:
        async with process(cable.port) as (brokers, _):
            await brokers.rooms.post("r", "first")
            cable.be("swallow")
            posted = brokers.rooms.post("r", "lost")
            await until(lambda: any(b"lost" in data for data in cable.swallowed))
            cable.be("cut")
            cable.be("through")
            assert await outcome(posted) is StoreUnavailable
            await brokers.rooms.post("r", "second")
            assert texts(redis) == ["first", "second"]


@pytest_twisted.ensureDeferred
async def test_a_script_that_redis_reads_after_the_question_about_it_does_nothing(
    redis: Redis,
) -> None:
    """Its connection was lost, but its bytes wait somewhere, and come within their window."""
    with Cable(redis.port) as cable:
        async with process(cable.port) as (brokers, _):
            await brokers.rooms.post("r", "first")
            cable.be("swallow")
            posted = brokers.rooms.post("r", "late")
            await until(lambda: any(b"late" in data for data in cable.swallowed))
            (script,) = [data for data in cable.swallowed if b"late" in data]
            cable.be("cut")
            cable.be("through")
            assert await outcome(posted) is StoreUnavailable
            with socket.create_connection(("127.0.0.1", redis.port)) as late:
                late.settimeout(DEADLINE)
                # beside the script, the bytes may hold a health check
                late.sendall(script[script.index(b"*") :] + b"ECHO end\r\n")
                answers = b""
                while not answers.endswith(b"$3\r\nend\r\n"):
                    answers += late.recv(1000)
                assert answers.count(b"+LATE\r\n") == 1
            assert texts(redis) == ["first"]


@pytest_twisted.ensureDeferred
async def test_a_redis_that_stood_still_carries_nothing_out_after_the_deadline(
    redis: Redis,
) -> None:
    async with process(redis.port) as (brokers, watch):
        await brokers.rooms.post("r", "first")
        await turn()  # else both are in one script
        redis.pause()
        try:
            posted = [brokers.rooms.post("r", text) for text in ("under way", "waiting")]
            outcomes = [await outcome(each) for each in posted]
        finally:
            redis.resume()
        # the first script was sent, and nobody knows what Redis did with it; the second was not
        assert outcomes == [OutcomeUnknown, StoreUnavailable]
        await watch.until(True)
        await brokers.rooms.post("r", "second")
        assert texts(redis) == ["first", "second"]


@pytest_twisted.ensureDeferred
async def test_an_outcome_that_cannot_be_found_out_in_time_is_unknown(redis: Redis) -> None:
    with Cable(redis.port) as cable:
        async with process(cable.port) as (brokers, watch):
            await brokers.rooms.post("r", "first")
            cable.be("mute")
            posted = brokers.rooms.post("r", "kept", tag="x")
            await until(lambda: len(kept(redis)) == 2)
            cable.be("cut")
            assert await outcome(posted) is OutcomeUnknown
            cable.be("through")
            await watch.until(True)
            again = await brokers.rooms.post("r", "kept", tag="x")
            assert (again.body, again.repeated) == (kept(redis)[1], True)
            await brokers.rooms.post("r", "on")
            assert texts(redis) == ["first", "kept", "on"]


@pytest_twisted.ensureDeferred
async def test_a_tagged_message_is_found_whether_this_script_stored_it_or_an_earlier_one(
    redis: Redis,
) -> None:
    with Cable(redis.port) as cable:
        async with process(cable.port) as (brokers, _):
            first = await brokers.rooms.post("r", "first", tag="x")
            await turn()
            cable.be("mute")
            rooms = brokers.rooms
            posted = [rooms.post("r", "new", tag="y")]
            await turn()
            posted += [rooms.post("r", "first", tag="x"), rooms.post("r", "new", tag="z")]
            await until(lambda: len(kept(redis)) == 2)
            cable.be("cut")
            cable.be("through")
            new, again, other = [await outcome(each) for each in posted]
            assert isinstance(new, ChatEntry)
            assert new.body == kept(redis)[1]
            assert again == ChatEntry(first.id, first.body, repeated=True)
            assert isinstance(other, ChatEntry)
            assert texts(redis) == ["first", "new", "new"]


@pytest_twisted.ensureDeferred
async def test_a_tag_is_forgotten_in_time_and_costs_a_room_one_key(redis: Redis) -> None:
    async with process(redis.port) as (brokers, _):
        await brokers.rooms.post("r", "first", tag="x")
        key = "relayd:{chat/r}:tags"
        assert redis.tell("ZCARD", key) == 1
        assert 290_000 < redis.tell("PTTL", key) <= 300_000
        await brokers.rooms.post("untagged", "first")
        assert redis.tell("EXISTS", "relayd:{chat/untagged}:tags") == 0


@pytest_twisted.ensureDeferred
async def test_a_step_of_the_clock_costs_a_round_trip_and_no_message(redis: Redis) -> None:
    """What the process knows is wrong by a minute, as it is when the store's clock was set."""
    async with process(redis.port) as (brokers, _):
        await brokers.rooms.post("r", "first")
        server = brokers.rooms._redis.servers[0]
        for step in (-60, 60):
            connection = server._commands.connection
            assert connection is not None
            connection.store_clock._least += step
            connection.store_clock._most += step
            await brokers.rooms.post("r", f"after {step}")
        assert texts(redis) == ["first", "after -60", "after 60"]


@pytest.mark.parametrize("hole", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_reader_waits_until_this_process_has_shown_what_the_reader_has(
    redis: Redis, hole: bool
) -> None:
    """The other process was faster, and the reader comes from there; below a lost part, too."""
    from tests.broker_scene import Listener

    async with process(redis.port) as (fast, _), process(redis.port, "there") as (slow, _):
        member = Listener()
        await slow.groups.join("chat/r", member)
        before = await fast.rooms.post("r", "before")
        await member.inbox.take(1)
        subscriber = slow.rooms._redis.servers[0]._subscriber.connection
        assert subscriber is not None
        subscriber._transport.pauseProducing()
        last = [await fast.rooms.post("r", f"{n}") for n in range(3)][-1]
        assert last.id == before.id + 3
        if hole:
            redis.tell("HSET", "relayd:{chat/r}:ids", "hole", last.id + 1)
        reading = Deferred.fromCoroutine(slow.rooms.since("r", last.id, 10))
        # Redis answers in the order of the commands
        await slow.rooms.since("another", 0, 1)
        assert not reading.called
        subscriber._transport.resumeProducing()
        assert await reading == ChatPage([], gap=hole, lost=hole)
        assert len(await member.inbox.take(0)) == 3
        slow.groups.leave("chat/r", member)
