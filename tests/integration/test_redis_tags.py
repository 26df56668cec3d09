"""`RedisPairs`: requests with a tag, whose answers, or the frames between processes, are lost."""

from typing import Any

import pytest
import pytest_twisted

from relayd.brokers.over_redis.deliveries import NoAnswer
from relayd.brokers.tags import EACH
from relayd.errors import NoUnity, OutcomeUnknown
from tests.broker_scene import OTHER, UUID, FakeHeadset, eventually
from tests.pairs_scene import (
    PREFIX,
    QUICK,
    Gate,
    Node,
    address,
    begin,
    failures,
    gated,
    nodes,
    pause,
    told,
    until,
)
from tests.redis_servers import Redis

pytestmark = pytest.mark.usefixtures("log")

TAGS = f"{PREFIX}:{{pair/{UUID}}}:tags"
WITHIN: dict[str, Any] = {"within": 1.0}


def states(redis: Redis) -> list[bytes]:
    """What Redis knows of the marks: `w`, or a grant."""
    entries: list[bytes] = redis.tell("HVALS", TAGS)
    return [entry.split()[1] for entry in entries]


async def lose(gate: Gate, closes: bytes, node: Node, tag: str) -> None:
    """Has a process deliver a frame, while what it waits for does not come."""
    error: type = NoAnswer
    while error is NoAnswer:  # this machine was too slow
        gate.closes, gate.alone = closes, True
        [error] = await failures([node.pairs.deliver(UUID, b"1", "", tag)])
        gate.open()
    assert error is OutcomeUnknown


@pytest_twisted.ensureDeferred
async def test_a_lost_receipt_is_found_out_by_whoever_sends_the_request_again(
    redis: Redis,
) -> None:
    async with gated(redis) as gate, nodes(address(redis), **WITHIN) as (here, third):
        there = Node("gated", gate.url, **WITHIN)
        await there.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for number, node in enumerate((there, here, third)):
            tag = str(number)
            await lose(gate, b'"written"', there, tag)
            assert await told(headset.inbox) == [b"1"]
            await node.pairs.deliver(UUID, b"2", "", tag)
            assert await node.pairs.carried_out(UUID, "", tag)
        assert await told(headset.inbox) == []
        await there.stop()


@pytest_twisted.ensureDeferred
async def test_a_frame_that_was_permitted_and_never_written_is_carried_out_when_it_is_sent_again(
    redis: Redis,
) -> None:
    async with gated(redis) as gate, nodes(address(redis), **WITHIN) as (there, third):
        here = Node("gated", gate.url, **WITHIN)
        await here.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for number, node in enumerate((there, third, here)):
            await lose(gate, b'"write"', there, str(number))
            await node.pairs.deliver(UUID, b"%d" % number, "", str(number))
            assert await told(headset.inbox) == [b"%d" % number]
            await until(lambda: set(states(redis)) == {b"w"})
        await here.stop()


@pytest_twisted.ensureDeferred
async def test_a_killed_subscription_loses_no_outcome(redis: Redis) -> None:
    """Each request is told the truth, with a tag and without, and a second try finds the rest."""
    async with nodes(address(redis), **QUICK, **WITHIN) as (here, there):
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for number in range(8):
            tag = str(number) if number % 2 else ""
            delivering = begin(there.pairs.deliver(UUID, b"%d" % number, "", tag))
            for _ in range(number % 7):
                await pause(0)
            redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
            outcome = await delivering.addErrback(lambda failure: failure.value)
            came = await told(headset.inbox)
            assert came in ([], [b"%d" % number])
            if outcome is None:
                assert came
            elif not isinstance(outcome, OutcomeUnknown):
                assert not came
            for node in (here, there):
                await node.until(True)
            await eventually(lambda: there.pairs.headset_present(UUID), True)
            if tag:
                await there.pairs.deliver(UUID, b"%d" % number, "", tag)
                assert came + await told(headset.inbox) == [b"%d" % number]


@pytest_twisted.ensureDeferred
async def test_a_paused_redis_leaves_no_request_carried_out_twice(redis: Redis) -> None:
    async with nodes(address(redis), **QUICK) as (here, there):
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for number in range(6):
            node, payload = (there, here)[number % 2], b"%d" % number
            delivering = begin(node.pairs.deliver(UUID, payload, "", str(number)))
            for _ in range(number):
                await pause(0)
            redis.pause()
            outcome = await delivering.addErrback(lambda failure: failure.value)
            redis.resume()
            for each in (here, there):
                await each.until(True)
            await eventually(lambda: there.pairs.headset_present(UUID), True)
            came = await told(headset.inbox)
            if outcome is None:
                assert came == [payload]
            elif isinstance(outcome, OutcomeUnknown):
                assert came in ([], [payload])
            else:
                assert came == []
            for each in (there, here):
                await each.pairs.deliver(UUID, payload, "", str(number))
            assert came + await told(headset.inbox) == [payload]


@pytest_twisted.ensureDeferred
async def test_an_outcome_that_only_an_ended_process_knew_stays_unknown(redis: Redis) -> None:
    async with gated(redis) as gate, nodes(address(redis), **WITHIN) as (there, third):
        here = Node("gated", gate.url, **WITHIN)
        await here.until(True)
        headset, newer = FakeHeadset(), FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        await lose(gate, b'"write"', there, "a")
        assert states(redis) == [b"g"]
        await here.redis.stop()
        await third.pairs.add_headset(UUID, newer)
        for node in (there, third):
            assert await failures([node.pairs.deliver(UUID, b"2", "", "a")]) == [OutcomeUnknown]
            assert await failures([node.pairs.carried_out(UUID, "", "a")]) == [OutcomeUnknown]
        await there.pairs.deliver(UUID, b"3", "", "b")
        assert await told(newer.inbox) == [b"3"]
        await here.stop()


@pytest_twisted.ensureDeferred
async def test_one_tag_at_two_processes_at_once_is_carried_out_once(redis: Redis) -> None:
    async with nodes(address(redis), count=3) as processes:
        headset = FakeHeadset()
        await processes[0].pairs.add_headset(UUID, headset)
        for number in range(20):
            payload = b"%d" % number
            trying = [
                begin(node.pairs.deliver(UUID, payload, "", str(number))) for node in processes
            ]
            outcomes = [await each.addErrback(lambda failure: failure.value) for each in trying]
            assert all(each is None or isinstance(each, NoAnswer) for each in outcomes)
            assert None in outcomes
            assert await told(headset.inbox) == [payload]


@pytest_twisted.ensureDeferred
async def test_the_process_of_the_headset_knows_what_redis_has_lost(redis: Redis) -> None:
    async with nodes(address(redis), renewal=0.1) as (here, there):
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        await there.pairs.deliver(UUID, b"1", "", "a")
        redis.tell("FLUSHALL")
        await eventually(lambda: there.pairs.headset_present(UUID), True)
        await there.pairs.deliver(UUID, b"2", "", "a")
        assert await told(headset.inbox) == [b"1"]


@pytest_twisted.ensureDeferred
async def test_redis_keeps_the_last_tags_of_a_pair_for_minutes_and_none_of_other_requests(
    redis: Redis,
) -> None:
    async with nodes(address(redis)) as (here, there):
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for node in (here, there):
            await node.pairs.deliver(UUID, b"1")
        assert not redis.tell("EXISTS", TAGS)
        for number in range(EACH + 5):
            node = (here, there)[number % 2]
            await node.pairs.deliver(UUID, b"1", "", "é" * 60 + str(number))
        await until(lambda: states(redis) == [b"w"] * EACH)
        assert 290_000 < redis.tell("PTTL", TAGS) <= 300_000
        assert redis.tell("MEMORY", "USAGE", TAGS) < 10_000
        await told(headset.inbox)
        await there.pairs.deliver(UUID, b"2", "", "é" * 60 + str(EACH + 4))
        assert await told(headset.inbox) == []
        with pytest.raises(NoUnity):
            await there.pairs.deliver(OTHER, b"2", "", "a")
