"""How late the reactor runs what is due: the first sign of a process that has too much to do.

Pure, given a clock. A timer that is due every quarter of a second notes how late it was called:
as late was everything else that the reactor calls. The hub's batches are called past it
(`native.calls`), and are not late for the same reasons.
"""

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relayd.tally import Buckets

STEP = 0.25
"""Seconds between two looks."""
MEMORY = 60.0
"""Seconds that `longest` looks back."""


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
        """Begins to look."""
        self._due = self._clock.seconds() + STEP
        self._call = self._clock.callLater(STEP, self._look)

    def stop(self) -> None:
        """Ends it."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def longest(self) -> float:
        """The greatest lateness of the last minute, in seconds, one that still lasts included."""
        now = self._clock.seconds()
        self._forget(now)
        late = max((late for _, late in self._last), default=0.0)
        return max(late, now - self._due) if self._call is not None else late

    def _look(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)
        self.seconds.observe(late)
        self._last.append((now, late))
        self._forget(now)
        self.start()

    def _forget(self, now: float) -> None:
        while self._last and self._last[0][0] < now - MEMORY:
            self._last.popleft()
