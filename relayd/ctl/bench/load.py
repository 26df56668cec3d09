"""One run of `relayctl bench`: connects, sends, measures, and closes every connection.

The load is an open loop: each camera sends at its own moment of the period, without waiting for
deliveries. Imports picows, so it is imported only when the command runs.
"""

import asyncio
import gc
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from relayd.ctl.bench import procfs as process
from relayd.ctl.bench.load_clients import Client, Sampled, Tally, join_all, leave_all
from relayd.ctl.bench.report import in_words
from relayd.ctl.bench.results import Figures, Profile, summarize
from relayd.ctl.bench.target import BenchFailed, Silent, Target

_SAMPLES = 5000  # approximate number of latencies that the generator notes per second
_HELLO = 5.0  # seconds until all clients have to get a pose


async def measure(target: Target, profile: Profile, pids: Sequence[int]) -> Figures:
    """Puts a load on a server, and returns the figures.

    Args:
        target: the server.
        profile: the load.
        pids: the server's processes, if known.

    Raises:
        BenchFailed: the server cannot be reached, refuses, or ends all connections.
    """
    tally = Tally()
    members = _members(profile, tally)
    size = profile.size
    groups = [members[n : n + size] for n in range(0, len(members), size)]
    gc.disable()  # its pauses would count as latency
    try:
        await join_all(
            target,
            [
                (f"{profile.group}-{number}", client)
                for number, group in enumerate(groups, 1)
                for client in group
            ],
        )
        await _greet(target, groups)
        return await _measured(target, profile, pids, groups, tally)
    finally:
        await leave_all(members)
        gc.enable()


def _members(profile: Profile, tally: Tally) -> list[Client]:
    """Clients in the order in which they join: of each group the cameras, then the viewers.

    Sampled clients are spread evenly, from the last client backwards, so that viewers are preferred
    and the last client is sampled.
    """
    total = profile.connections
    count = min(total, max(3, int(_SAMPLES / (profile.cameras * profile.rate))))
    sampled = {total - 1 - n * total // count for n in range(count)}
    return [Sampled(tally) if n in sampled else Client(tally) for n in range(total)]


async def _greet(target: Target, groups: Sequence[Sequence[Client]]) -> None:
    """Waits until all clients are members of their groups and get poses; resets their counts."""
    members = [client for group in groups for client in group]
    deadline = time.monotonic() + _HELLO
    hellos = 0
    while not all(client.count for client in members):
        if time.monotonic() > deadline or not any(client.is_open for client in members):
            reached = sum(bool(client.count) for client in members)
            hint = "; is that a relayd?" if reached <= len(groups) else ""
            raise Silent(
                f"{target.shown} admitted {len(members):,} clients, but only {reached:,} of them "
                f"got a pose{hint}"
            )
        hellos += 1
        for group in groups:
            group[0].send(b'{"x":%d,"y":%.6f}' % (-hellos, time.monotonic()))
        await _until(lambda: all(client.count for client in members), 1)
    await _until(lambda: all(client.count >= hellos for client in members), 1)
    for client in members:
        client.count = 0
        if isinstance(client, Sampled):
            if client.strange:
                raise BenchFailed(f"{target.shown} sends other messages than poses; is it relayd?")
            client.forget()


class _Cameras:
    """Sends poses at a steady rate, each camera at its own moment of the period."""

    def __init__(self, cameras: Sequence[Client], rate: float) -> None:
        random_ = random.Random(1)  # the same moments in every run
        self._order = sorted((random_.random() / rate, n) for n in range(len(cameras)))
        self._cameras = cameras
        self._period = 1 / rate
        self.sent = [0] * len(cameras)

    async def run(self) -> None:
        """Sends until it is cancelled."""
        start = time.monotonic()
        turn = place = 0
        while True:
            now = time.monotonic()
            while (due := start + turn * self._period + self._order[place][0]) <= now:
                number = self._order[place][1]
                self.sent[number] += self._cameras[number].send(
                    b'{"x":%d,"y":%.6f,"z":%d}' % (self.sent[number], time.monotonic(), number)
                )
                place += 1
                if place == len(self._order):
                    turn, place = turn + 1, 0
            await asyncio.sleep(max(due - now, 0.001))


async def _measured(
    target: Target,
    profile: Profile,
    pids: Sequence[int],
    groups: Sequence[Sequence[Client]],
    tally: Tally,
) -> Figures:
    """The load itself, from the warm-up to the end of the grace period."""
    members = [client for group in groups for client in group]
    cameras = _Cameras(
        [client for group in groups for client in group[: profile.cameras]], profile.rate
    )
    figures = Figures(profile, connected=len(members))
    sending = asyncio.create_task(cameras.run())
    try:
        await _wait(target, profile.warmup, members, tally)
        start = time.monotonic()
        before = process.cpu(pids) if pids else None
        own, waited = time.process_time(), process.waited()
        sent, delivered = sum(cameras.sent), _delivered(members)
        await _wait(target, profile.seconds, members, tally)
        figures.delivered_in_window = _delivered(members) - delivered
        figures.sent_in_window = sum(cameras.sent) - sent
        end = time.monotonic()
        figures.seconds = end - start
        after = process.cpu(pids) if pids else None
        if before is not None and after is not None:
            figures.server = after - before
        figures.generator = (time.process_time() - own) / figures.seconds
        figures.waited = (process.waited() - waited) / figures.seconds
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    figures.sent = sum(cameras.sent)
    wanted = [
        sum(cameras.sent[n * profile.cameras : (n + 1) * profile.cameras])
        for n in range(profile.groups)
    ]
    total = sum(wanted) * profile.size
    await _until(lambda: _delivered(members) >= total or not tally.open, profile.grace)
    took: list[float] = []
    for expected, group in zip(wanted, groups, strict=True):
        for client in group:
            figures.lost += max(0, expected - client.count)
            figures.extra += max(0, client.count - expected)
            if isinstance(client, Sampled):
                took += _latencies(client, start, end)
                took += [math.inf] * (expected - client.count)  # adds nothing for a negative number
    figures.delivered = _delivered(members)
    figures.closed = dict(Counter(client.closed for client in members if client.closed))
    summarize(figures, took)
    if not tally.open:
        raise _ended(target, members)
    return figures


async def _wait(target: Target, seconds: float, members: Sequence[Client], tally: Tally) -> None:
    """Waits. Raises BenchFailed when all connections have ended."""
    try:
        async with asyncio.timeout(seconds):
            await tally.empty.wait()
    except TimeoutError:
        return
    raise _ended(target, members)


def _ended(target: Target, members: Sequence[Client]) -> BenchFailed:
    codes = Counter(client.closed for client in members).most_common()
    words = "; ".join(in_words(code) for code, _ in codes)
    return BenchFailed(
        f"{target.shown} ended all {len(members):,} connections ({words}): did it stop?"
    )


def _delivered(members: Sequence[Client]) -> int:
    return sum(client.count for client in members)


def _latencies(client: Sampled, start: float, end: float) -> list[float]:
    """The latencies of the messages that were sent in the window."""
    return [
        took for sent, took in zip(client.sent, client.took, strict=True) if start <= sent < end
    ]


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Waits until the condition holds, for at most so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
