"""The lag of the reactor's timed calls: the first sign of an overloaded process.

Pure, given a clock. A timer that is due every quarter of a second measures how late it was called;
all other calls of the reactor are as late. The hub's batches are called by the loop that reads
(`native.calls`), so the figure does not include them.
"""

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relayd.tally import Buckets

STEP = 0.25
"""Seconds between two measurements."""
MEMORY = 60.0
"""Seconds that `longest` covers."""


class Lag:
    """The lateness of the reactor.

    Args:
        clock: the reactor.

    Attributes:
        seconds: how late each call was.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._due = 0.0
        self._last = deque[tuple[float, float]]()  # when, how late; within MEMORY
        self.seconds = Buckets()

    def start(self) -> None:
        """Begins to measure."""
        self._due = self._clock.seconds() + STEP
        self._call = self._clock.callLater(STEP, self._measure)

    def stop(self) -> None:
        """Stops measuring."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def longest(self) -> float:
        """The greatest lag of the last minute, in seconds, including one that still lasts."""
        now = self._clock.seconds()
        self._forget(now)
        late = max((late for _, late in self._last), default=0.0)
        return max(late, now - self._due) if self._call is not None else late

    def _measure(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)
        self.seconds.observe(late)
        self._last.append((now, late))
        self._forget(now)
        self.start()

    def _forget(self, now: float) -> None:
        while self._last and self._last[0][0] < now - MEMORY:
            self._last.popleft()
