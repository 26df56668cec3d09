"""A token bucket, which limits the messages that a client sends. Pure, given the time.

Beside `websocket`, which has one for each client if `[limits] messages_per_second` is set.
"""


class TokenBucket:
    """Allows a burst of two seconds' worth of messages, then `rate` messages a second.

    Args:
        rate: messages a second.
        now: the time in seconds, by the same clock as in `take`.
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
