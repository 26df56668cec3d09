"""The lobby over Redis: each process reports its rooms, and reads those of the others.

Implements `brokers.lobby.Others`; sits on `relayd.redis`. Every `INTERVAL` seconds, a process whose
rooms have members writes, on the server that `<prefix>:lobby` belongs to:

    <prefix>:process:<id>:rooms   {"sizes": {room: members, ...}, "partial": bool}; expires after
                                  `LEASE`, or with its process: that is the lease
    <prefix>:lobby                sorted set of these processes, by Redis' time of the report in ms

While nothing changes, only the lease is renewed. A process without members has neither.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relayd.brokers.foreign import Foreign
from relayd.brokers.lobby import Elsewhere
from relayd.brokers.over_redis.keeping import Keys
from relayd.brokers.presence import Presence
from relayd.errors import RedisUnavailable, StoreUnavailable
from relayd.logs import Logger
from relayd.names import Kind, normalize_room
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.wire import UNDECODABLE

INTERVAL = 2.0
"""Seconds between two reports of a process."""
LEASE = 8.0
"""Seconds without a report after which the members of a process have left."""
MOST = 1000
"""Rooms of a report; of more, it has those that began last."""
_MOST_PROCESSES = 1000
_TOGETHER = 500  # rooms whose times one script reads
_END = 253_402_300_800_000  # ms; there is no later time

# KEYS: the report, the set; ARGV: id, report ('': as before), lease in ms
_REPORT = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
elseif redis.call('PEXPIRE', KEYS[1], ARGV[3]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - ARGV[3]))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
""")

# KEYS: the index of rooms by time; ARGV: the names of the keys of a room up to its own, and rooms
_TIMES = Script("""
local answer = {}
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local kept = at and redis.call('EXISTS', ARGV[1] .. ARGV[i] .. '}:messages') == 1
  answer[#answer + 1] = kept and at or '0'
end
return answer
""")

_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Size = Annotated[int, Meta(ge=1, le=10**9)]


class _Rooms(msgspec.Struct):
    sizes: Annotated[dict[_Name, _Size], Meta(max_length=MOST)]
    partial: bool = False


class LobbyLink:
    """The side of one process.

    Args:
        presence: the members in this process.
        redis: the servers.
        kind: the kind of path whose groups the rooms are.
        clock: for the reports.
        process: the unique id of this process.
        prefix: the prefix of all keys.
        foreign: counts invalid reports.
    """

    _log = Logger()

    def __init__(
        self,
        presence: Presence,
        redis: Redis,
        kind: Kind,
        *,
        clock: IReactorTime,
        process: str,
        prefix: str,
        foreign: Foreign,
    ) -> None:
        self._presence = presence
        self._redis = redis
        self._kind = kind
        self._keys = Keys(prefix, kind)
        self._process = process
        self._prefix = prefix
        self._foreign = foreign
        self._set = f"{prefix}:lobby"
        self._server = redis.find(self._set)
        self._reported = b""  # what Redis has, if it has not lost it
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._report()))
        self._loop.clock = clock
        self._ended: Deferred[LoopingCall] | None = None

    def start(self) -> None:
        """Begins to report."""
        self._ended = self._loop.start(INTERVAL, now=False)

    async def stop(self) -> None:
        """Takes the report back."""
        if self._loop.running and self._ended is not None:
            self._loop.stop()
            await self._ended  # a report that arrives later would list the process again
        if self._reported and self._server.available:
            with contextlib.suppress(RedisUnavailable, RedisRefused):  # it expires
                await self._leave()

    # -- of this process

    async def _report(self) -> None:
        try:
            if not self._presence.rooms:
                if self._reported:
                    await self._leave()
                return
            sizes = self._presence.sizes(MOST)
            text = msgspec.json.encode(_Rooms(sizes, self._presence.rooms > len(sizes)))
            if text == self._reported and await self._write(b""):
                return
            await self._write(text)
            self._reported = text
        except (RedisUnavailable, RedisRefused):
            pass  # `redis.server` has logged it; the next report tries again
        except Exception:
            self._log.failure("reporting the rooms of this process failed")

    async def _write(self, text: bytes) -> bool:
        """Whether Redis has the report now: an empty text stands for that of before."""
        keys = (self._report_of(self._process), self._set)
        return bool(await self._server.run(_REPORT, keys, (self._process, text, int(LEASE * 1000))))

    async def _leave(self) -> None:
        await self._server.call("DEL", self._report_of(self._process))
        await self._server.call("ZREM", self._set, self._process)
        self._reported = b""

    # -- of the others

    async def read(self) -> Elsewhere:
        try:
            words = ("ZRANGEBYSCORE", self._set, "-inf", "+inf", "LIMIT", 0, _MOST_PROCESSES)
            found = await self._server.call(*words)
            ids = [id for id in found if id != self._process.encode()]
            keys = [self._report_of(id.decode(errors="replace")) for id in ids]
            reports = await self._server.call("MGET", *keys) if keys else []
        except (RedisUnavailable, RedisRefused):
            return Elsewhere({}, partial=True)
        sizes: Counter[str] = Counter()
        partial = False
        for report in reports:
            if report is None:
                continue  # the process is dead
            rooms = self._decode(report)
            sizes.update(rooms.sizes)
            partial = partial or rooms.partial
        return Elsewhere(sizes, partial)

    def _decode(self, report: bytes) -> _Rooms:
        try:
            found = msgspec.json.decode(self._foreign.check_size(report), type=_Rooms)
            if any(normalize_room(name) != name for name in found.sizes):
                raise ValueError("no name of a room")
        except (*UNDECODABLE, ValueError) as error:
            self._foreign.drop("the rooms of a process", error)
            return _Rooms({}, partial=True)
        return found

    async def posted(self, rooms: Sequence[str]) -> Mapping[str, int]:
        """The Unix times of the newest messages in ms. Raises StoreUnavailable."""
        by_server: dict[RedisServer, list[str]] = defaultdict(list)
        for room in rooms:
            by_server[self._redis.find(self._kind.group(room))].append(room)
        times: dict[str, int] = {}
        try:
            for server, names in by_server.items():
                for start in range(0, len(names), _TOGETHER):
                    part = names[start : start + _TOGETHER]
                    args = (self._keys.head, *part)
                    found = await server.run(_TIMES, (self._keys.posted,), args)
                    times.update(zip(part, map(_read_time, found), strict=True))
        except (RedisUnavailable, RedisRefused) as error:
            raise StoreUnavailable(str(error)) from error
        return {room: time for room, time in times.items() if time}

    def _report_of(self, process: str) -> str:
        return f"{self._prefix}:process:{process}:rooms"


def _read_time(score: bytes) -> int:
    """A score of the index; 0 if it is no time."""
    time = float(score)
    return int(time) if 0 < time < _END else 0
