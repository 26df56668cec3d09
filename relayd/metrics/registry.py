"""The figures of one process: a registry of its own, and the clock that watches the reactor.

Sits on `collector`; `node` starts and stops it, `/metrics` and the control socket ask it.
"""

from relayd.metrics.collector import RULES, Parts, make_registry
from relayd.metrics.exchange import Family, read
from relayd.metrics.totals import describe_workers


class ProcessFigures:
    """The figures of one process.

    Args:
        parts: what the figures are read from.
        alone: whether it is all there is; a worker leaves it to its parent to speak of workers.
    """

    def __init__(self, parts: Parts, *, alone: bool) -> None:
        self._lag = parts.lag
        self._registry = make_registry(parts)
        self._alone = alone

    def start(self) -> None:
        """Begins to watch the reactor."""
        self._lag.start()

    def stop(self) -> None:
        """Ends it."""
        self._lag.stop()

    def own(self) -> list[Family]:
        """The figures of this process now."""
        workers = describe_workers(1, 1, 0, 0) if self._alone else []
        return [*read(self._registry, RULES), *workers]

    async def all(self) -> list[Family]:
        """The same, for whoever may have to wait for it elsewhere."""
        return self.own()
