"""The measured time: what is read when it begins, when it ends, and made of both."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench import procstat
from bench.clients import Client, Phone, Sampled
from bench.measured import Measured, percentile


@dataclass(frozen=True)
class Target:
    """The server under load, and how long.

    Attributes:
        port: on 127.0.0.1.
        pids: its processes.
        seconds: the measured window.
        warmup: seconds of load before it.
        grace: seconds after the last message in which one that is late is not yet lost.
        senders_port: where senders connect, if not there (`across`).
    """

    port: int
    pids: Sequence[int]
    seconds: float
    warmup: float = 1.0
    grace: float = 5.0
    senders_port: int | None = None


class Window:
    """The measured time: CPU of both sides, and deliveries, from `open` to `close`."""

    def __init__(self, target: Target, clients: Iterable[Client]) -> None:
        self._target = target
        self._clients = list(clients)
        self.start = self.end = 0.0

    def deliveries(self) -> int:
        """Messages that all clients have got."""
        return sum(client.count for client in self._clients)

    def open(self) -> None:
        """The window begins."""
        self._cpu = procstat.cpu(self._target.pids)
        self._own = time.process_time()
        self._count = self.deliveries()
        self.start = time.monotonic()

    def close(self, result: Measured) -> None:
        """The window ends; its figures go into the result."""
        self.end = time.monotonic()
        result.deliveries = self.deliveries() - self._count
        result.cpu = procstat.cpu(self._target.pids) - self._cpu
        result.seconds = self.end - self.start
        result.generator = (time.process_time() - self._own) / result.seconds

    def latencies(self, client: Sampled | Phone, *, by_end: bool = False) -> list[float]:
        """Of the messages sent in the window; `by_end`: of those that arrived in it."""
        return [
            took
            for sent, took in zip(client.sent, client.took, strict=True)
            if self.start <= (sent + took if by_end else sent) < self.end
        ]


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns when the condition holds, or when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


def summarize(result: Measured, took: list[float]) -> None:
    """Puts the percentiles of the latencies into the result."""
    took.sort()
    result.p50, result.p99 = percentile(took, 0.5), percentile(took, 0.99)
    result.samples = len(took)
