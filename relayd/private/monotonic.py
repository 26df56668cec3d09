"""Has a reactor time its calls by the monotonic clock, where Twisted takes the wall clock.

When the wall clock is set back, by NTP or by hand, the calls of a reactor that follows it are late
by as much: no ping, no renewal of a lease, no deadline. When it is set forward, all are early.
`IReactorTime.seconds` is public; that `callLater` and the loop of a reactor ask this method alone
is not, so that is tried first.
"""

import time
from importlib.metadata import version
from typing import Any

from relayd.logs import Logger

_log = Logger()


def use_monotonic_clock(reactor: Any) -> None:
    """Replaces the clock of a reactor; calls that are set already keep the time that is left.

    Args:
        reactor: the reactor, before it runs. `reactor.seconds` is `time.monotonic` from now on.
    """
    pending, shift = reactor.getDelayedCalls(), time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic
    probe = reactor.callLater(60, lambda: None)
    follows = 0 <= probe.getTime() - time.monotonic() <= 60
    probe.cancel()
    if not follows:
        del reactor.seconds
        _log.warn(
            "the timers of Twisted {version} go by the wall clock: they stop while it is set back",
            version=version("twisted"),
        )
        return
    for call in pending:
        call.delay(shift)
        call.seconds = time.monotonic
