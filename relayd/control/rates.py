"""The rates at which counters grow, sampled every few seconds. Pure, given a clock."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.task import LoopingCall

INTERVAL = 3.0
"""Seconds between two samples."""


class Rates:
    """The rates of some counters.

    Args:
        clock: provides IReactorTime.
        read: returns the present values of the counters, by name.
    """

    def __init__(self, clock: Any, read: Callable[[], Mapping[str, int]]) -> None:
        self._clock = clock
        self._read = read
        self._rates: dict[str, float] = {}
        self._before: tuple[float, Mapping[str, int]] | None = None
        self._loop = LoopingCall(self._sample)
        self._loop.clock = clock

    def start(self) -> None:
        """Begins to sample."""
        self._loop.start(INTERVAL)

    def stop(self) -> None:
        """Stops sampling."""
        if self._loop.running:
            self._loop.stop()

    def __getitem__(self, name: str) -> float:
        """The rate per second over the last interval; 0 before the first has passed."""
        return self._rates.get(name, 0.0)

    def _sample(self) -> None:
        now, counts = self._clock.seconds(), self._read()
        if self._before is not None and now > self._before[0]:
            then, before = self._before
            self._rates = {
                name: round((count - before.get(name, 0)) / (now - then), 1)
                for name, count in counts.items()
            }
        self._before = (now, counts)
