"""A token bucket: how many messages a client may send. Pure, given the time."""


class TokenBucket:
    """Two seconds' worth of messages at once, then so many a second.

    Args:
        rate: messages a second.
        now: the time in seconds, of whatever clock `take` is called with.
    """

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, 2 * rate)
        self._at = now

    def take(self, now: float) -> bool:
        """Takes one token; False if there is none."""
        full = max(1.0, 2 * self._rate)
        self._tokens = min(full, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
