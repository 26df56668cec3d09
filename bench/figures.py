"""From measurements to statements: medians, paired ratios, and whether a target is met."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.measured import Measured

Rounds = dict[int, Measured]
"""The measurements of one server under one load, by the number of the round."""

Results = dict[str, dict[str, Rounds]]
"""All measurements: load, server, round."""

KB = 1000.0

METRICS: dict[str, Callable[[Measured], float]] = {
    "per_cpu": lambda measured: measured.per_cpu,
    "per_second": lambda measured: measured.per_second,
    "p50": lambda measured: measured.p50,
    "p99": lambda measured: measured.p99,
    "rss": lambda measured: measured.rss,
    "lost": lambda measured: float(measured.lost + measured.extra),
}


@dataclass(frozen=True)
class Spread:
    """The middle of some figures, the smallest, the largest, and how many they are."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of at least one figure."""
        return cls(statistics.median(values), min(values), max(values), len(values))


def spread(rounds: Rounds, metric: str) -> Spread | None:
    """Of a metric over the rounds; None if there are none."""
    values = [METRICS[metric](each) for each in rounds.values()]
    return Spread.of(values) if values else None


def ratio(mine: Rounds, theirs: Rounds, metric: str) -> Spread | None:
    """Of the ratios mine / theirs, each of one round; None if no round has both."""
    pairs = [
        (METRICS[metric](mine[number]), METRICS[metric](theirs[number]))
        for number in sorted(mine.keys() & theirs.keys())
    ]
    values = [mine_ / theirs_ for mine_, theirs_ in pairs if theirs_ and mine_ < math.inf]
    return Spread.of(values) if values else None


@dataclass(frozen=True)
class Target:
    """Something that relayd is to reach.

    Attributes:
        load: name of the load.
        metric: what is looked at, a key of `METRICS`.
        peer: the server whose figure relayd's is divided by, "channels" for the best layer under
            uvicorn, or "" for relayd's figure itself.
        least, most: the bounds; None for none.
    """

    load: str
    metric: str
    peer: str
    least: float | None = None
    most: float | None = None


TARGETS = [
    *(
        Target(load, "per_cpu", peer, least=least)
        for load, bounds in (
            ("fanout", (("gorilla", 1.25), ("picows", 1.0), ("channels", 9.0))),
            ("rooms", (("gorilla", 1.25), ("picows", 1.0), ("channels", 9.0))),
            ("crowd", (("gorilla", 6.0), ("picows", 5.0), ("channels", 60.0))),
        )
        for peer, least in bounds
    ),
    Target("crowd", "p99", "", most=0.012),
    Target("crowd", "lost", "", most=0.0),
    Target("pairs-1000", "per_cpu", "gorilla", least=1.0),
    Target("pairs-1000", "p99", "gorilla", most=1.0),
    Target("pairs-1000000", "per_second", "gorilla", least=100.0),
    Target("idle", "rss", "", most=10 * KB),
    Target("idle", "rss", "daphne-memory", most=1 / 3),
    Target("quiet", "p50", "gorilla", most=1.0),
    Target("quiet", "p50", "picows", most=1.0),
]


def has_target(load: str, server: str) -> bool:
    """Whether some target of the load needs the server's figures."""
    family = "channels" if server.startswith("uvicorn-") else server
    return server in ("relayd", "before") or any(
        target.load == load and target.peer == family for target in TARGETS
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a target is met; `found` is None if nothing was measured for it."""

    target: Target
    found: Spread | None

    @property
    def met(self) -> bool:
        """Whether the median is within the bounds."""
        return self.found is not None and self._within(self.found.median)

    @property
    def clear(self) -> bool:
        """Whether every round says what the median says."""
        found = self.found
        return found is not None and all(
            self._within(value) == self.met for value in (found.low, found.high)
        )

    def _within(self, value: float) -> bool:
        target = self.target
        return (target.least is None or value >= target.least) and (
            target.most is None or value <= target.most
        )


def best_channels(results: Results, load: str) -> str | None:
    """The Channels layer under uvicorn that delivers most per CPU second; None without any."""
    found = {
        name: figure.median
        for name, rounds in results.get(load, {}).items()
        if name.startswith("uvicorn-") and (figure := spread(rounds, "per_cpu"))
    }
    return max(found, key=lambda name: found[name]) if found else None


def judge(results: Results) -> list[Verdict]:
    """Holds the results against all targets."""
    verdicts = []
    for target in TARGETS:
        servers = results.get(target.load, {})
        mine = servers.get("relayd", {})
        if not target.peer:
            verdicts.append(Verdict(target, spread(mine, target.metric)))
            continue
        peer = best_channels(results, target.load) if target.peer == "channels" else target.peer
        verdicts.append(Verdict(target, ratio(mine, servers.get(peer or "", {}), target.metric)))
    return verdicts
