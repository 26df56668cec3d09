"""Counts the frames that clients did not get, by reason. Pure.

relayd leaves something out only where the protocol allows it, and counts it here: one registry for
the process, read by whoever reports on it.
"""

from collections import Counter
from enum import StrEnum


class DropReason(StrEnum):
    """Why a frame did not reach a member of its group."""

    REPLACED = "replaced"
    """The client read slowly; a newer pose of the same sender took this one's place."""
    TOO_SLOW = "too_slow"
    """The client read so slowly that it was closed with 4003; this still waited for it."""
    REDIS_AWAY = "redis_away"
    """Redis was away or busy, so other processes did not get this pose or push."""


class Drops:
    """Frames left out since the process started."""

    def __init__(self) -> None:
        self._counts = Counter[DropReason]()

    def count(self, reason: DropReason, frames: int = 1) -> None:
        """So many more were left out."""
        self._counts[reason] += frames

    def __getitem__(self, reason: DropReason) -> int:
        return self._counts[reason]

    def counts(self) -> dict[str, int]:
        """Frames by reason, every reason named."""
        return {reason.value: self._counts[reason] for reason in DropReason}
