"""`RedisPairs` while Redis is away, stopped, empty when it comes back, or says no."""

import time
from functools import partial

import pytest
import pytest_twisted

from relayd.drops import DropReason
from relayd.errors import RedisUnavailable
from tests.broker_scene import UUID, FakeHeadset, FakePhone, eventually
from tests.pairs_scene import (
    PREFIX,
    QUICK,
    SHORT,
    Node,
    address,
    failures,
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


@pytest.mark.parametrize("keeps", [True, False], ids=["with its data", "without its data"])
@pytest_twisted.ensureDeferred
async def test_pairs_work_again_after_an_outage_of_redis(keeps: bool, redis: Redis) -> None:
    """The connections stay, nobody is told anything, and nobody new is registered meanwhile."""
    async with nodes(address(redis), **QUICK) as (here, there):
        headset, phone, newer = FakeHeadset(), FakePhone(), FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        for number in range(3):
            before = holder(redis)
            if keeps:
                assert redis.tell("SAVE") == b"OK"
            redis.kill()
            for node in (here, there):
                await node.until(False)
                kinds = await failures(
                    [
                        node.pairs.headset_present(UUID),
                        node.pairs.add_headset(UUID, FakeHeadset()),
                        node.pairs.add_phone(UUID, FakePhone()),
                        node.pairs.deliver(UUID, b"0"),
                    ]
                )
                assert all(issubclass(kind, RedisUnavailable) for kind in kinds)
            redis.start()
            for node in (here, there):
                await node.until(True)
            await until(lambda held=before: holder(redis) == held)  # type: ignore[misc]
            await until(lambda: holder(redis, "android") != "")
            await there.pairs.deliver(UUID, b"%d" % number)
            assert await told(headset.inbox) == [b"%d" % number]
        await there.pairs.add_headset(UUID, newer)
        assert await headset.inbox.take(1) == ["replaced"]
        there.pairs.remove_headset(UUID, newer)
        assert await phone.inbox.take(1) == ["left"]


@pytest_twisted.ensureDeferred
async def test_a_stopped_redis_delays_no_caller_long_and_delivers_nothing_late(
    redis: Redis,
) -> None:
    """Once resumed, Redis runs the commands it was sent, although no caller waits for them."""
    async with nodes(address(redis), **SHORT, **QUICK) as (here, there):
        headset, phone = FakeHeadset(), FakePhone()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        for number in range(3):
            redis.pause()
            began = time.monotonic()
            kinds = await failures(
                [
                    there.pairs.deliver(UUID, b"late"),
                    here.pairs.deliver(UUID, b"late"),
                    there.pairs.add_headset(UUID, FakeHeadset()),
                    here.pairs.headset_present(UUID),
                ]
            )
            assert all(issubclass(kind, RedisUnavailable) for kind in kinds)
            assert time.monotonic() - began < 3
            for node in (here, there):
                await node.until(False)
            await pause(number * 0.6 * SHORT["ttl"])  # at last for longer than a lease lives
            redis.resume()
            for node in (here, there):
                await node.until(True)
            await there.pairs.deliver(UUID, b"%d" % number)
            assert await told(headset.inbox) == [b"%d" % number]
        await pause(SHORT["ttl"] + 2 * SHORT["renewal"])
        assert await told(headset.inbox) == []
        assert await told(phone.inbox) == []


async def presence(node: Node) -> str:
    """The headset, as a process sees it: unknown while the process does not reach Redis in time."""
    try:
        return "present" if await node.pairs.headset_present(UUID) else "absent"
    except RedisUnavailable:
        return "unknown"


@pytest_twisted.ensureDeferred
async def test_a_headset_whose_process_reconnects_a_little_later_has_not_left(redis: Redis) -> None:
    async with gated(redis) as gate, nodes(address(redis), **SHORT, **QUICK) as (there, _):
        here = Node("gated", gate.url, **SHORT, **QUICK)
        await here.until(True)
        headset, phone = FakeHeadset(), FakePhone()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        redis.kill()
        for node in (here, there):
            await node.until(False)
        gate.closed = True
        redis.start()
        await there.until(True)
        await pause(2 * SHORT["renewal"])
        await eventually(partial(presence, there), "absent")
        gate.open()
        await here.until(True)
        await eventually(partial(presence, there), "present")
        await pause(SHORT["ttl"])
        assert await told(phone.inbox) == []
        await here.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_while_redis_is_away_is_gone_when_redis_is_back(
    redis: Redis,
) -> None:
    async with nodes(address(redis), **SHORT, **QUICK) as (here, there):
        headset, phone = FakeHeadset(), FakePhone()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.add_phone(UUID, phone)
        assert redis.tell("SAVE") == b"OK"
        redis.kill()
        for node in (here, there):
            await node.until(False)
        here.pairs.remove_headset(UUID, headset)
        redis.start()
        began = time.monotonic()
        assert await phone.inbox.take(1) == ["left"]
        assert time.monotonic() - began < SHORT["ttl"] + 2 * SHORT["renewal"] + 3
        assert not await there.pairs.headset_present(UUID)


@pytest_twisted.ensureDeferred
async def test_a_process_that_starts_before_redis_works_once_redis_is_up(redis: Redis) -> None:
    redis.kill()
    here, there = (Node(name, address(redis), **QUICK) for name in ("here", "there"))
    with pytest.raises(RedisUnavailable):
        await here.pairs.add_headset(UUID, FakeHeadset())
    redis.start()
    for node in (here, there):
        await node.until(True)
    headset = FakeHeadset()
    await here.pairs.add_headset(UUID, headset)
    await there.pairs.deliver(UUID, b"1")
    assert await told(headset.inbox) == [b"1"]
    redis.kill()
    began = time.monotonic()
    for node in (here, there):
        await node.until(False)
        await node.stop()
    assert time.monotonic() - began < 3


@pytest_twisted.ensureDeferred
async def test_a_command_that_redis_does_not_allow_is_unavailable_and_logged_once(
    redis: Redis, log: list[str]
) -> None:
    redis.tell("ACL", "SETUSER", "some", "on", "nopass", "~*", "&*", "+@all", "-evalsha", "-eval")
    redis.tell("ACL", "SETUSER", "more", "on", "nopass", "~*", "resetchannels", "+@all")
    scripts, inbox = (
        Node(user, f"unix://{user}:x@{redis.socket}", **QUICK) for user in ("some", "more")
    )
    for node in (scripts, inbox):
        await node.until(True)
        for _ in range(3):
            kinds = await failures(
                [node.pairs.add_headset(UUID, FakeHeadset()), node.pairs.deliver(UUID, b"0")]
            )
            assert kinds == [RedisUnavailable] * 2
        await node.stop()
        assert node.empty
    refusals = [line for line in log if "refuses" in line]
    assert len(refusals) == 2, refusals


@pytest_twisted.ensureDeferred
async def test_invalid_messages_are_counted_and_dropped_with_one_line_in_the_log(
    redis: Redis, log: list[str]
) -> None:
    async with nodes(address(redis)) as (here, there):
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        garbage: list[bytes] = [
            b"", b"\xff", b"{", b"[]", b"{}", b"1", b'["news"]', b'["other",1]',
            b'["replaced","x","y",1]', b'["replaced","unity","y","1"]', b"[" * 100_000,
        ]  # fmt: skip
        strangers: list[bytes] = [
            b'["replaced","unity","%b",2]' % UUID.encode(),
            b'["news","%b",2,false]' % UUID.encode(),
            b'["ask","nobody",1,"%b",2]' % UUID.encode(),
            b'["ready","nobody",1]', b'["write","nobody",1,"x"]', b'["written",1,true]',
            b'["settle","nobody",1,"nobody",1,"%b","00"]' % UUID.encode(), b'["void",1]',
        ]  # fmt: skip
        for payload in (*garbage, *strangers):
            assert redis.tell("PUBLISH", f"{PREFIX}:process:{here.name}", payload) == 1
        await there.pairs.deliver(UUID, b"1")
        assert await told(headset.inbox) == [b"1"]
        assert here.drops[DropReason.INVALID] == len(garbage)
        assert len([line for line in log if "invalid message from Redis" in line]) == 1


@pytest_twisted.ensureDeferred
async def test_pairs_are_spread_over_servers_that_go_away_one_by_one() -> None:
    with Redis() as one, Redis() as two:
        async with nodes(address(one), address(two), **QUICK) as (here, there):
            uuids = [f"{number:08}-0000-4000-8000-000000000000" for number in range(40)]
            headsets = {uuid: FakeHeadset() for uuid in uuids}
            for uuid, headset in headsets.items():
                await here.pairs.add_headset(uuid, headset)
            assert all(len(keys(server)) > 10 for server in (one, two))
            two.kill()
            await there.watches[1].until(False)
            for uuid, headset in headsets.items():
                if here.redis.find(f"pair/{uuid}") is here.redis.servers[0]:
                    await there.pairs.deliver(uuid, b"1")
                    assert await told(headset.inbox) == [b"1"]
                else:
                    with pytest.raises(RedisUnavailable):
                        await there.pairs.deliver(uuid, b"1")
            two.start()
            for node in (here, there):
                await node.until(True)
            for uuid in uuids:
                await eventually(lambda uuid=uuid: there.pairs.headset_present(uuid), True)  # type: ignore[misc]
                await there.pairs.deliver(uuid, b"2")
