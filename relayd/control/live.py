"""The figures of all processes as a series, for consoles: measured while one is open, once for all.

Sits under `process` and `parent`, which both offer it, on `metrics`. The first request begins to
measure; without one for a while the measuring ends, so that relayd pays nothing when nobody looks.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from relayd.cluster import Seen
from relayd.control.messages import Listing, Status
from relayd.control.worker_metrics import FigureReport
from relayd.errors import RelaydError
from relayd.logs import Logger
from relayd.logs.recent import Warned
from relayd.metrics.exchange import Family

INTERVAL = 2.0
"""Seconds between two samples."""
IDLE = 15.0
"""Seconds without a request after which the measuring ends."""
KEPT = 150
"""Samples that are kept: five minutes."""

_RATES = {
    "messages": "relayd_messages_received",
    "deliveries": "relayd_deliveries",
    "drops": "relayd_drops",
    "refused": "relayd_handshakes_refused",
}
_LATENCIES = {
    "delivery": "relayd_delivery_latency_seconds",
    "draw": "relayd_draw_latency_seconds",
    "database": "relayd_database_interaction_seconds",
    "redis": "relayd_redis_round_trip_seconds",
    "lag": "relayd_reactor_lag_seconds",
}


class Sample(msgspec.Struct, kw_only=True):
    """The figures of one interval.

    Attributes:
        time: Unix time of its end.
        clients: connections at its end.
        rates: `messages`, `deliveries`, `drops` and `refused`, each per second.
        latencies: `delivery`, `draw`, `database`, `redis` and `lag`: the median and the 99th
            percentile in seconds; without an entry where nothing was measured in the interval.
    """

    time: float
    clients: int
    rates: dict[str, float]
    latencies: dict[str, tuple[float, float]]


class View(msgspec.Struct, kw_only=True):
    """The state of all processes behind one control socket, and its recent past.

    Attributes:
        time: Unix time of the latest sample.
        interval: seconds between two samples.
        status: the processes.
        cluster: all processes that share Redis; empty without it, or while it does not answer.
        counts: totals by a label: `connections`, `groups`, `pair_sides`, `drops`, `refused`,
            `closes_sent`, `closes_received`, `errors`, `address_refusals`.
        warnings: the latest ones, the latest first.
        samples: those that were measured after the time in the request.
    """

    time: float
    interval: float
    status: Status
    cluster: list[Seen]
    counts: dict[str, dict[str, float]]
    warnings: list[Warned]
    samples: list[Sample]


class Measured(Protocol):
    """What is measured: a process, or the parent of workers."""

    async def status(self) -> Status: ...
    async def figures(self) -> FigureReport: ...
    async def cluster(self) -> Listing[Seen]: ...
    async def warnings(self) -> Listing[Warned]: ...


class Live:
    """The series.

    Args:
        clock: provides IReactorTime.
        now: returns the Unix time.
        measured: its operations.
    """

    _log = Logger()

    def __init__(self, clock: Any, now: Callable[[], float], measured: Measured) -> None:
        self._clock = clock
        self._now = now
        self._measured = measured
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._before: tuple[float, dict[str, Family]] | None = None
        self._latest: View | None = None
        self._wanted = 0.0
        self._waiting: list[Deferred[None]] = []
        self._loop = LoopingCall(self._sample)
        self._loop.clock = clock

    async def read(self, since: float) -> View:
        """The latest view; waits for it if the measuring has only begun.

        Args:
            since: the time of the latest sample that the caller has; 0 for all.
        """
        self._wanted = self._clock.seconds()
        if not self._loop.running:
            self._latest = None
        if self._latest is None:
            first: Deferred[None] = Deferred()
            self._waiting.append(first)
            if not self._loop.running:
                self._loop.start(INTERVAL)
            await first
        assert self._latest is not None
        samples = [each for each in self._samples if each.time > since]
        return msgspec.structs.replace(self._latest, samples=samples)

    def stop(self) -> None:
        """Ends the measuring."""
        if self._loop.running:
            self._loop.stop()

    def _sample(self) -> "Deferred[None] | None":
        if self._clock.seconds() - self._wanted > IDLE:
            self._loop.stop()
            self._before = None
            return None
        measuring = Deferred.fromCoroutine(self._measure())
        measuring.addErrback(self._failed)
        return measuring

    def _failed(self, failure: Any) -> None:
        if not failure.check(RelaydError):
            self._log.failure("measuring for the console failed", failure)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)

    async def _measure(self) -> None:
        measured = self._measured
        status = await measured.status()
        families = {each.name: each for each in (await measured.figures()).families}
        cluster = await _tolerant(measured.cluster())
        warnings = await measured.warnings()
        time = self._now()
        clients = sum(sum(one.connections.values()) for one in status.processes)
        if self._before is not None and time > self._before[0]:
            self._samples.append(_compare(self._before, (time, families), clients))
        self._before = (time, families)
        self._latest = View(
            time=time,
            interval=INTERVAL,
            status=status,
            cluster=cluster,
            counts=_counts(families),
            warnings=warnings.found,
            samples=[],
        )
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


async def _tolerant(cluster: Awaitable[Listing[Seen]]) -> list[Seen]:
    """The register; empty while Redis does not answer, which the status of the processes shows."""
    try:
        return (await cluster).found
    except RelaydError:
        return []


def _compare(
    before: tuple[float, Mapping[str, Family]],
    after: tuple[float, Mapping[str, Family]],
    clients: int,
) -> Sample:
    """The figures of the time between two readings."""
    seconds = after[0] - before[0]
    rates = {}
    for name, family in _RATES.items():
        grown = _total(after[1].get(family)) - _total(before[1].get(family))
        rates[name] = round(max(0.0, grown / seconds), 1)
    latencies = {}
    for name, family in _LATENCIES.items():
        old, new = _buckets(before[1].get(family)), _buckets(after[1].get(family))
        grown_buckets = [(bound, count - old.get(bound, 0.0)) for bound, count in new.items()]
        found = (quantile(grown_buckets, 0.5), quantile(grown_buckets, 0.99))
        if found[0] is not None and found[1] is not None:
            latencies[name] = (found[0], found[1])
    return Sample(time=after[0], clients=clients, rates=rates, latencies=latencies)


def quantile(buckets: Iterable[tuple[float, float]], share: float) -> float | None:
    """A quantile of a histogram, interpolated within its bucket as Prometheus does.

    Args:
        buckets: upper bounds in ascending order, and how many values are at most as large.
        share: 0.5 for the median.

    Returns:
        None without values. The largest finite bound for a value above it.
    """
    known = list(buckets)
    if not known or known[-1][1] <= 0:
        return None
    rank = share * known[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in known:
        if count >= rank and count > below:
            if math.isinf(bound):
                return lower
            return round(lower + (bound - lower) * (rank - below) / (count - below), 6)
        lower, below = bound, count
    return lower


def _total(family: Family | None) -> float:
    if family is None:
        return 0.0
    return sum(value for name, _, value in family.samples if name.endswith("_total"))


def _buckets(family: Family | None) -> dict[float, float]:
    """The counts by upper bound, summed over the labels."""
    found: dict[float, float] = {}
    for name, labels, value in family.samples if family is not None else ():
        if name.endswith("_bucket"):
            bound = float(labels["le"].replace("+Inf", "inf"))
            found[bound] = found.get(bound, 0.0) + value
    return dict(sorted(found.items()))


_COUNTED = {
    "connections": ("relayd_connections", "kind"),
    "groups": ("relayd_groups", "kind"),
    "pair_sides": ("relayd_pair_sides", "side"),
    "drops": ("relayd_drops", "reason"),
    "refused": ("relayd_handshakes_refused", "error"),
    "address_refusals": ("relayd_address_refusals", "limit"),
    "closes_sent": ("relayd_closes_sent", "code"),
    "closes_received": ("relayd_closes_received", "code"),
    "errors": ("relayd_errors_sent", "error"),
}


def _counts(families: Mapping[str, Family]) -> dict[str, dict[str, float]]:
    """The totals by label, without those that are zero."""
    found: dict[str, dict[str, float]] = {}
    for name, (family, label) in _COUNTED.items():
        counts = found[name] = {}
        for _, labels, value in families[family].samples if family in families else ():
            if value:
                key = labels.get(label, "")
                counts[key] = counts.get(key, 0.0) + value
    return found
