"""The register of all processes in Redis: each process registers itself with a lease.

Sits under `node`, which starts it; `relayctl status` and `relayctl doctor` read the register.
Every 3 seconds a process writes, on the server that `<prefix>:processes` belongs to:

    <prefix>:process:<id>:status    its report (JSON); expires after 10 s: that is the lease
    <prefix>:process:<id>:last      the same for an hour, to describe dead processes
    <prefix>:processes              sorted set of the ids, by Redis' own time of the last report

A process that stops removes all three. A process that died is listed as "gone" for an hour, or
until another one has started in its place: on its machine, as its worker, where it listened.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from relayd.errors import ClientError, ErrorCode, RedisUnavailable
from relayd.logs import Logger
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from relayd.redis.shards import Redis
from relayd.wire import UNDECODABLE

INTERVAL = 3.0
"""Seconds between two reports of a process."""
LEASE = 10.0
"""Seconds without a report after which a process counts as dead."""
MEMORY = 3600.0
"""Seconds for which a dead process is listed."""

# ARGV: id, report, lease in ms, memory in ms
_REPORT = Script("""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('ZADD', KEYS[3], string.format('%.3f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.3f', now - ARGV[4] / 1000))
redis.call('PEXPIRE', KEYS[3], ARGV[4])
""")


class Report(msgspec.Struct, kw_only=True):
    """The report of a process about itself.

    Attributes:
        id: unique for each start of a process.
        version: of relayd.
        host: name of the machine.
        pid: process id on it.
        worker: number among the workers of one parent; None where there is none.
        started: Unix time.
        listen: the places where it listens.
        connections: open WebSocket connections by kind of path.
        groups: groups that have members in it.
        delivered: frames handed to its clients since it started, counted once for each client.
        deliveries_per_second: the same since the report before.
        drops: frames that clients did not get since it started, by reason.
        redis_round_trip: seconds of the last ping of the slowest server; None before the first.
        draining: whether it admits no new clients.
        clock: Unix time on its machine when it wrote this; 0 from versions without this member.
    """

    id: str
    version: str
    host: str
    pid: int
    worker: int | None
    started: float
    listen: list[str]
    connections: dict[str, int]
    groups: int
    delivered: int
    deliveries_per_second: float = 0.0
    drops: dict[str, int]
    redis_round_trip: float | None
    draining: bool
    clock: float = 0.0


class Seen(msgspec.Struct, kw_only=True):
    """A process as the register shows it.

    Attributes:
        id: its id.
        state: "ok", "draining" or "gone".
        seen: Unix time of its last report, by the clock of Redis.
        report: that report; None if it cannot be decoded, such as one of another version.
    """

    id: str
    state: str
    seen: float
    report: Report | None


class Membership:
    """Keeps this process registered, and renews its lease. Retries while Redis is unavailable.

    Args:
        redis: the servers; the caller starts and stops them.
        clock: provides IReactorTime.
        prefix: of all keys.
        report: returns the report of this moment.
        process: the unique id of this process.
    """

    _log = Logger()

    def __init__(
        self, redis: Redis, clock: Any, prefix: str, report: Callable[[], Report], process: str
    ) -> None:
        self._server = redis.find(_set_key(prefix))
        self._clock = clock
        self._report = report
        self._process = process
        self._keys = (*_keys(prefix, process), _set_key(prefix))
        self._loop = LoopingCall(self.report_now)
        self._loop.clock = clock
        self._counted: tuple[float, int] | None = None  # time, and deliveries until then
        self._rate = 0.0
        self._in_flight = 0
        self._idle: list[Deferred[None]] = []
        self._refused = False
        self._stopped = False
        self._server.watch(self._changed)

    def start(self) -> None:
        """Reports now and every `INTERVAL` seconds."""
        self._loop.start(INTERVAL)

    def stop(self) -> "Deferred[None]":
        """Removes the registration. Never fails; fires within two deadlines of Redis."""
        self._stopped = True
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._leave())

    def report_now(self) -> None:
        """Writes a report; no effect while Redis is unavailable."""
        if self._server.available and not self._stopped:
            Deferred.fromCoroutine(self._write()).addErrback(self._failed)

    def _changed(self, available: bool) -> None:
        if available and self._loop.running:
            self.report_now()

    async def _write(self) -> None:
        self._in_flight += 1
        try:
            text = msgspec.json.encode(self._measured())
            args = (self._process, text, _milliseconds(LEASE), _milliseconds(MEMORY))
            await self._server.run(_REPORT, self._keys, args)
            self._refused = False
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                idle, self._idle = self._idle, []
                for waiting in idle:
                    waiting.callback(None)

    def _measured(self) -> Report:
        """A report with the rate. A report between two intervals repeats the last rate."""
        report, now = self._report(), self._clock.seconds()
        then, before = self._counted or (now, report.delivered)
        if now - then >= INTERVAL / 2:
            self._rate = round((report.delivered - before) / (now - then), 1)
            then, before = now, report.delivered
        self._counted = (then, before)
        report.deliveries_per_second = self._rate
        return report

    async def _leave(self) -> None:
        if self._in_flight:  # a report that arrives later would register the process again
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        try:
            await self._server.call("DEL", *self._keys[:2])
            await self._server.call("ZREM", self._keys[2], self._process)
        except Exception:
            self._failed(Failure())

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, RedisUnavailable):
            return  # `redis.server` has logged it
        if not isinstance(failure.value, RedisRefused):
            self._log.failure("registering this process failed", failure)
        elif not self._refused and failure.value.state is None:
            self._refused = True
            why = str(failure.value)
            self._log.warn("this process cannot be registered, will retry: {why}", why=why)


async def read_processes(redis: Redis, prefix: str) -> list[Seen]:
    """Reads all processes that are registered, or were within the last hour; the oldest first.

    Raises:
        RedisUnavailable: Redis cannot be reached.
        RedisRefused: Redis refuses a command, for example for lack of rights.
    """
    server = redis.find(_set_key(prefix))
    seconds, microseconds = await server.call("TIME")
    now = int(seconds) + int(microseconds) / 1e6
    found = await server.call(
        "ZRANGEBYSCORE", _set_key(prefix), f"{now - MEMORY:.3f}", "+inf", "WITHSCORES"
    )
    if not found:
        return []
    ids = [id.decode() for id in found[::2]]
    leases = await server.call("MGET", *(_keys(prefix, id)[0] for id in ids))
    lasts = await server.call("MGET", *(_keys(prefix, id)[1] for id in ids))
    processes = []
    for id, score, lease, last in zip(ids, found[1::2], leases, lasts, strict=True):
        if lease is None and last is None:
            continue  # it has said goodbye, or is about to be forgotten
        report = _decoded(lease or last)
        state = "draining" if report is not None and report.draining else "ok"
        state = "gone" if lease is None else state
        processes.append(Seen(id=id, state=state, seen=float(score), report=report))
    reports = [one.report for one in processes if one.state != "gone" and one.report is not None]
    processes = [one for one in processes if not _is_replaced(one, reports)]
    processes.sort(key=_age)
    return processes


async def forget_process(redis: Redis, prefix: str, process: str) -> bool:
    """Removes a process that is gone from the register; whether it was there.

    Raises:
        ClientError: it lives, and would register again.
        RedisUnavailable: Redis cannot be reached.
        RedisRefused: Redis refuses a command, for example for lack of rights.
    """
    server = redis.find(_set_key(prefix))
    lease, last = _keys(prefix, process)
    if await server.call("EXISTS", lease):
        raise ClientError(ErrorCode.BAD_REQUEST, f"process {process} is not gone: stop it first")
    await server.call("DEL", last)
    return bool(await server.call("ZREM", _set_key(prefix), process))


def _is_replaced(process: Seen, living: Iterable[Report]) -> bool:
    """Whether a process is gone, and another one started in its place afterwards.

    A service manager, or the parent of a worker, has started it again: nobody has to act.
    """
    before = process.report
    if process.state != "gone" or before is None:
        return False
    return any(
        (one.host, one.worker, one.listen) == (before.host, before.worker, before.listen)
        and one.started > before.clock
        for one in living
    )


def _age(process: Seen) -> tuple[float, str]:
    report = process.report
    return (process.seen if report is None else report.started, process.id)


def _decoded(text: bytes | None) -> Report | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=Report)
    except UNDECODABLE:
        return None


def _keys(prefix: str, process: str) -> tuple[str, str]:
    return f"{prefix}:process:{process}:status", f"{prefix}:process:{process}:last"


def _set_key(prefix: str) -> str:
    return f"{prefix}:processes"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
