"""`RedisPairs`: frames on their way between processes, however slowly these and Redis answer."""

import random
import time
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from relayd.brokers.over_redis.deliveries import NoAnswer
from relayd.errors import NoUnity, OutcomeUnknown, RedisUnavailable
from tests.broker_scene import UUID, FakeHeadset, eventually
from tests.pairs_scene import (
    Node,
    address,
    begin,
    failures,
    gated,
    logged,
    nodes,
    pause,
    told,
    until,
)
from tests.redis_servers import Redis

pytestmark = pytest.mark.usefixtures("log")


@pytest_twisted.ensureDeferred
async def test_a_frame_reaches_the_newest_headset_from_wherever_the_phone_is(redis: Redis) -> None:
    async with nodes(address(redis), count=3) as processes:
        for _ in range(3):
            for home in processes:
                headset = FakeHeadset()
                await home.pairs.add_headset(UUID, headset)
                for number, from_ in enumerate(processes):
                    payload = f'{{"quiz_id":[1,2,{number}],"x":"é"}}'
                    await from_.pairs.deliver(UUID, payload.encode())
                    assert await told(headset.inbox) == [payload.encode()]


@pytest_twisted.ensureDeferred
async def test_a_headset_that_fails_to_accept_a_frame_is_no_unity(redis: Redis) -> None:
    class Broken(FakeHeadset):
        def assign(self, payload: bytes) -> bool:
            raise RuntimeError("broken on purpose")

    async with nodes(address(redis)) as (here, there):
        await here.pairs.add_headset(UUID, Broken())
        for node in (here, there):
            with logged(RuntimeError), pytest.raises(NoUnity):
                await node.pairs.deliver(UUID, b"1")


@pytest_twisted.ensureDeferred
async def test_a_headset_that_left_while_the_frame_was_in_flight_is_no_unity(
    redis: Redis,
) -> None:
    async with gated(redis) as gate, nodes(address(redis)) as (there, _):
        here = Node("gated", gate.url)
        await here.until(True)
        for closes in (b'"ask"', b'"write"'):
            headset = FakeHeadset()
            await here.pairs.add_headset(UUID, headset)
            gate.closes = closes
            delivering = begin(there.pairs.deliver(UUID, b"1"))
            await until(lambda: gate.closed)
            here.pairs.remove_headset(UUID, headset)
            gate.open()
            with pytest.raises(NoUnity) as raised:
                await delivering
            assert type(raised.value) is NoUnity
            assert await told(headset.inbox) == []
        await here.stop()


@pytest.mark.parametrize(("closes", "error"), [(b'"ask"', NoAnswer), (b'"write"', OutcomeUnknown)])
@pytest_twisted.ensureDeferred
async def test_a_late_frame_fails_at_the_deadline_and_is_never_written(
    closes: bytes, error: type[Exception], redis: Redis
) -> None:
    """The headset's process stands still, before it hears of the frame or before it gets it.

    In the second case, the phone's process cannot know whether it was written.
    """
    within = 2.0
    async with gated(redis) as gate, nodes(address(redis), within=within) as (there, _):
        here = Node("gated", gate.url, within=within)
        await here.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for number in range(2):
            gate.closes = closes
            began = time.monotonic()
            with pytest.raises(error):
                await there.pairs.deliver(UUID, b"late")
            assert within <= time.monotonic() - began < within + 2
            await pause(number * 0.1)
            gate.open()
            await there.pairs.deliver(UUID, b"in time %d" % number)
            assert await told(headset.inbox) == [b"in time %d" % number]
        await here.stop()


@pytest_twisted.ensureDeferred
async def test_a_headset_that_becomes_ready_too_late_is_not_sent_the_frame(redis: Redis) -> None:
    """Otherwise the process could write the frame after its failure was reported to the phone."""
    within = 2.0
    async with gated(redis) as gate, nodes(address(redis), within=within) as (there, _):
        here = Node("gated", gate.url, within=within)
        await here.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        gate.closes = b'"ask"'
        delivering = begin(there.pairs.deliver(UUID, b"late"))
        await pause(within * 0.75)
        gate.open()
        gate.closes = b'"write"'
        with pytest.raises(NoAnswer):
            await delivering
        gate.open()
        await there.pairs.deliver(UUID, b"in time")
        assert await told(headset.inbox) == [b"in time"]
        await here.stop()


@pytest_twisted.ensureDeferred
async def test_a_briefly_stalled_process_still_answers(redis: Redis) -> None:
    async with gated(redis) as gate, nodes(address(redis), within=8) as (there, _):
        here = Node("gated", gate.url, within=8)
        await here.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        for closes in (b'"ask"', b'"write"'):
            gate.closes = closes
            delivering = begin(there.pairs.deliver(UUID, closes))
            await until(lambda: gate.closed)
            await pause(0.3)
            gate.open()
            await delivering
            assert await told(headset.inbox) == [closes]
        await here.stop()


@pytest_twisted.ensureDeferred
async def test_the_outcome_is_unknown_at_the_deadline_if_no_receipt_comes(redis: Redis) -> None:
    """The phone may send its request again."""
    async with gated(redis) as gate, nodes(address(redis), within=2) as (here, _):
        there = Node("gated", gate.url, within=2)
        await there.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        gate.closes = b'"written"'
        with pytest.raises(OutcomeUnknown):
            await there.pairs.deliver(UUID, b"1")
        gate.open()
        await there.pairs.deliver(UUID, b"2")
        assert await told(headset.inbox) == [b"1", b"2"]
        await there.stop()


@pytest_twisted.ensureDeferred
async def test_an_error_is_certain_a_receipt_is_true_and_all_else_is_outcome_unknown(
    redis: Redis,
) -> None:
    """Everything takes its random time, about as long as the phone waits.

    How often each outcome comes depends on the machine, so it goes on until each has come.
    """
    chance = random.Random(11)
    within = 0.25
    written: dict[bytes, float] = {}

    class Timed(FakeHeadset):
        def assign(self, payload: bytes) -> bool:
            assert payload not in written
            written[payload] = time.monotonic()
            return True

    async with gated(redis) as one, gated(redis) as two:
        here, there = (Node("here", one.url, within=within), Node("there", two.url, within=within))
        for node in (here, there):
            await node.until(True)
        uuids = [f"{number:08}-0000-4000-8000-000000000000" for number in range(40)]
        for uuid in uuids:
            await here.pairs.add_headset(uuid, Timed())
        longest = 0.0
        certain: list[bytes] = []
        one.delay = two.delay = lambda: chance.uniform(0, longest)
        received = failed = unknown = late = 0
        turns = 0
        while turns < 8 or min(received, failed, unknown) <= 5:
            turns += 1
            assert turns < 100, (received, failed, unknown)
            longest = (0.004, 0.05, 0.06, 0.07)[turns % 4]
            payloads = [b"%d" % chance.getrandbits(60) for _ in uuids]
            ended: dict[bytes, tuple[bool | None, float]] = {}

            async def deliver(uuid: str, payload: bytes, ended: Any = ended) -> None:
                await pause(chance.uniform(0, 0.1))
                try:
                    await there.pairs.deliver(uuid, payload)
                    ended[payload] = (True, time.monotonic())
                except OutcomeUnknown:
                    ended[payload] = (None, time.monotonic())
                except (NoUnity, RedisUnavailable):
                    ended[payload] = (False, time.monotonic())

            await gatherResults(
                [begin(deliver(*frame)) for frame in zip(uuids, payloads, strict=True)]
            )
            await pause(0.1)
            for payload, (success, when) in ended.items():
                if success:
                    received += 1
                    assert written[payload] <= when
                elif success is None:
                    unknown += 1
                    late += payload in written  # its receipt came too late
                    assert written.get(payload, when) <= when
                else:
                    failed += 1
                    certain.append(payload)
        one.delay = two.delay = None
        await pause(0.5)
        assert not set(certain) & set(written)
        assert len(written) == received + late
        assert received + failed + unknown == turns * len(uuids)
        for node in (here, there):
            await node.stop()
            assert node.empty


@pytest_twisted.ensureDeferred
async def test_deliveries_in_flight_are_bounded(redis: Redis) -> None:
    """Beyond it, the phone is told to try again; what is lost makes room."""
    within = 2.0
    async with gated(redis) as gate, nodes(address(redis), within=within, most=5) as (there, _):
        here = Node("gated", gate.url, within=within, most=2)
        await here.until(True)
        headset = FakeHeadset()
        await here.pairs.add_headset(UUID, headset)
        gate.closes = b'"ask"'
        kinds = await failures([there.pairs.deliver(UUID, b"1") for _ in range(8)])
        assert kinds == [NoAnswer] * 5 + [RedisUnavailable] * 3
        gate.open()  # now it gets ready for five that do not wait any more, and has room for two
        await eventually(lambda: count_offers(here), 2)
        with pytest.raises(NoUnity):
            await there.pairs.deliver(UUID, b"2")
        await pause(within)
        await there.pairs.deliver(UUID, b"3")
        assert await told(headset.inbox) == [b"3"]
        await here.stop()


async def count_offers(node: Node) -> int:
    return len(node.pairs._deliveries.offers)
