"""The figures of one process: its registry, and the measurement of the reactor's lag.

Sits on `collector`; `node` starts and stops it, `/metrics` and the control socket read it.
"""

from relayd.metrics.collector import RULES, Parts, build_registry
from relayd.metrics.exchange import Family, read
from relayd.metrics.totals import describe_workers


class ProcessFigures:
    """The figures of one process.

    Args:
        parts: the parts that the figures are read from.
        alone: whether the process has no parent; for workers, the parent adds the workers' figures.
    """

    def __init__(self, parts: Parts, *, alone: bool) -> None:
        self._lag = parts.lag
        self._registry = build_registry(parts)
        self._alone = alone

    def start(self) -> None:
        """Begins to measure the lag."""
        self._lag.start()

    def stop(self) -> None:
        """Stops measuring the lag."""
        self._lag.stop()

    def own(self) -> list[Family]:
        """The figures of this process now."""
        workers = describe_workers(1, 1, 0, 0) if self._alone else []
        return [*read(self._registry, RULES), *workers]

    async def all(self) -> list[Family]:
        """The same as a coroutine, as in `control.worker_metrics.ParentFigures`."""
        return self.own()
