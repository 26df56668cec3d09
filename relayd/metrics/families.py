"""Builds one family of figures from plain values, for `collector` and `totals`. Pure."""

from collections.abc import Mapping, Sequence

from prometheus_client.core import Metric

from relayd.stores.states import State
from relayd.tally import SECONDS, Buckets

Value = float | Mapping[str, float]
"""A figure, or figures by the value of a label."""


def gauge(name: str, text: str, value: Value, label: str = "") -> Metric:
    """A figure that goes up and down."""
    return _simple(name, text, "gauge", "", value, label)


def counter(name: str, text: str, value: Value, label: str = "") -> Metric:
    """A figure that only grows; `_total` is added to the name."""
    return _simple(name, text, "counter", "_total", value, label)


def histogram(
    name: str,
    text: str,
    value: Buckets | Sequence[Buckets] | Mapping[str, Buckets],
    label: str = "",
) -> Metric:
    """A distribution: the numbers of values up to each bound.

    Args:
        name: without the prefix.
        text: the description for people.
        value: one; several, which are summed; or several by the value of a label.
        label: the name of the label.
    """
    metric = Metric(f"relayd_{name}", text, "histogram")
    if isinstance(value, Buckets):
        _add_buckets(metric, {}, [value])
    elif isinstance(value, Mapping):
        for key, buckets in value.items():
            _add_buckets(metric, {label: key}, [buckets])
    else:
        _add_buckets(metric, {}, value)
    return metric


def states(name: str, text: str, now: Mapping[str, State | None]) -> Metric:
    """Which state of the table each store has, as 1; the others are 0.

    Args:
        name: without the prefix.
        text: the description for people.
        now: the state by the name of the store; None for a store that is not used.
    """
    metric = Metric(f"relayd_{name}", text, "gauge")
    for store, held in now.items():
        for state in State if held is not None else ():
            labels = {"store": store, "state": state.value}
            metric.add_sample(metric.name, labels, int(state is held))
    return metric


def _simple(name: str, text: str, type: str, ending: str, value: Value, label: str) -> Metric:
    metric = Metric(f"relayd_{name}", text, type)
    if isinstance(value, Mapping):
        for key, one in value.items():
            metric.add_sample(metric.name + ending, {label: key}, one)
    else:
        metric.add_sample(metric.name + ending, {}, value)
    return metric


def _bound(value: float) -> str:
    """The label `le` of a bucket: a canonical number of OpenMetrics, for bounds below a million."""
    return "+Inf" if value == float("inf") else str(float(value))


def _add_buckets(metric: Metric, labels: dict[str, str], several: Sequence[Buckets]) -> None:
    bounds = several[0].bounds if several else SECONDS
    count = 0
    for place, bound in enumerate([*bounds, float("inf")]):
        count += sum(buckets.counts[place] for buckets in several)
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": _bound(bound)}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, sum(buckets.total for buckets in several))
