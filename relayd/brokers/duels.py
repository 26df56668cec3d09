"""Duels: two programs with one UUID that reconnect at 4001 replace each other for ever.

Under `memory` and `over_redis.leases`. A takeover by itself is usual: a headset that lost its Wi-Fi
comes back before its old connection has ended. More than `MOST` within `WITHIN` seconds are not.
"""

from collections import OrderedDict
from collections.abc import Callable

from relayd.logs import Logger

MOST = 3
"""Takeovers of one side of one pair within `WITHIN` that are no duel."""
WITHIN = 30.0
QUIET = 60.0
"""Seconds after the warning about one side of one pair before another one."""
_KNOWN = 10_000

_log = Logger()


def warn_of_duel(side: str, uuid: str) -> None:
    """Logs that the connections of one side of a pair replace each other."""
    _log.warn(
        "{side} of the pair {pair}: more than {most} connections have replaced each other within "
        "{within:.0f} s; two programs seem to use one UUID, and reconnect although 4001 is final",
        side=side,
        pair=f"{uuid[:8]}…",
        most=MOST,
        within=WITHIN,
    )


class Duels:
    """Counts the takeovers of one process, of the last 10,000 sides that had any.

    Args:
        seconds: returns the time of a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._counts: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def taken_over(self, side: str, uuid: str) -> None:
        """A connection has replaced an older one; warns of a duel, once a minute for each side."""
        now = self._seconds()
        count, end = self._counts.pop((side, uuid), (0, now + WITHIN))
        if end <= now:
            count, end = 0, now + WITHIN
        count += 1
        if count == MOST + 1:
            end = now + QUIET
            warn_of_duel(side, uuid)
        self._counts[side, uuid] = (count, end)
        if len(self._counts) > _KNOWN:
            self._counts.popitem(last=False)
