"""HTTP requests in turns: together they get a few milliseconds of a turn of the reactor.

Sits under `frontdoor`. A client may send hundreds of requests at once (RFC 9112 section 9.3.2), and
many clients may do so in the same moment. Answered one after the other, they would make every frame
wait. So requests beyond the budget of a turn wait in one queue, the further ones of a connection
behind those of all others.
"""

import time
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

BUDGET = 0.004
"""Seconds of a turn for HTTP requests; the one in progress at that time is the last."""


class Turns:
    """The requests of one process.

    Args:
        clock: for the next turn.
        now: seconds, by a clock that is not set.
    """

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._now = now
        self._spent = 0.0
        self._queue: deque[Callable[[], object]] = deque()
        self._next: IDelayedCall | None = None

    def run(self, call: Callable[[], object]) -> bool:
        """Makes a call now, or in a later turn if the budget of this one is spent.

        Returns:
            Whether the call was made now.
        """
        if self._queue or self._spent >= BUDGET:
            self.later(call)
            return False
        began = self._now()
        try:
            call()
        finally:
            self._spent += self._now() - began
            self._arrange()
        return True

    def later(self, call: Callable[[], object]) -> None:
        """Makes a call in the next turn, behind those that wait already."""
        self._queue.append(call)
        self._arrange()

    def _arrange(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        self._next = None
        self._spent = 0.0
        end = self._now() + BUDGET
        try:
            while self._queue:
                self._queue.popleft()()
                if self._now() >= end:
                    break
        finally:
            if self._queue:
                self._arrange()
