"""A link connects for ever, whatever went wrong, and waits longer and longer in between."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.errors import RedisUnavailable
from relayd.redis.connection import Connection
from relayd.redis.link import Link, Stats
from relayd.redis.settings import Settings
from tests.redis_scene import Log
from tests.unit.fakes import has_fired
from tests.unit.redis_fakes import Wires

PING = [[b"TIME"], [b"INFO", b"replication"], [b"PING"]]
TIME = b"*2\r\n$1\r\n1\r\n$1\r\n0\r\n-NOPERM no INFO\r\n"


class Scene:
    """A link, and the attempts that it makes; a test decides how each of them ends."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.settings = settings
        self.events: list[str] = []
        self.attempts: list[Deferred[Connection]] = []
        self.times: list[float] = []
        self.stats = Stats()
        self.on_up = lambda: None
        self.link = Link(
            self._connect,
            self.clock,
            Settings(**settings),
            up=self._up,
            down=self.events.append,
            stats=self.stats,
        )

    def succeed(self) -> Wires:
        """The attempt under way brings a connection."""
        wires = Wires(self.clock, **self.settings)
        self.attempts[-1].callback(wires.connection)
        return wires

    def fail(self, reason: str = "no") -> None:
        self.attempts[-1].errback(RedisUnavailable(reason))

    def pause(self) -> float:
        """Seconds until the next attempt, which begins now."""
        self.clock.advance(0)
        (timer,) = self.clock.getDelayedCalls()
        seconds = timer.getTime() - self.clock.seconds()
        count = len(self.attempts)
        self.clock.advance(seconds)
        assert len(self.attempts) == count + 1
        return seconds

    def _up(self) -> None:
        self.events.append("up")
        self.on_up()

    async def _connect(self) -> Connection:
        self.times.append(self.clock.seconds())
        self.attempts.append(Deferred())
        return await self.attempts[-1]


@pytest.fixture
def log() -> Iterator[Log]:
    with Log() as lines:
        yield lines


def test_the_pauses_grow_to_their_bound_and_are_never_the_same() -> None:
    scene = Scene(first_delay=0.05, longest_delay=2.0)
    scene.link.start()
    pauses = []
    for _ in range(200):
        scene.fail()
        pauses.append(scene.pause())
    for pause, most in zip(pauses, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6] + [2.0] * 194, strict=True):
        assert most / 2 <= pause <= most + 1e-6
    assert len(set(pauses)) > 190
    assert scene.events == ["no"] * 200


def test_a_connection_that_lasted_is_replaced_at_once() -> None:
    scene = Scene(ping_interval=1000.0, deadline=1000.0)
    scene.link.start()
    for _ in range(8):
        scene.fail()
        scene.pause()
    wires = scene.succeed()
    scene.clock.advance(2.1)
    wires.transport.reset()
    assert scene.pause() <= 0.05


def test_a_connection_that_did_not_last_is_one_more_failure() -> None:
    """Otherwise a Redis that accepts and disconnects us would be dialled twenty times a second."""
    scene = Scene()
    scene.link.start()
    pauses = []
    for _ in range(6):
        wires = scene.succeed()
        wires.transport.reset()
        wires.clock.advance(0)
        pauses.append(scene.pause())
    assert pauses[-1] >= 0.8
    assert scene.stats.reconnects == 5


def test_up_and_down_alternate() -> None:
    scene = Scene()
    scene.link.start()
    seen = [scene.link.connection]
    wires = scene.succeed()
    seen.append(scene.link.connection)
    wires.transport.reset()
    seen.append(scene.link.connection)
    assert seen == [None, wires.connection, None]
    scene.pause()
    scene.fail("refused")
    scene.pause()
    scene.succeed()
    lost = "Connection to the other side was lost in a non-clean fashion"
    assert scene.events == ["up", lost, "refused", "up"]


def test_a_connection_that_ends_during_the_up_callback_is_down_at_once() -> None:
    scene = Scene()
    seen: list[object] = []

    def end() -> None:
        assert scene.link.connection is not None
        scene.link.connection.abort("enough")
        seen.append(scene.link.connection)

    scene.on_up = end
    scene.link.start()
    scene.succeed()
    assert seen == [None]
    assert scene.events == ["up", "enough"]


def test_an_unexpected_exception_is_logged_and_the_link_continues(log: Log) -> None:
    scene = Scene()
    scene.link.start()
    scene.attempts[-1].errback(ZeroDivisionError("oh"))
    scene.pause()
    scene.on_up = lambda: 1 / 0  # type: ignore[assignment]
    scene.succeed().transport.reset()
    assert log.lines == ["connecting to Redis failed", "a link failed"]
    scene.pause()


# -- pings


def test_pings_measure_the_round_trip() -> None:
    scene = Scene(ping_interval=2.0)
    scene.link.start()
    wires = scene.succeed()
    for seconds in (0.0, 0.125, 0.25):
        assert wires.commands() == PING
        scene.clock.advance(seconds)
        wires.say(TIME + b"+PONG\r\n")
        assert scene.stats.round_trip == seconds
        scene.clock.advance(1.9)
        assert wires.commands() == []
        scene.clock.advance(0.1)


def test_an_unanswered_ping_ends_the_connection() -> None:
    scene = Scene(ping_interval=2.0, deadline=1.0)
    scene.link.start()
    wires = scene.succeed()
    wires.say(TIME + b"+PONG\r\n")
    scene.clock.advance(2.0)
    scene.clock.pump([0.5, 0.5, 0.03])
    assert scene.events == ["up", "no answer in 1.0 s"]
    assert wires.transport.aborted


def test_a_refused_ping_ends_the_connection() -> None:
    scene = Scene()
    scene.link.start()
    wires = scene.succeed()
    wires.say(TIME + b"-NOPERM no ping\r\n")
    assert scene.events == ["up", "NOPERM no ping"]


# -- hurry and stop


def test_redialling_ends_the_current_attempt_and_connects_at_once() -> None:
    scene = Scene(deadline=1000.0)
    scene.link.start()
    scene.fail()
    scene.link.redial("moved")  # in the pause
    assert len(scene.attempts) == 2
    scene.link.redial("moved")  # in an attempt
    assert len(scene.attempts) == 3
    wires = scene.succeed()
    scene.link.redial("moved")  # while connected
    assert wires.transport.aborted
    assert len(scene.attempts) == 4
    assert scene.events == ["no", "up", "moved"]
    scene.fail()
    scene.clock.advance(0)  # the old transport closes
    assert scene.pause() <= 0.05


@pytest.mark.parametrize("where", ["attempt", "pause", "connected"])
def test_a_change_that_follows_a_redial_is_kept(where: str) -> None:
    scene = Scene()
    scene.link.start()
    if where == "pause":
        scene.fail()
    elif where == "connected":
        scene.succeed()
    scene.link.redial("moved")
    wires = scene.succeed()
    assert len(scene.attempts) == 2
    assert scene.link.connection is wires.connection
    assert not wires.transport.aborted


def test_a_link_stops_in_every_state() -> None:
    for where in ("attempt", "pause", "connected"):
        scene = Scene()
        scene.link.start()
        wires = scene.succeed() if where == "connected" else None
        if where == "pause":
            scene.fail()
        stopped = scene.link.stop()
        if wires is not None:
            assert wires.commands() == PING
            assert not has_fired(stopped)
            wires.say(TIME + b"+PONG\r\n")
            scene.clock.advance(0)
        assert has_fired(stopped)
        assert scene.clock.getDelayedCalls() == []
        assert len(scene.attempts) == 1


def test_a_connection_established_too_late_is_closed() -> None:
    """An attempt that could not be cancelled gives one."""

    class Stubborn(Scene):
        async def _connect(self) -> Connection:
            done: Deferred[Connection] = Deferred(lambda _: done.callback(late.connection))
            return await done

    scene = Stubborn()
    late = Wires(scene.clock)
    scene.link.start()
    scene.link.stop()
    assert late.transport.aborted
    assert scene.events == []
