"""The figures of one process: its registry, and the measurement of the reactor's lag.

Sits on `collector`; `node` starts and stops it, `/metrics` and the control socket read it.
"""

from relayd.config.drift import Drift
from relayd.metrics.collector import RULES, Parts, build_registry
from relayd.metrics.configuration import describe_configuration
from relayd.metrics.exchange import Family, read
from relayd.metrics.totals import describe_workers


class ProcessFigures:
    """The figures of one process.

    Args:
        parts: the parts that the figures are read from.
        drift: compares the configuration with its files; None in a worker, whose parent adds that
            figure and those of the workers.
    """

    def __init__(self, parts: Parts, drift: Drift | None) -> None:
        self._lag = parts.lag
        self._registry = build_registry(parts)
        self._drift = drift

    def start(self) -> None:
        """Begins to measure the lag."""
        self._lag.start()

    def stop(self) -> None:
        """Stops measuring the lag."""
        self._lag.stop()

    def own(self) -> list[Family]:
        """The figures of this process now."""
        found = read(self._registry, RULES)
        if self._drift is None:
            return found
        return [*found, *describe_workers(1, 1, 0, 0), *describe_configuration(self._drift)]

    async def all(self) -> list[Family]:
        """The same as a coroutine, as in `control.worker_metrics.ParentFigures`."""
        return self.own()
