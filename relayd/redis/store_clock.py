"""The store's clock, as a process knows it; deadlines of scripts by that clock.

Under `connection` and `server`. A script may wait in a socket, or in a Redis that stands still,
until long after its caller has given up. A script made by `timely` and run by
`RedisServer.run_timely` carries its deadline along, as a time of the store's own clock (TIME), and
does nothing after it. So once a caller has given up, nothing is carried out for it any more.

The process learns the difference between the clocks whenever a connection begins, so that each
server, a restarted or promoted one too, has its own, and with each ping. A clock that steps
forwards makes a script late too early; one that steps back is noticed, since the window of a script
begins when it was sent. Both do nothing, and the caller asks for the time and tries again.
"""

from typing import Any

from relayd.redis.commands import Script, pack

ASK_TIME = pack(("TIME",))

LATE = b"LATE"
"""What a script answers that came outside of its window, and did nothing."""

_DRIFT = 0.001
"""Seconds in a second by which two clocks run apart at most; NTP slews by half of that."""

_WINDOW = """
local store_now, store_end = redis.call('TIME'), tonumber(ARGV[#ARGV])
store_now = store_now[1] * 1000 + store_now[2] / 1000
if store_now < tonumber(ARGV[#ARGV - 1]) or store_now > store_end then
  return redis.status_reply('LATE')
end
"""


def timely(text: str) -> Script:
    """A script for `RedisServer.run_timely`, which passes the window as the last two of ARGV.

    Args:
        text: the script; `store_now` and `store_end` are the store's time and the end of the
            window, in ms.
    """
    return Script(_WINDOW + text)


class StoreClock:
    """The clock of the Redis at the other end of a connection.

    Times of the process are of the reactor's clock, in seconds. What is known is a range: the store
    read its clock at some moment between the question and the answer.
    """

    def __init__(self) -> None:
        # what the store's clock is ahead by, in seconds, at least and at most, and when
        self._least = self._most = 0.0
        self._at: float | None = None

    def learn(self, asked: float, answered: float, reply: Any) -> None:
        """Takes in one answer to TIME.

        Args:
            asked: when the question was sent.
            answered: when the answer came.
            reply: the answer: seconds and microseconds.
        """
        time = int(reply[0]) + int(reply[1]) / 1e6
        least, most = time - answered, time - asked
        if self._at is not None:
            drift = _DRIFT * max(0.0, answered - self._at)
            both = max(least, self._least - drift), min(most, self._most + drift)
            if both[0] <= both[1]:  # else one of the clocks has stepped
                least, most = both
        self._least, self._most, self._at = least, most, answered

    def window(self, now: float, seconds: float) -> tuple[int, int]:
        """When a script that is sent now may be carried out.

        Args:
            now: the time.
            seconds: until its deadline.

        Returns:
            Unix times in ms of the store's clock: not before the first, and not after the second.
            The second is certainly not after the deadline.
        """
        at = now if self._at is None else self._at
        least = self._least - _DRIFT * max(0.0, now - at)
        return int((now + least) * 1000), int((now + least + seconds) * 1000)
