"""Figures between processes: from a registry of prometheus-client, to text. Pure.

Sits under `collector` and `totals`. A family carries its own text and the rule for its sum, so that
a parent can sum the figures of workers of a newer version.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec
from prometheus_client import exposition
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from relayd import private

Rule = Literal["sum", "max", "min"]
"""How figures of several processes are combined."""
Sample = tuple[str, dict[str, str], float]
"""The name in the text (`relayd_draw_seconds_bucket`), the labels, the value."""

COUNTERS = ("counter", "histogram")
"""The types whose figures only grow, so that they are kept after their process has died."""


class Family(msgspec.Struct, frozen=True):
    """All figures of one name.

    Attributes:
        name: without `_total`, as in prometheus-client.
        help: the description for people.
        type: `counter`, `gauge` or `histogram`.
        rule: how it is combined; figures that only grow are always summed.
        samples: in the order of the text.
    """

    name: str
    help: str
    type: str
    rule: Rule
    samples: list[Sample]


def read(registry: Collector, rules: dict[str, Rule]) -> list[Family]:
    """Reads all present figures of a registry.

    Args:
        registry: of prometheus-client.
        rules: by the names of families; families without a rule are summed.
    """
    return pack(registry.collect(), rules)


def pack(metrics: Iterable[Metric], rules: dict[str, Rule]) -> list[Family]:
    """Converts families of prometheus-client to ours; `rules` as in `read`."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            rules.get(metric.name, "sum"),
            [(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def merge(sources: Iterable[Iterable[Family]]) -> list[Family]:
    """Combines the figures of several processes; each family by its rule, label by label."""
    found: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in sources:
        for family in families:
            first = found.setdefault(family.name, family)
            combine = _COMBINE["sum" if first.type in COUNTERS else first.rule]
            known = values.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = (name, tuple(sorted(labels.items())))
                known[key] = combine(known[key], value) if key in known else value
    return [
        msgspec.structs.replace(
            family,
            samples=[(name, dict(labels), value) for (name, labels), value in values[key].items()],
        )
        for key, family in found.items()
    ]


def growing(families: Iterable[Family]) -> list[Family]:
    """The families that only grow, which are kept after their process has died."""
    return [family for family in families if family.type in COUNTERS]


def to_text(families: Iterable[Family], accept: str | None) -> tuple[bytes, str]:
    """Figures in Prometheus' text format, or in OpenMetrics if `accept` prefers that.

    Args:
        families: the figures.
        accept: the `Accept` header of the request.

    Returns:
        The text and its `Content-Type`.
    """
    encoder, content_type = private.metrics_encoder(exposition, accept or "")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(families))
    return encoder(registry), content_type


class _Fixed(Collector):
    """Figures that are known already."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in sorted(self._families, key=lambda family: family.name):
            metric = Metric(family.name, family.help, family.type)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric


_COMBINE: dict[str, Callable[[float, float], float]] = {
    "sum": lambda one, other: one + other,
    "max": max,
    "min": min,
}
