"""Runs the reactor of a command until one coroutine has ended. Below the commands that need it."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd.private.monotonic import use_monotonic_clock


def run_to_the_end(work: Callable[[Any], Coroutine[Any, Any, None]], *, waits: bool) -> None:
    """Runs a coroutine that may wait for the network; once for each process.

    Args:
        work: called with the reactor.
        waits: whether it may wait; if not, the reactor is not even imported.
    """
    reactor: Any = None
    if waits:
        from twisted.internet import reactor

        use_monotonic_clock(reactor)
    results: list[object] = []
    done = Deferred.fromCoroutine(work(reactor)).addBoth(results.append)
    if not results:
        done.addBoth(lambda _: reactor.stop())
        reactor.run()
    if results and isinstance(results[0], Failure):
        results[0].raiseException()
