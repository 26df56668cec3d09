"""The answer of /metrics of a spawned relayd, parsed by Prometheus' own client."""

import re

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import Daemon


def scrape(daemon: Daemon) -> dict[str, Metric]:
    """All families, by the names that stand in the text."""
    status, text = daemon.get("/metrics")
    assert status == 200, text
    return {
        metric.name + ("_total" if metric.type == "counter" else ""): metric
        for metric in text_string_to_metric_families(text)
    }


def value(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    """One figure; of a histogram, how many values it has."""
    family = re.sub("_count$", "", name)
    [found] = [
        sample.value
        for sample in metrics[family].samples
        if sample.name == name and sample.labels == labels
    ]
    return float(found)
