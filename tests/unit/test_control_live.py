"""The series for consoles: measured while one asks, rates and quantiles of what has grown."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.control.live import IDLE, INTERVAL, KEPT, Live, View, quantile
from relayd.control.messages import Listing, Status
from relayd.control.worker_metrics import FigureReport
from relayd.errors import ErrorCode, RedisUnavailable, Refusal
from relayd.metrics.exchange import pack
from relayd.metrics.families import counter, gauge, histogram
from relayd.tally import Buckets
from tests.unit.fakes import failure, has_fired, success


class Process:
    """A process whose figures the test sets."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.measured = 0
        self.received = 0
        self.drops = {"too_slow": 0, "replaced": 0}
        self.latency = Buckets()
        self.refusal: Refusal | None = None
        self.pending: Deferred[None] | None = None
        measured: Any = self
        self.live = Live(self.clock, lambda: 1000.0 + self.clock.seconds(), measured)

    async def status(self) -> Status:
        self.measured += 1
        if self.refusal is not None:
            raise self.refusal
        if self.pending is not None:
            await self.pending
        return Status(pid=1, processes=[])

    async def figures(self) -> FigureReport:
        metrics = [
            gauge("connections", "-", {"camera": 2, "chat": 0}, "kind"),
            counter("messages_received", "-", {"camera": self.received, "chat": 0}, "kind"),
            counter("drops", "-", self.drops, "reason"),
            histogram("delivery_latency_seconds", "-", self.latency),
        ]
        return FigureReport(process="a", families=pack(metrics, {}))

    async def cluster(self) -> Listing[Any]:
        raise RedisUnavailable("down")

    async def warnings(self) -> Listing[Any]:
        return Listing(found=[], total=0)

    def read(self, since: float = 0) -> "Deferred[View]":
        return Deferred.fromCoroutine(self.live.read(since))


def test_nothing_is_measured_until_a_console_asks_and_again_after_the_last_one() -> None:
    process = Process()
    process.clock.advance(60)
    assert process.measured == 0
    view = success(process.read())
    assert (view.time, view.samples, view.cluster) == (1060.0, [], [])
    assert view.counts["connections"] == {"camera": 2}
    process.clock.pump([INTERVAL] * round(IDLE / INTERVAL + 3))
    measured = process.measured
    process.clock.pump([INTERVAL] * 10)
    assert process.measured == measured
    assert not process.clock.getDelayedCalls()
    success(process.read())
    assert process.measured == measured + 1
    process.live.stop()
    assert not process.clock.getDelayedCalls()


def test_many_consoles_cost_one_measurement_an_interval() -> None:
    process = Process()
    for _ in range(50):
        success(process.read())
    assert process.measured == 1
    process.clock.advance(INTERVAL)
    for _ in range(50):
        success(process.read())
    assert process.measured == 2


def test_a_sample_has_what_has_grown_since_the_one_before() -> None:
    process = Process()
    success(process.read())
    process.received, process.drops["too_slow"] = 30, 4
    for seconds in (0.002, 0.002, 0.002, 0.4):
        process.latency.observe(seconds)
    process.clock.advance(INTERVAL)
    [sample] = success(process.read()).samples
    assert sample.rates == {"messages": 15.0, "deliveries": 0.0, "drops": 2.0, "refused": 0.0}
    median, slowest = sample.latencies["delivery"]
    assert 0.001 < median < 0.0025
    assert 0.25 < slowest <= 0.5
    assert "draw" not in sample.latencies
    assert success(process.read(sample.time)).samples == []
    process.received = 0  # a worker that does not answer
    process.clock.advance(INTERVAL)
    [later] = success(process.read(sample.time)).samples
    assert later.rates["messages"] == 0.0
    assert later.latencies == {}


def test_the_series_is_bounded() -> None:
    process = Process()
    for _ in range(KEPT + 20):
        success(process.read())
        process.clock.advance(INTERVAL)
    assert len(success(process.read()).samples) == KEPT


def test_a_refusal_reaches_the_consoles_that_wait_and_the_next_measurement_may_succeed() -> None:
    process = Process()
    process.refusal = Refusal(ErrorCode.INTERNAL)
    assert failure(process.read(), Refusal)
    waiting = process.read()
    assert not has_fired(waiting)
    process.refusal = None
    process.clock.advance(INTERVAL)
    assert success(waiting).time == 1000.0 + INTERVAL


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 1.0), (0.25, 0.5), (0.75, 2.0), (0.99, 2.0), (0.0, 0.0)]
)
def test_a_quantile_is_interpolated_within_its_bucket(share: float, value: float) -> None:
    buckets = [(1.0, 4.0), (2.0, 6.0), (float("inf"), 8.0)]
    assert quantile(buckets, share) == pytest.approx(value)


def test_a_histogram_without_values_has_no_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile([(1.0, 0.0), (float("inf"), 0.0)], 0.5) is None
