"""`RedisPairs`: two and more of them, as in as many processes, on a real Redis: who is registered.

The contract that all kinds of pairs share runs here, too (`TestPairs`).
"""

import random
import re
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from relayd.brokers.memory import MemoryGroups
from relayd.brokers.over_redis.pair_scripts import (
    ALONE,
    REPLACED,
    WRONG_SECRET,
    Claim,
    PairScripts,
)
from relayd.errors import NoUnity, RedisUnavailable
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.redis.server import RedisServer
from tests.broker_scene import OTHER, UUID, Cluster, FakeHeadset, FakePhone, Process
from tests.contract.pairs import PairsContract
from tests.pairs_scene import (
    LEASE,
    PATIENCE,
    PREFIX,
    QUICK,
    SHORT,
    Node,
    address,
    begin,
    gated,
    holder,
    keys,
    nodes,
    pause,
    told,
    until,
)
from tests.redis_servers import Redis

pytestmark = pytest.mark.usefixtures("log")


@pytest_twisted.async_yield_fixture
async def cluster(redis: Redis) -> AsyncIterator[Cluster]:
    """For the tests of the contract."""
    from twisted.internet import reactor

    hub, nothing = Hub(Batching(reactor, 0)), cast(Any, None)
    async with nodes(address(redis)) as (here, there):
        yield Cluster(
            *(
                Process(MemoryGroups(hub), nothing, node.pairs, nothing, nothing)
                for node in (here, there)
            )
        )


# -- leases


@pytest_twisted.ensureDeferred
async def test_a_live_process_keeps_its_leases(redis: Redis) -> None:
    headset, phone = FakeHeadset(), FakePhone()
    async with nodes(address(redis), memory=SHORT["ttl"], **SHORT) as (here, there):
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        before = holder(redis)
        for _ in range(40):
            await pause(0.1)
            assert holder(redis) == before
            assert await there.pairs.headset_present(UUID)
        assert redis.tell("EXISTS", f"{LEASE}:newest"), "what is older could come back"
        await there.pairs.deliver(UUID, b"1")
        assert await told(headset.inbox) == [b"1"]
        assert await told(phone.inbox) == []


@pytest_twisted.ensureDeferred
async def test_a_dead_process_loses_its_leases_and_the_phone_is_notified_once(
    redis: Redis,
) -> None:
    async with nodes(address(redis), count=3, **SHORT) as (here, there, third):
        headset, phone, newer = FakeHeadset(), FakePhone(), FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        await here.redis.stop()
        died, left = time.monotonic(), redis.tell("PTTL", LEASE) / 1000
        with pytest.raises(NoUnity) as raised:
            await there.pairs.deliver(UUID, b"1")
        assert time.monotonic() - died < SHORT["ttl"] / 2, (
            "it is known at once that nobody is there"
        )
        assert holder(redis), "the lease had ended before the answer"
        assert type(raised.value) is NoUnity
        assert await phone.inbox.take(1) == ["left"]
        took = time.monotonic() - died
        assert left - 0.01 <= took <= left + SHORT["renewal"] + 2
        assert not await there.pairs.headset_present(UUID)
        await third.pairs.add_headset(UUID, newer)
        assert await phone.inbox.take(1) == ["came"]
        await there.pairs.deliver(UUID, b"2")
        assert await told(newer.inbox) == [b"2"]
        await pause(3 * SHORT["renewal"])
        assert await told(phone.inbox) == []
        assert await told(headset.inbox) == []


@pytest_twisted.ensureDeferred
async def test_a_reconnected_process_reacquires_its_leases_unless_they_are_held(
    redis: Redis,
) -> None:
    """The process was cut off for longer than its leases live."""
    async with gated(redis) as gate, nodes(address(redis), **SHORT, **QUICK) as (there, _):
        here = Node("cut-off", gate.url, **SHORT, **QUICK)
        await here.until(True)
        lonely, taken, newer, phone = (FakeHeadset(), FakeHeadset(), FakeHeadset(), FakePhone())
        await here.pairs.add_headset(UUID, lonely)
        await here.pairs.add_headset(OTHER, taken)
        await there.pairs.add_phone(UUID, phone)
        gate.closed = True
        assert await phone.inbox.take(1) == ["left"]
        await there.pairs.add_headset(OTHER, newer)
        await here.until(False)
        gate.open()
        assert await phone.inbox.take(1) == ["came"]
        assert await taken.inbox.take(1) == ["replaced"]
        await there.pairs.deliver(UUID, b"1")
        await there.pairs.deliver(OTHER, b"2")
        assert await told(lonely.inbox) == [b"1"]
        assert await told(newer.inbox) == [b"2"]
        await here.stop()
        assert await phone.inbox.take(1) == ["left"]
        assert await told(taken.inbox) == []


@pytest_twisted.ensureDeferred
async def test_all_keys_expire_and_a_stopping_process_releases_its_leases(
    redis: Redis,
) -> None:
    phone = FakePhone()
    async with nodes(address(redis)) as (here, there):
        await here.pairs.add_headset(UUID, FakeHeadset())
        await there.pairs.add_phone(UUID, phone)
        for number in range(450):  # several batches
            await here.pairs.add_headset(f"{number:08}-0000-4000-8000-000000000000", FakeHeadset())
        await here.pairs.stop()
        held = [key for key in keys(redis) if key.endswith((b":unity", b":android"))]
        assert held == [f"{PREFIX}:{{pair/{UUID}}}:android".encode()]
        assert await phone.inbox.take(1) == ["left"]
        with pytest.raises(RedisUnavailable):
            await here.pairs.add_headset(UUID, FakeHeadset())
        await there.pairs.stop()
        assert all(redis.tell("PTTL", key) > 0 for key in keys(redis))
        assert not any(key.endswith((b":unity", b":android")) for key in keys(redis))


def _argument_count(call: list[bytes]) -> int:
    """How many arguments a command had; SLOWLOG shows 31 and says how many more there were."""
    more = re.fullmatch(rb"\.\.\. \((\d+) more arguments\)", call[-1])
    return len(call) - 1 + int(more[1]) if more else len(call)


@pytest_twisted.ensureDeferred
async def test_thousands_of_leases_are_renewed(redis: Redis) -> None:
    """In calls that do not hold up Redis."""
    async with nodes(address(redis), **SHORT) as (here, there):
        headsets = [FakeHeadset() for _ in range(3000)]
        uuids = [f"{number:08}-0000-4000-8000-000000000000" for number in range(3000)]
        for first in range(0, 3000, 500):
            await gatherResults(
                [
                    begin(here.pairs.add_headset(uuids[number], headsets[number]))
                    for number in range(first, first + 500)
                ]
            )
        redis.tell("CONFIG", "SET", "slowlog-max-len", "2000")
        redis.tell("CONFIG", "SET", "slowlog-log-slower-than", "0")  # every command
        redis.tell("SLOWLOG", "RESET")
        for _ in range(6):
            await pause(SHORT["ttl"] / 5)
            assert len([key for key in keys(redis) if key.endswith(b":unity")]) == 3000
        calls = [entry[3] for entry in redis.tell("SLOWLOG", "GET", "-1")]
        renewals = [_argument_count(call) for call in calls if call[0].startswith(b"EVAL")]
        assert sum(renewals) > 3000
        assert max(renewals) < 3000  # a lease has nine, and no call has all of them
        await there.pairs.deliver(uuids[-1], b"1")
        assert await told(headsets[-1].inbox) == [b"1"]


@pytest_twisted.ensureDeferred
async def test_the_keys_of_a_pair_are_gone_soon_after_it(redis: Redis) -> None:
    uuids = [f"{number:08}-0000-4000-8000-000000000000" for number in range(30)]
    async with (
        nodes(address(redis)) as (here, there),
        nodes(address(redis), memory=0.5, count=1) as (forgetful,),
    ):
        for uuid in uuids:
            headset, phone = FakeHeadset(), FakePhone()
            await here.pairs.add_headset(uuid, headset)
            await there.pairs.add_phone(uuid, phone)
            here.pairs.remove_headset(uuid, headset)
            there.pairs.remove_phone(uuid, phone)
        await until(
            lambda: not [key for key in keys(redis) if not key.endswith((b":newest", b":given"))]
        )
        left = keys(redis)
        assert len(left) == 4 * len(uuids)
        assert all(0 < redis.tell("PTTL", key) <= 30_000 for key in left)
        redis.tell("FLUSHALL")
        for uuid in uuids:
            headset = FakeHeadset()
            await forgetful.pairs.add_headset(uuid, headset)
            forgetful.pairs.remove_headset(uuid, headset)
        await until(lambda: not keys(redis))


# -- fencing tokens


async def hold(scripts: PairScripts, server: RedisServer, claim: Claim) -> int:
    """The answer to one claim."""
    [answer], _ = await scripts.hold(server, [claim])
    return answer


@pytest_twisted.ensureDeferred
async def test_an_older_lease_can_neither_overwrite_nor_remove_a_newer_one_nor_return(
    redis: Redis,
) -> None:
    """Commands that reach Redis late, in any order."""
    async with nodes(address(redis)) as (here, there):
        server = here.redis.servers[0]
        mine, other = (
            PairScripts(node.redis, node.name, PREFIX, ttl=9, memory=9) for node in (here, there)
        )
        old, new = await mine.token("unity", UUID), await other.token("unity", UUID)
        assert old < new
        older, newer = Claim("unity", UUID, old), Claim("unity", UUID, new)
        assert await hold(other, server, newer) == ALONE
        assert await hold(mine, server, older) == REPLACED
        await mine.leave(server, [older])
        assert holder(redis) == f"{there.name}:{new}"
        assert await hold(other, server, newer) == ALONE
        await other.leave(server, [newer])
        assert holder(redis) == ""
        assert await hold(mine, server, older) == REPLACED
        assert await hold(other, server, newer) == REPLACED, "late, after it was taken back"
        assert holder(redis) == ""
        assert await mine.token("unity", UUID) > new


@pytest_twisted.ensureDeferred
async def test_a_stranger_who_leaves_does_not_outdate_the_lease_of_a_bound_pair(
    redis: Redis,
) -> None:
    """After an outage, a headset acquires its lease again with the token that it has."""
    async with nodes(address(redis)) as (here, there):
        server = here.redis.servers[0]
        mine, other = (
            PairScripts(node.redis, node.name, PREFIX, ttl=9, memory=9) for node in (here, there)
        )
        bound = Claim("unity", UUID, await mine.token("unity", UUID), "ab")
        stranger = Claim("unity", UUID, await other.token("unity", UUID))
        assert await hold(mine, server, bound) == ALONE
        assert await hold(other, server, stranger) == WRONG_SECRET
        await other.leave(server, [stranger])
        redis.tell("DEL", LEASE)
        assert await hold(mine, server, bound) == ALONE
        assert holder(redis) == f"{here.name}:{bound.token}:ab"


@pytest_twisted.ensureDeferred
async def test_fencing_tokens_grow_although_redis_has_lost_its_data(redis: Redis) -> None:
    async with nodes(address(redis)) as (here, there):
        scripts = [
            PairScripts(node.redis, node.name, PREFIX, ttl=9, memory=9) for node in (here, there)
        ]
        tokens = []
        for number in range(300):
            if number % 100 == 50:
                redis.tell("FLUSHALL")
            if number % 100 == 75:
                redis.tell("SCRIPT", "FLUSH")
            tokens.append(await scripts[number % 2].token("unity", UUID))
        assert tokens == sorted(set(tokens))
        ahead = tokens[-1] + 10**12  # Redis' clock was set back
        for side in ("given", "newest"):
            redis.tell("SET", f"{LEASE}:{side}", ahead + 1)
            assert await scripts[0].token("unity", UUID) == ahead + 2
            redis.tell("DEL", f"{LEASE}:{side}")


@pytest_twisted.ensureDeferred
async def test_after_a_loss_of_data_the_newer_lease_wins_in_any_order_of_renewal(
    redis: Redis,
) -> None:
    async with nodes(address(redis)) as (here, there):
        server = here.redis.servers[0]
        mine, other = (
            PairScripts(node.redis, node.name, PREFIX, ttl=9, memory=9) for node in (here, there)
        )
        claims = [Claim("unity", UUID, await mine.token("unity", UUID)) for _ in range(2)]
        for first in (0, 1):
            redis.tell("FLUSHALL")
            answers = [
                await hold((mine, other)[turn], server, claims[turn]) for turn in (first, 1 - first)
            ]
            assert answers == ([ALONE, ALONE] if first == 0 else [ALONE, REPLACED])
            assert holder(redis) == f"{there.name}:{claims[1][2]}"


@pytest.mark.parametrize("side", ["unity", "android"])
@pytest_twisted.ensureDeferred
async def test_the_newest_of_many_takeovers_remains_and_each_older_one_is_notified_once(
    side: str, redis: Redis
) -> None:
    """400 connections of one UUID, at two processes, that come and go at the same time."""
    chance = random.Random(7)
    sequence: list[tuple[Node, Any, list[bool]]] = []  # node, connection, whether it has left
    # without renewals, which would make good what is missed
    async with nodes(address(redis), ttl=2000, renewal=1000) as pair:

        def come() -> "Deferred[None]":
            node, gone = chance.choice(pair), [False]
            if side == "unity":
                connection: Any = FakeHeadset()
                adding = begin(node.pairs.add_headset(UUID, connection))
            else:
                connection = FakePhone()
                adding = begin(node.pairs.add_phone(UUID, connection))
            sequence.append((node, connection, gone))
            return adding

        def go(node: Node, connection: Any, gone: list[bool]) -> None:
            gone[0] = True
            if side == "unity":
                node.pairs.remove_headset(UUID, connection)
            else:
                node.pairs.remove_phone(UUID, connection)

        while len(sequence) < 400:
            adding = []
            for _ in range(chance.randint(1, 12)):
                adding.append(come())
                if chance.random() < 0.3:
                    go(*chance.choice(sequence[-4:]))
                if chance.random() < 0.5:
                    await pause(chance.choice((0, 0, 0.001, 0.003)))
            await gatherResults(adding)
            await check_rest(redis, side, sequence)
        here, last, gone = sequence[-1]
        go(here, last, gone)
        await check_rest(redis, side, sequence)
    replaced = sum(connection.told.count("replaced") for _, connection, _ in sequence)
    assert replaced > 200


async def check_rest(redis: Redis, side: str, sequence: "list[Any]") -> None:
    """Whoever holds the lease is the newest that ever did, and everybody knows."""
    live = [(node, one) for node, one, gone in sequence if not gone[0]]
    end = time.monotonic() + PATIENCE
    while True:
        for _, one, _ in sequence:
            one.told = [*getattr(one, "told", []), *await told(one.inbox)]
        rest = [(node, one) for node, one in live if "replaced" not in one.told]
        held = holder(redis, side)
        newest = int(redis.tell("GET", f"{PREFIX}:{{pair/{UUID}}}:{side}:newest"))
        if len(rest) == (newest % 2 == 0):
            break
        assert time.monotonic() < end, (rest, held, newest)
        await pause(0.005)
    await pause(0.01)
    for _, one, gone in sequence:
        one.told += await told(one.inbox)
        times = one.told.count("replaced")
        assert times <= 1
        if gone[0] or any(one is other for _, other in rest):
            continue
        assert times == 1
    if not rest:
        assert held == ""
        return
    [(node, newest_one)] = rest
    assert held == f"{node.name}:{newest}"
    of_its_process = [(one, gone) for its, one, gone in sequence if its is node]
    place = [one for one, _ in of_its_process].index(newest_one)
    assert all(gone[0] for _, gone in of_its_process[place + 1 :]), "a later one was registered"
    if side == "unity":
        await node.pairs.deliver(UUID, b"1")
        assert await told(newest_one.inbox) == [b"1"]


async def comings_and_goings(phone: FakePhone) -> list[object]:
    """What a phone has heard, always in pairs: the last is waited for."""
    heard = await told(phone.inbox)
    while len(heard) % 2:
        heard += await phone.inbox.take(1)
    return heard


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_before_its_registration_is_answered_is_not_registered(
    redis: Redis,
) -> None:
    async with nodes(address(redis)) as (here, there):
        phone, waits = FakePhone(), FakeHeadset()
        await there.pairs.add_headset(UUID, waits)
        await there.pairs.add_phone(UUID, phone)
        there.pairs.remove_headset(UUID, waits)
        assert await phone.inbox.take(1) == ["left"]
        for turns in range(40):
            headset = FakeHeadset()
            adding = begin(here.pairs.add_headset(UUID, headset))
            for _ in range(turns % 8):
                await pause(0)
            here.pairs.remove_headset(UUID, headset)
            await adding
            await until(lambda: not holder(redis))
            assert await told(headset.inbox) == []
        await pause(0.05)
        heard = await comings_and_goings(phone)
        assert heard == ["came", "left"] * (len(heard) // 2)
        with pytest.raises(NoUnity):
            await there.pairs.deliver(UUID, b"1")


@pytest_twisted.ensureDeferred
async def test_a_lost_notification_is_made_up_for_by_the_next_renewal(redis: Redis) -> None:
    """A replaced side is notified, and a phone is notified that its headset connected or left."""
    async with nodes(address(redis), **SHORT) as (here, there):
        older, newer, phone = FakeHeadset(), FakeHeadset(), FakePhone()
        await here.pairs.add_headset(UUID, older)
        await here.pairs.add_phone(UUID, phone)
        redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
        await there.pairs.add_headset(UUID, newer)
        assert await older.inbox.take(1) == ["replaced"]
        for news in ("left", "came"):
            await here.until(True)
            await pause(SHORT["ttl"] + SHORT["renewal"])  # in doubt until then
            redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
            if news == "left":
                there.pairs.remove_headset(UUID, newer)
            else:
                newer = FakeHeadset()
                await there.pairs.add_headset(UUID, newer)
            assert await phone.inbox.take(1) == [news]
        await pause(3 * SHORT["renewal"])
        assert await told(phone.inbox) == []


@pytest_twisted.ensureDeferred
async def test_a_late_answer_to_a_renewal_does_not_undo_newer_notifications(
    redis: Redis,
) -> None:
    async with gated(redis) as gate, nodes(address(redis)) as (here, _):
        there = Node("gated", gate.url, ttl=0.3, renewal=0.05)
        await there.until(True)
        await pause(0.35)  # or it doubts that a headset has left
        phone, headset = FakePhone(), FakeHeadset()
        await there.pairs.add_phone(UUID, phone)
        assert await told(phone.inbox) == ["left"]
        gate.closes, gate.alone = b"*1\r\n:%d\r\n" % ALONE, True
        await until(lambda: gate.closed)
        await here.pairs.add_headset(UUID, headset)
        assert await phone.inbox.take(1) == ["came"]
        gate.open()
        await pause(0.2)
        assert await told(phone.inbox) == []
        await there.stop()


@pytest_twisted.ensureDeferred
async def test_a_phone_without_a_headset_is_notified_at_its_registration(redis: Redis) -> None:
    async with nodes(address(redis)) as (here, there):
        phone = FakePhone()
        await there.pairs.add_phone(UUID, phone)
        assert await told(phone.inbox) == ["left"]
        await here.pairs.add_headset(UUID, FakeHeadset())
        assert await phone.inbox.take(1) == ["came"]


@pytest_twisted.ensureDeferred
async def test_a_phone_is_notified_of_connects_and_leaves_in_strict_alternation(
    redis: Redis,
) -> None:
    """Messages and renewals race; what is left over at the end is true."""
    chance = random.Random(3)
    async with gated(redis) as gate, nodes(address(redis), renewal=0.01) as (here, _):
        gate.delay = lambda: chance.uniform(0, 0.01)
        there = Node("slow", gate.url, renewal=0.01)
        await there.until(True)
        phone, present = FakePhone(), True
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        for _ in range(200):
            if present:
                here.pairs.remove_headset(UUID, headset)
            else:
                headset = FakeHeadset()
                await here.pairs.add_headset(UUID, headset)
            present = not present
            await pause(chance.choice((0, 0.002, 0.005, 0.02)))
        await pause(0.2)
        heard = await comings_and_goings(phone)
        assert heard == ["left", "came"] * (len(heard) // 2)
        assert len(heard) > 100
        assert present
        await there.stop()


class TestPairs(PairsContract):
    """With the cluster above."""
