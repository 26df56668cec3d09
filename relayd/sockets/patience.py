"""Waits for a reader as long as it reads something.

Sits beside `outbox`.
"""

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from relayd.sockets.outbox import Outbox

_LOOKS = 4  # in the time that a reader may stand still


async def wait_patiently(
    outbox: Outbox, clock: IReactorTime, seconds: float, stuck: Callable[[], None]
) -> bool:
    """Returns when all frames of an outbox are read (`Outbox.drained`), or will never be.

    Not by an exception: its traceback, which Twisted keeps, would hold the connection until the
    garbage collector runs.

    Args:
        outbox: the outbox.
        clock: for the looks at its progress.
        seconds: how long the reader may take no byte, exact to a quarter.
        stuck: called once if it takes none for that time; should begin to close the connection.

    Returns:
        False if the connection has ended or is about to.
    """
    if outbox.finished:
        return False
    if not outbox.blocked:
        return True
    watch = _Watch(outbox, clock, seconds / _LOOKS, stuck)
    ended = await outbox.drained().addErrback(_is_end)
    watch.end()
    return not ended and not outbox.finished


def _is_end(failure: Failure) -> bool:
    failure.trap(CancelledError)
    return True


class _Watch:
    """Looks at the progress of an outbox until `end`."""

    def __init__(
        self, outbox: Outbox, clock: IReactorTime, interval: float, stuck: Callable[[], None]
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._interval = interval
        self._stuck = stuck
        self._progress = outbox.progress
        self._idle = 0  # looks that found no progress
        self._next: IDelayedCall | None = clock.callLater(interval, self._look)

    def _look(self) -> None:
        self._next = None
        before, self._progress = self._progress, self._outbox.progress
        self._idle = self._idle + 1 if self._progress == before else 0
        if self._idle < _LOOKS:
            self._next = self._clock.callLater(self._interval, self._look)
        else:
            self._stuck()

    def end(self) -> None:
        """Looks no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
