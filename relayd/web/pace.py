"""The time that a request body may take: a least rate, and an end.

Sits under `request`. Without both, a client that sends a byte now and then holds a connection, and
the file that it takes, for as long as it likes.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

WINDOW = 5.0
"""Seconds over which the rate of a body is averaged."""
REFUSED_WINDOW = 2.0
"""The same for a body that is read only to be dropped, so that the client gets its answer."""


class Pace:
    """The pace of one body, from its head on.

    Args:
        call_later: as of `IReactorTime`.
        timeout: seconds within which the whole body has to arrive.
        rate: bytes a second that have to arrive at least, averaged over a window.
        too_slow: called once if the body is slower.
    """

    def __init__(
        self,
        call_later: Callable[..., Any],
        timeout: float,
        rate: float,
        too_slow: Callable[[], object],
    ) -> None:
        self._call_later = call_later
        self._remaining = timeout
        self._rate = rate
        self._too_slow = too_slow
        self._received = 0
        self._call: IDelayedCall | None = None
        self._window = WINDOW
        self._arrange()

    def refused(self) -> None:
        """The body is dropped from now on: it has to go on, or the connection ends soon."""
        self.end()
        self._window, self._received = REFUSED_WINDOW, 0
        self._arrange()

    def received(self, size: int) -> None:
        """Some bytes have arrived."""
        self._received += size

    def end(self) -> None:
        """The body is complete, or its connection has ended."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arrange(self) -> None:
        self._step = min(self._window, self._remaining)
        self._call = self._call_later(self._step, self._look)

    def _look(self) -> None:
        self._call = None
        self._remaining -= self._step
        enough = self._received >= self._rate * self._step
        self._received = 0
        if self._remaining > 0 and enough:
            self._arrange()
        else:
            self._too_slow()
