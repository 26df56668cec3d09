"""Waiting for what no frame tells, and a process that does nothing meanwhile."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

from tests.integration.clients import PATIENCE
from tests.suspension import suspend


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Returns when the condition holds: after so many seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not come"
        time.sleep(0.01)
    return time.monotonic() - start


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process does nothing meanwhile."""
    suspend(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
