"""Waits for a reader as long as it reads something.

Sits beside `outbox`.
"""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relayd.sockets.outbox import Outbox

_LOOKS = 4  # in the time that a reader may stand still


async def wait_patiently(
    outbox: Outbox, clock: IReactorTime, seconds: float, stuck: Callable[[], None]
) -> None:
    """Returns when all frames of an outbox are read (`Outbox.drained`).

    Args:
        outbox: the outbox.
        clock: for the looks at its progress.
        seconds: how long the reader may take no byte, exact to a quarter.
        stuck: called once if it takes none for that time; should begin to close the connection.

    Raises:
        CancelledError: the connection has ended, or begins to close.
    """
    drained = outbox.drained()
    if drained.called:
        await drained
        return
    watch = _Watch(outbox, clock, seconds / _LOOKS, stuck)
    try:
        await drained
    finally:
        watch.end()


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
