"""How a process keeps itself registered, whatever Redis does; the table of `relayctl status`."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.cluster import INTERVAL, Membership, Report, Seen
from relayd.ctl import cluster as ctl
from relayd.errors import RedisUnavailable
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from tests.unit.fakes import has_fired, logged_lines, success


def report(**known: Any) -> Report:
    """A report with these members."""
    members: dict[str, Any] = {
        "id": "p1", "version": "0.1.0", "host": "web", "pid": 7, "worker": None, "started": 0.0,
        "listen": [], "connections": {}, "groups": 0, "delivered": 0, "drops": {},
        "redis_round_trip": None, "draining": False,
    }  # fmt: skip
    return Report(**{**members, **known})


class Server:
    """A Redis that notes what it is told, and answers as the test wants."""

    def __init__(self) -> None:
        self.available = True
        self.told: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.answers: list[Deferred[None]] | None = None  # that are given by hand
        self._watchers: list[Callable[[bool], None]] = []

    def find(self, key: str) -> "Server":
        assert key == "x:processes"
        return self

    def watch(self, callback: Callable[[bool], None]) -> None:
        self._watchers.append(callback)

    def turn(self, available: bool) -> None:
        self.available = available
        for callback in self._watchers:
            callback(available)

    async def run(self, script: Script, keys: Any, args: Any) -> None:
        self.told.append(("report", *keys, msgspec.json.decode(args[1], type=Report)))
        await self._answer()

    async def call(self, *words: Any) -> None:
        self.told.append(words)
        await self._answer()

    async def _answer(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.answers is not None:
            answer: Deferred[None] = Deferred()
            self.answers.append(answer)
            await answer


class Scene:
    """A process that is to be registered."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.redis = Server()
        self.report = report()
        redis: Any = self.redis
        self.membership = Membership(redis, self.clock, "x", self._copy, "p1")
        self.log: list[str] = []

    def reports(self) -> list[Report]:
        """What was reported since the last time."""
        told, self.redis.told = self.redis.told, []
        return [each[-1] for each in told if each[0] == "report"]

    def pass_by(self, seconds: float) -> None:
        """Time goes on, in small steps."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)

    def _copy(self) -> Report:
        return msgspec.structs.replace(self.report)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A process that has begun to report, and its log."""
    scene = Scene()
    with logged_lines("relayd.cluster") as scene.log:
        scene.membership.start()
        yield scene


def test_a_process_reports_at_once_and_every_three_seconds(scene: Scene) -> None:
    assert scene.redis.told[0][1:4] == ("x:process:p1:status", "x:process:p1:last", "x:processes")
    assert len(scene.reports()) == 1
    scene.pass_by(9)
    assert len(scene.reports()) == 3


def test_no_report_is_sent_while_redis_is_unavailable_and_one_right_after(scene: Scene) -> None:
    scene.reports()
    scene.redis.turn(False)
    scene.pass_by(60)
    assert scene.reports() == []
    scene.redis.turn(True)
    assert len(scene.reports()) == 1
    assert scene.log == []


def test_a_report_that_fails_is_followed_by_the_next_one(scene: Scene) -> None:
    scene.redis.failure = RedisUnavailable("no answer")
    scene.pass_by(6)
    scene.redis.failure = None
    scene.reports()
    scene.pass_by(3)
    assert len(scene.reports()) == 1
    assert scene.log == []


def test_a_refusal_of_redis_is_logged_once_until_the_command_works_again(scene: Scene) -> None:
    for _ in range(2):
        scene.redis.failure = RedisRefused("WRONGTYPE no")
        scene.pass_by(9)
        scene.redis.failure = None
        scene.pass_by(3)
    assert scene.log == ["this process cannot be registered, will retry: WRONGTYPE no"] * 2


def test_the_rate_is_what_was_delivered_between_two_reports(scene: Scene) -> None:
    scene.report.delivered = 600
    scene.pass_by(3)
    scene.report.delivered = 900
    scene.pass_by(3)
    assert [each.deliveries_per_second for each in scene.reports()] == [0.0, 200.0, 100.0]


def test_an_extra_report_does_not_spoil_the_rate(scene: Scene) -> None:
    scene.reports()
    scene.report.delivered = 600
    scene.pass_by(INTERVAL)
    scene.report.delivered = 601
    scene.membership.report_now()
    scene.pass_by(INTERVAL)
    assert [each.deliveries_per_second for each in scene.reports()] == [200.0, 200.0, 0.3]


def test_a_draining_process_may_report_between_two_regular_reports(scene: Scene) -> None:
    scene.reports()
    scene.report.draining = True
    scene.membership.report_now()
    assert [each.draining for each in scene.reports()] == [True]


def test_a_stopping_process_removes_its_registration(scene: Scene) -> None:
    scene.reports()
    success(scene.membership.stop())
    assert scene.redis.told == [
        ("DEL", "x:process:p1:status", "x:process:p1:last"),
        ("ZREM", "x:processes", "p1"),
    ]
    scene.pass_by(60)
    scene.redis.turn(False)
    scene.redis.turn(True)
    scene.membership.report_now()
    assert len(scene.redis.told) == 2


def test_a_report_in_flight_does_not_follow_the_removal(scene: Scene) -> None:
    scene.redis.answers = []
    scene.membership.report_now()
    scene.redis.told.clear()
    stopped = scene.membership.stop()
    assert scene.redis.told == []
    for _ in range(3):
        scene.redis.answers.pop().callback(None)
    success(stopped)
    assert [words[0] for words in scene.redis.told] == ["DEL", "ZREM"]


@pytest.mark.parametrize("failure", [RedisUnavailable("away"), RedisRefused("WRONGTYPE no")])
def test_stopping_does_not_fail_when_redis_does(scene: Scene, failure: Exception) -> None:
    scene.redis.failure = failure
    success(scene.membership.stop())


def test_stopping_before_the_start_does_no_harm(scene: Scene) -> None:
    other = Scene()
    assert has_fired(other.membership.stop())


# -- the table


def test_the_table_shows_live_and_dead_processes() -> None:
    busy = report(
        id="p1", worker=1, connections={"camera": 3, "chat": 1}, groups=2,
        deliveries_per_second=1234.5, drops={"replaced": 2, "too_slow": 1},
    )  # fmt: skip
    idle = report(id="p2", connections={"chat": 1})
    lost = report(id="p3", connections={"chat": 9})
    processes = [
        Seen(id="p1", state="ok", seen=5.0, report=busy),
        Seen(id="p2", state="draining", seen=5.0, report=idle),
        Seen(id="p3", state="gone", seen=3600.0, report=lost),
        Seen(id="p4", state="gone", seen=3601.0, report=None),
    ]
    assert ctl.as_text(processes, "relayd") == (
        "ID  HOST  PID   VERSION  UP SINCE (UTC)       CLIENTS  GROUPS  DELIVERIES/S  DROPS"
        "  STATE\n"
        "p1  web   7 w1  0.1.0    1970-01-01 00:00:00        4       2        1234.5      3  ok\n"
        "p2  web   7     0.1.0    1970-01-01 00:00:00        1       0           0.0      0"
        "  draining\n"
        "p3  web   7     0.1.0    1970-01-01 00:00:00        -       -             -      -"
        "  gone since 01:00:00\n"
        "p4  -     -     -        -                          -       -             -      -"
        "  gone since 01:00:01\n"
        "\n"
        "2 processes, 5 clients (camera 3, chat 2), 1234.5 deliveries/s, 3 drops; 2 gone"
    )
