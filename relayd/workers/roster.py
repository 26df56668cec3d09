"""A parent's list of its workers: which of them run and serve, and when one starts again.

Under `supervisor`, which keeps it up to date. Pure: the time is an argument.
"""

import os
from collections.abc import Iterator
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from relayd.control.worker_metrics import Workers

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before the third start of a worker that keeps dying, and the most before any start."""
STEADY = 10.0
"""Seconds of service after which the delay starts again at zero."""


def count(workers: int | str) -> int:
    """The number of `[server] workers`: "auto" is one for each core that we may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)


class Entry:
    """The state of one worker. All times are seconds of the reactor's clock.

    Args:
        number: of the worker, from 1.

    Attributes:
        process: an IProcessTransport while it runs, else None.
        started: time of its last start.
        last_heartbeat: time of its last heartbeat.
        connections: open WebSockets, as of the last heartbeat.
        troubles: what its stores refuse, in words, as of the last heartbeat.
        starts: number of its starts.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Any = None
        self.started = 0.0
        self.last_heartbeat = 0.0
        self.connections = 0
        self.troubles = ""
        self.starts = 0
        self._serving_since: float | None = None
        self._delay = 0.0
        self._retry: IDelayedCall | None = None

    @property
    def serves(self) -> bool:
        """Whether it accepts clients."""
        return self._serving_since is not None

    def starting(self, now: float) -> None:
        """Notes a start at the time `now`."""
        self._retry = None
        self.starts += 1
        self.started = now

    def started_as(self, process: Any) -> None:
        """Notes the process that was started (IProcessTransport)."""
        self.process = process

    def heartbeat(self, now: float, connections: int, troubles: str = "") -> bool:
        """Notes a heartbeat; returns whether it is the first since the start."""
        self.last_heartbeat = now
        self.connections = connections
        self.troubles = troubles
        first = not self.serves
        if first:
            self._serving_since = now
        return first

    def is_hung(self, now: float, timeout: float) -> bool:
        """Whether it serves, and has sent no heartbeat for more than `timeout` seconds."""
        return self.process is not None and self.serves and now - self.last_heartbeat > timeout

    def ended(self, now: float) -> float:
        """Notes the end of the process; returns the seconds until the next start.

        0 after the first end; the delay then doubles with each end before `STEADY` seconds of
        service, from `FIRST_DELAY` up to `LONGEST_DELAY`.
        """
        self.process = None
        if self._serving_since is not None and now - self._serving_since >= STEADY:
            self._delay = 0.0
        self._serving_since = None
        wait, self._delay = self._delay, min(2 * self._delay or FIRST_DELAY, LONGEST_DELAY)
        return wait

    def restart_with(self, retry: IDelayedCall) -> None:
        """Notes the delayed call that starts it again."""
        self._retry = retry

    def cancel_retry(self) -> None:
        """Cancels the next start."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


class Roster:
    """All workers of a parent.

    Args:
        workers: the number of workers.
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
        """Open WebSockets of all workers, as of their last heartbeats."""
        return sum(each.connections for each in self if each.serves)

    def troubles(self) -> list[str]:
        """What the stores of any worker refuse, in words, each once."""
        return list(dict.fromkeys(each.troubles for each in self if each.serves and each.troubles))

    def summary(self) -> Workers:
        """The metrics of the workers."""
        return Workers(
            configured=len(self),
            serving={each.number for each in self if each.serves},
            restarts=sum(max(0, each.starts - 1) for each in self),
        )
