"""The wall clock is set forward and back while relayd, and Redis, run: nobody notices."""

import time
import uuid
from collections.abc import Iterator

import pytest

from tests.frames import PING, PONG, frame
from tests.integration.clients import read, read_rest, say
from tests.integration.conftest import Connect, Dial, Spawn, spawning_workers
from tests.integration.waiting import eventually
from tests.redis_servers import Redis
from tests.wall_clock import WallClock

STEPS = (-60, 90)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    return WallClock(tmp_path_factory.mktemp("clock"))


class SteppedRedis(Redis):
    """A Redis whose clock is set with that of relayd."""

    def __init__(self, clock: WallClock) -> None:
        super().__init__()
        self._clock = clock

    def _command(self) -> list[str]:
        return ["env", f"LD_PRELOAD={self._clock.library}", *super()._command()]


@pytest.fixture
def redis(clock: WallClock) -> Iterator[Redis]:
    with SteppedRedis(clock) as server:
        yield server


def test_timers_go_on_while_the_wall_clock_is_set(
    clock: WallClock, spawn: Spawn, dial: Dial
) -> None:
    node = spawn(LD_PRELOAD=clock.library, keepalive_ping_interval=0.2, keepalive_pong_timeout=60)
    connection = dial(node).open("/ws/camera")
    for step in STEPS:
        clock.step(step)
        for _ in range(3):
            assert connection.frame() == (PING, b"")
            connection.send(frame(PONG))
    assert node.get("/readyz")[0] == 200


def test_pairs_stay_and_workers_live_while_the_wall_clock_is_set(
    clock: WallClock, spawn: Spawn, redis: Redis, connect: Connect
) -> None:
    pairs = [uuid.uuid4() for _ in range(4)]
    leases = [f"relayd:{{pair/{pair}}}:{side}" for pair in pairs for side in ("unity", "android")]

    def renewed() -> bool:
        """Whether all leases were renewed or acquired again a moment ago."""
        left = [redis.tell("PTTL", lease) for lease in leases]
        return all(5000 <= each <= 7000 for each in left)

    def redis_time() -> int:
        return int(redis.tell("TIME")[0])

    with spawning_workers(spawn, redis) as start:
        node = start(LD_PRELOAD=clock.library, WATCHDOG_USEC=10_000_000)
        headsets = [connect(node, f"/ws/difficulty/unity/{pair}") for pair in pairs]
        phones = [connect(node, f"/ws/difficulty/android/{pair}") for pair in pairs]
        for step in STEPS:
            eventually(renewed)
            before = redis_time()
            clock.step(step)  # Redis' clock, too: the leases have as much less left, or more
            assert (redis_time() - before) * step > 30 * abs(step)
            eventually(renewed)
            for headset, phone in zip(headsets, phones, strict=True):
                say(phone, {"difficulty": 1})
                assert read(phone) == {"status": "received"}
                assert read(headset)["quiz_id"]
        assert read_rest(*headsets, *phones) == [[]] * 8
        assert "heartbeat" not in node.log
        assert "is away" not in node.log


def test_the_clock_of_this_test_is_that_of_its_daemons_alone(clock: WallClock) -> None:
    before = time.time()
    clock.step(3600)
    assert time.time() - before < 60
