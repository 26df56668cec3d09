"""The lag of the reactor's timed calls: the first sign of an overloaded process.

Pure, given a clock. A timer that is due every quarter of a second measures how late it was called;
all other calls of the reactor are as late. The hub's batches are called by the loop that reads
(`native.calls`), so the figure does not include them. From the first call that is later than a
bound, no history is read for clients that join; while the lag stays above it, the process is
overloaded, and admits nobody.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relayd.logs import Logger
from relayd.tally import Buckets

STEP = 0.25
"""Seconds between two measurements."""
MEMORY = 60.0
"""Seconds that `longest` covers."""
LATE = 3
"""So many measurements in a row above the bound, and the process is overloaded: one alone may be
that of a process that was stopped for a while."""


class Lag:
    """The lateness of the reactor.

    Args:
        clock: the reactor.
        bound: returns the lag, in seconds, above which the process is overloaded; 0 for never.

    Attributes:
        seconds: how late each call was.
        overloaded: whether calls were late so often that nobody new should be admitted; until one
            is less than half as late.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, bound: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._bound = bound
        self._late = 0
        self.overloaded = False
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

    @property
    def is_late(self) -> bool:
        """Whether the last call was later than the bound, or the next one is already."""
        if self.overloaded or self._late:
            return True
        bound = self._bound()
        return bool(bound) and self._call is not None and self._clock.seconds() - self._due >= bound

    def _measure(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)
        self.seconds.observe(late)
        self._last.append((now, late))
        self._forget(now)
        self._judge(late)
        self.start()

    def _judge(self, late: float) -> None:
        """Notes whether the process is overloaded, and logs when that changes."""
        bound = self._bound()
        self._late = self._late + 1 if bound and late >= bound else 0
        if self._late >= LATE and not self.overloaded:
            self.overloaded = True
            self._log.warn(
                "overloaded: the loop is {late:.2f} s late; new clients get 503 overloaded",
                late=late,
            )
        elif self.overloaded and (not bound or late < bound / 2):
            self.overloaded = False
            self._log.info("no longer overloaded: new clients are admitted again")

    def _forget(self, now: float) -> None:
        while self._last and self._last[0][0] < now - MEMORY:
            self._last.popleft()
