"""The loads: what is sent, by how many, to how many, and what is counted.

Every member of a group gets every message of the group, senders their own too (the echo), and
every one of these counts as a delivery. Senders do not wait for anything (open loop); phones of
`pairs` ask anew when they have their answer (closed loop).
"""

import asyncio
import math
import random
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bench import procstat
from bench.clients import Client, Phone, Sampled, join, join_all
from bench.measured import Measured
from bench.window import Target, Window, summarize, until

DIFFICULTIES = 5  # of the quizzes in the database of `pairs`


@dataclass(frozen=True)
class Plan:
    """A load of poses.

    Attributes:
        groups: how many.
        senders, viewers: of each group.
        rate: poses a second of each sender.
        sampled: members over all groups whose latencies are noted, evenly spread over the order
            in which they join.
    """

    groups: int
    senders: int
    viewers: int
    rate: float
    sampled: int


PLANS = {
    "fanout": Plan(1, 10, 200, 10, sampled=21),
    "rooms": Plan(300, 1, 1, 20, sampled=300),
    "crowd": Plan(1, 100, 200, 10, sampled=6),
    "quiet": Plan(1, 1, 9, 40, sampled=10),
}


class _Senders:
    """Sends poses at a steady rate, each sender at its own moment of the period."""

    def __init__(self, senders: Sequence[Client], rate: float) -> None:
        random_ = random.Random(1)  # the same moments for every server
        self._order = sorted((random_.random() / rate, n) for n in range(len(senders)))
        self._senders = senders
        self._period = 1 / rate
        self.sent = [0] * len(senders)
        self.going = True

    async def run(self) -> None:
        """Sends until `going` is false."""
        start = time.monotonic()
        turn = place = 0
        while self.going:
            now = time.monotonic()
            while (due := start + turn * self._period + self._order[place][0]) <= now:
                number = self._order[place][1]
                self._senders[number].send(
                    b'{"x":%d,"y":%.6f,"z":%d}' % (self.sent[number], time.monotonic(), number)
                )
                self.sent[number] += 1
                place += 1
                if place == len(self._order):
                    turn, place = turn + 1, 0
            await asyncio.sleep(max(due - now, 0.001))


class _Kept(Client):
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[bytes] = []

    def on_ws_frame(self, transport: object, frame: object) -> None:
        """Keeps it."""
        self.frames.append(frame.get_payload_as_bytes())  # type: ignore[attr-defined]


async def check(port: int) -> None:
    """Makes sure that the server does its job: a wrong pose is passed on to nobody, a right one is.

    Raises:
        RuntimeError: it does not.
    """
    path = "/ws/camera/check"
    sender, viewer = await join_all(port, [(path, _Kept()), (path, _Kept())])
    sender.send(b'{"x": "1", "y": 2, "z": 3}')
    sender.send(b'{"x": 1, "y": 2.5, "u": 0}')
    await until(lambda: bool(viewer.frames) and len(sender.frames) == 2, 10)
    got = [msgspec.json.decode(frame) for frame in viewer.frames]
    if got != [{"x": 1, "y": 2.5, "z": None}] or len(sender.frames) != 2:
        raise RuntimeError(f"a viewer got {viewer.frames}, the sender {sender.frames}")
    sender.close()
    viewer.close()


async def poses(
    load: str, target: Target, visitors: int = 0, every: float = 0, scale: float = 1
) -> Measured:
    """The loads of poses, `PLANS`.

    Args:
        load: name of the plan.
        target: whom.
        visitors: further viewers, which come and go; nothing they get is counted.
        every: seconds between rows of `series`; 0 for none.
        scale: what the plan's rate is multiplied by.
    """
    plan = PLANS[load]
    await check(target.port)
    size = plan.senders + plan.viewers
    total = plan.groups * size
    # from the last member backwards, so that viewers are preferred and the last one is among them
    sampled = {total - 1 - n * total // plan.sampled for n in range(plan.sampled)}
    members = await join_all(
        target.port,
        [
            (f"/ws/camera/{load}{n // size}", Sampled() if n in sampled else Client())
            for n in range(total)
        ],
    )
    groups = [members[n : n + size] for n in range(0, total, size)]
    senders = _Senders(
        [each for group in groups for each in group[: plan.senders]], plan.rate * scale
    )
    result = Measured(load, connections=total)
    window = Window(target, members)
    tasks = [asyncio.create_task(senders.run())]
    tasks += [
        asyncio.create_task(_visit(target.port, f"/ws/camera/{load}0", random.Random(n)))
        for n in range(visitors)
    ]
    await asyncio.sleep(target.warmup)
    window.open()
    if every:
        await _watch(target, window, every, result)
    else:
        await asyncio.sleep(target.seconds)
    window.close(result)
    senders.going = False
    await tasks[0]

    result.sent = sum(senders.sent)
    expected = [
        sum(senders.sent[n * plan.senders : (n + 1) * plan.senders]) for n in range(plan.groups)
    ]
    result.expected = sum(expected) * size
    await until(lambda: window.deliveries() >= result.expected, target.grace)
    for wanted, group in zip(expected, groups, strict=True):
        result.lost += sum(max(0, wanted - each.count) for each in group)
        result.extra += sum(max(0, each.count - wanted) for each in group)
    result.disconnected = sum(each.closed for each in members)
    took = []
    for wanted, group in zip(expected, groups, strict=True):
        for each in group:
            if isinstance(each, Sampled):
                took += window.latencies(each)
                took += [math.inf] * (wanted - each.count)  # nothing, if it is negative
    summarize(result, took)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return result


async def _visit(port: int, path: str, random_: random.Random) -> None:
    """Comes, stays one to five seconds, goes, and comes again."""
    while True:
        visitor = Client()
        try:
            await join(port, path, visitor)
        except (TimeoutError, OSError):
            await asyncio.sleep(1)
            continue
        await asyncio.sleep(random_.uniform(1, 5))
        visitor.close()
        await asyncio.sleep(random_.uniform(0, 1))


async def _watch(target: Target, window: Window, every: float, result: Measured) -> None:
    """Notes memory and deliveries now and then, and shows them while we wait."""
    while (passed := time.monotonic() - window.start) < target.seconds:
        rss, pss = procstat.memory(target.pids)
        result.series.append([passed, rss, pss, window.deliveries()])
        print(
            f"{passed:6.0f} s  RSS {rss / 1e6:7.2f} MB  {window.deliveries():>13,} deliveries",
            file=sys.stderr,
            flush=True,
        )
        await asyncio.sleep(min(every, max(0.0, target.seconds - passed)))


async def pairs(target: Target, couples: int = 50) -> Measured:
    """Phones that ask in a closed loop, each with its headset."""
    names = [uuid.UUID(int=n, version=4) for n in range(1, couples + 1)]
    headsets = await join_all(
        target.port, [(f"/ws/difficulty/unity/{name}", Client()) for name in names]
    )
    phones = await join_all(
        target.port,
        [
            (
                f"/ws/difficulty/android/{name}",
                Phone(b'{"difficulty": %d}' % (1 + n % DIFFICULTIES)),
            )
            for n, name in enumerate(names)
        ],
    )
    result = Measured("pairs", connections=2 * couples)
    window = Window(target, phones)
    for phone in phones:
        phone.ask()
    await asyncio.sleep(target.warmup)
    window.open()
    await asyncio.sleep(target.seconds)
    window.close(result)
    for phone in phones:
        phone.asking = False
    await until(
        lambda: all(phone.asked == phone.count + phone.errors for phone in phones), target.grace
    )
    result.sent = sum(phone.asked for phone in phones)
    result.errors = sum(phone.errors for phone in phones)
    result.expected = sum(phone.count for phone in phones)
    result.lost = sum(
        max(0, phone.count - headset.count) for phone, headset in zip(phones, headsets, strict=True)
    )
    result.disconnected = sum(each.closed for each in [*phones, *headsets])
    summarize(result, [t for phone in phones for t in window.latencies(phone, by_end=True)])
    return result


async def idle(target: Target, connections: int = 5000) -> Measured:
    """Memory that a connection costs which does nothing, in groups of ten.

    A hundred connections come first and stay, so that what the first of all makes the server load
    and allocate is not counted.
    """
    await join_all(target.port, [(f"/ws/camera/first{n // 10}", Client()) for n in range(100)])
    await asyncio.sleep(1)
    before = procstat.memory(target.pids)
    clients = await join_all(
        target.port, [(f"/ws/camera/idle{n // 10}", Client()) for n in range(connections)]
    )
    await asyncio.sleep(2)
    rss, pss = procstat.memory(target.pids)
    result = Measured("idle", connections=connections)
    result.rss = (rss - before[0]) / connections
    result.pss = (pss - before[1]) / connections
    result.disconnected = sum(client.closed for client in clients)
    return result
