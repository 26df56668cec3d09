"""The figure of the configuration: whether what runs stands in the files (`docs/metrics.md`).

Beside `totals`; the process that has read the files yields it, for all its workers.
"""

from relayd.config.drift import Drift
from relayd.metrics.exchange import Family, pack
from relayd.metrics.families import gauge


def describe_configuration(drift: Drift) -> list[Family]:
    """The number of settings whose value in the files is not the one that runs, by remedy."""
    metric = gauge(
        "configuration_differs",
        "Settings whose value in the files is not the one that runs, by what is to do. reload, "
        "restart: that; socket: systemd's socket unit replaces it; correct: the files are wrong",
        drift.counts(),
        "remedy",
    )
    return pack([metric], {})
