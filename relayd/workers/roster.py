"""A parent's list of its workers: which of them run and serve, and when one starts again.

Under `supervisor`, which keeps it up to date. Pure: the time is an argument.
"""

import os
from collections.abc import Iterator
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from relayd.control.worker_metrics import Workers

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that keeps dying is started for the third time, and at the most."""
STEADY = 10.0
"""Seconds that a worker has to serve until its next death counts as its first."""


def count(workers: int | str) -> int:
    """How many `[server] workers` are: "auto" is one for each core that we may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)


class Entry:
    """The state of one worker. All times are seconds of the reactor's clock.

    Args:
        number: of the worker, from 1.

    Attributes:
        process: an IProcessTransport while it runs, else None.
        started: when it was started last.
        heard: when it gave its last sign of life.
        connections: how many it had then.
        starts: how often it was started.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Any = None
        self.started = 0.0
        self.heard = 0.0
        self.connections = 0
        self.starts = 0
        self._serving_since: float | None = None
        self._delay = 0.0
        self._retry: IDelayedCall | None = None

    @property
    def serves(self) -> bool:
        """Whether it has clients, or may have."""
        return self._serving_since is not None

    def starting(self, now: float) -> None:
        """It is about to be started."""
        self._retry = None
        self.starts += 1
        self.started = now

    def runs(self, process: Any) -> None:
        """It has been started (IProcessTransport)."""
        self.process = process

    def gave_sign(self, now: float, connections: int) -> bool:
        """It gave a sign of life; returns whether that was its first."""
        self.heard = now
        self.connections = connections
        first = not self.serves
        if first:
            self._serving_since = now
        return first

    def is_silent(self, now: float, silence: float) -> bool:
        """Whether it serves, and has given no sign of life for more than `silence` seconds."""
        return self.process is not None and self.serves and now - self.heard > silence

    def ended(self, now: float) -> float:
        """It has ended; returns in how many seconds it is to start again.

        Nothing at first, and the longer, the more often it has died before it was steady.
        """
        self.process = None
        if self._serving_since is not None and now - self._serving_since >= STEADY:
            self._delay = 0.0
        self._serving_since = None
        wait, self._delay = self._delay, min(2 * self._delay or FIRST_DELAY, LONGEST_DELAY)
        return wait

    def waits_for(self, retry: IDelayedCall) -> None:
        """It starts again when this call is made."""
        self._retry = retry

    def cancel_retry(self) -> None:
        """It does not start again."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


class Roster:
    """All workers of a parent.

    Args:
        workers: how many there are to be.
    """

    def __init__(self, workers: int) -> None:
        self._entries = tuple(Entry(number) for number in range(1, workers + 1))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def running(self, *, serving: bool = False) -> list[Entry]:
        """The workers that have a process; only those that serve, if requested."""
        return [each for each in self if each.process is not None and (each.serves or not serving)]

    def connections(self) -> int:
        """How many WebSockets are open in all of them, by what they said last."""
        return sum(each.connections for each in self if each.serves)

    def summary(self) -> Workers:
        """The metrics of the workers."""
        return Workers(
            configured=len(self),
            serving={each.number for each in self if each.serves},
            restarts=sum(max(0, each.starts - 1) for each in self),
        )
