"""From measurements to statements: medians, paired ratios, and where a peer is ahead."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
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
    "cpu": lambda measured: measured.cpu,
    "cpu_each": lambda measured: measured.cpu / measured.deliveries if measured.deliveries else 0.0,
    "share": lambda measured: measured.share,
    "p50": lambda measured: measured.p50,
    "p99": lambda measured: measured.p99,
    "beside_p50": lambda measured: measured.beside_p50,
    "beside_p99": lambda measured: measured.beside_p99,
    "rss": lambda measured: measured.rss,
    "pss": lambda measured: measured.pss,
    "lost": lambda measured: float(measured.lost + measured.extra),
    "unopened": lambda measured: float(measured.connections - measured.opened),
    "last": lambda measured: measured.last,
    "connect": lambda measured: measured.cpu / measured.opened if measured.opened else math.inf,
}
_MAY_LOSE = 0.01
MORE_IS_BETTER = ("per_cpu", "per_second")


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
    """Of the ratios mine / theirs, each of one round; None if no round has both.

    What is for ever with both, or nothing with the peer, has no ratio.
    """
    values = [
        mine_ / theirs_
        for mine_, theirs_ in _pairs(mine, theirs, metric)
        if theirs_ and not (math.isinf(mine_) and math.isinf(theirs_))
    ]
    return Spread.of(values) if values else None


def difference(mine: Rounds, theirs: Rounds, metric: str) -> Spread | None:
    """Of the differences mine - theirs, each of one round; None if no round has both."""
    values = [
        mine_ - theirs_
        for mine_, theirs_ in _pairs(mine, theirs, metric)
        if not math.isinf(theirs_)
    ]
    return Spread.of(values) if values else None


def _pairs(mine: Rounds, theirs: Rounds, metric: str) -> list[tuple[float, float]]:
    return [
        (METRICS[metric](mine[number]), METRICS[metric](theirs[number]))
        for number in sorted(mine.keys() & theirs.keys())
    ]


def is_peer(server: str) -> bool:
    """Whether it is somebody else's."""
    return server != "before" and not server.startswith("relayd")


def best(servers: dict[str, Rounds], names: Iterable[str], metric: str) -> str | None:
    """Which of the servers has the best median; None if none was measured."""
    found = {
        name: figure.median
        for name in names
        if (figure := spread(servers.get(name, {}), metric)) is not None
    }
    if not found:
        return None
    return (max if metric in MORE_IS_BETTER else min)(found, key=lambda name: found[name])


def best_channels(results: Results, load: str) -> str | None:
    """The Channels layer under uvicorn that delivers most per CPU second; None without any."""
    servers = results.get(load, {})
    return best(servers, (name for name in servers if name.startswith("uvicorn-")), "per_cpu")


def loses(rounds: Rounds) -> bool:
    """Whether more than one message in a hundred did not come: what is left is less work."""
    expected = sum(each.expected for each in rounds.values())
    return sum(each.lost for each in rounds.values()) > _MAY_LOSE * expected


def ahead(mine: Rounds, theirs: Rounds, metrics: Sequence[str]) -> list[str]:
    """In which of the metrics the peer is better, by the median of the ratios, to a hundredth.

    A peer that does not do the job, because it loses messages, is ahead in nothing.
    """
    if loses(theirs):
        return []
    found = []
    for metric in metrics:
        figure = ratio(mine, theirs, metric)
        if figure is None:
            continue
        rounded = figure.median if math.isinf(figure.median) else round(figure.median, 2)
        if rounded < 1 if metric in MORE_IS_BETTER else rounded > 1:
            found.append(metric)
    return found
