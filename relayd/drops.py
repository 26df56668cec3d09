"""Counts the frames that clients did not get, by reason. Pure.

relayd drops a frame only where the protocol allows that, and counts the frame here. A process has
one registry, which the metrics read.
"""

from collections import Counter
from enum import StrEnum


class DropReason(StrEnum):
    """Why a frame did not reach a member of its group."""

    REPLACED = "replaced"
    """The client read slowly; a newer pose of the same sender replaced this one."""
    TOO_SLOW = "too_slow"
    """The client read so slowly that it was closed with 4003; this frame still waited for it."""
    REDIS_AWAY = "redis_away"
    """Redis was away or busy, so other processes did not get this pose or push."""
    INVALID = "invalid"
    """It came from Redis, and is no message that clients may get: another program wrote it."""


class Drops:
    """Frames dropped since the process started, by reason."""

    def __init__(self) -> None:
        self._counts = Counter[DropReason]()

    def count(self, reason: DropReason, frames: int = 1) -> None:
        """Counts dropped frames."""
        self._counts[reason] += frames

    def __getitem__(self, reason: DropReason) -> int:
        return self._counts[reason]

    def counts(self) -> dict[str, int]:
        """Frames by reason, every reason named."""
        return {reason.value: self._counts[reason] for reason in DropReason}
