"""Whether a connection is read, and the reasons why not.

Sits under `handshake` and `receiving`, which pause reading for reasons of their own.
"""

from enum import IntFlag
from typing import Any


class Pause(IntFlag):
    """Why a connection is not read: it is read again when no reason is left."""

    EARLY = 1
    """More came during the admission than a head may have."""
    IN_PROGRESS = 2
    """Too many of its messages are in progress."""
    GROUP = 4
    """Its group sends what came before."""
    SLICE = 8
    """Others have their turn before the rest of what was read is parsed."""


class Pausing:
    """A connection whose reading pauses while there is a reason."""

    transport: Any
    _pauses = Pause(0)

    @property
    def reading(self) -> bool:
        """Whether the peer is read."""
        return not self._pauses

    def pause_reading(self, why: Pause) -> None:
        """Stops reading from the peer; TCP's flow control then slows the peer down."""
        before, self._pauses = self._pauses, self._pauses | why
        if not before:
            self.transport.pauseProducing()

    def resume_reading(self, why: Pause) -> None:
        """Reads from the peer again, unless there is another reason not to."""
        before, self._pauses = self._pauses, self._pauses & ~why
        if before and not self._pauses:
            self.transport.resumeProducing()
