"""Figures as they travel between processes: from a registry of prometheus-client, to text. Pure.

Sits under `collector` and `totals`. A family carries its own text and the rule for its sum, so that
a parent may sum what a worker of a newer version says.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec
from prometheus_client import exposition
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from relayd import private

Rule = Literal["sum", "max", "min"]
"""How figures of several processes become one."""
Sample = tuple[str, dict[str, str], float]
"""The name in the text (`relayd_draw_seconds_bucket`), the labels, the value."""

COUNTERS = ("counter", "histogram")
"""The types whose figures only ever grow, so that they must outlive their process."""


class Family(msgspec.Struct, frozen=True):
    """All figures of one name.

    Attributes:
        name: without `_total`, as prometheus-client has it.
        help: what it is, for a person.
        type: `counter`, `gauge` or `histogram`.
        rule: how it is summed; always by adding up if it only grows.
        samples: in the order of the text.
    """

    name: str
    help: str
    type: str
    rule: Rule
    samples: list[Sample]


def read(registry: Collector, rules: dict[str, Rule]) -> list[Family]:
    """All figures of a registry now.

    Args:
        registry: of prometheus-client.
        rules: by the families' names; what is not in it is added up.
    """
    return pack(registry.collect(), rules)


def pack(metrics: Iterable[Metric], rules: dict[str, Rule]) -> list[Family]:
    """Families of prometheus-client as ours; `rules` as in `read`."""
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
    """The figures of several processes as one; each family by its rule, label by label."""
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
    """Figures in Prometheus' text format, or in OpenMetrics if that is asked for.

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
