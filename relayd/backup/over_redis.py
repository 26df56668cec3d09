"""The chat rooms of Redis as records, and from records into Redis.

On `records`, with the keys of `brokers.over_redis`. A restore writes into keys beside those that
relayd uses, and one script on each server gives them their names:

    <prefix>:restoring:{chat/ROOM}:…    as `history` says; they expire after a day
    <prefix>:restoring:rooms:…          the index of these rooms, as `keeping` says

So a restore that fails changes nothing. Between several servers there is no transaction: if one
fails after another has given the names, the restore is to be repeated.
"""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from relayd.backup.records import (
    BackupError,
    InUse,
    Kept,
    Message,
    NotEmpty,
    Record,
    Room,
    Tag,
    in_parts,
)
from relayd.brokers.over_redis.keeping import INDEX, Keys
from relayd.cluster import read_processes
from relayd.names import Kind
from relayd.redis.commands import Script, Word
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.wire import UNDECODABLE

_ENTRIES = 100  # of one reply, and of one command
_LONGEST = 1_000_000  # characters of the messages of one command
_STAGED = 86_400_000  # ms for which what is not yet restored stays
_NAME = "restoring"

_TEXT = "local function text(number) return string.format('%.0f', number) end\n"

# KEYS: bytes and epoch of the index; answers the clock, the top of the epoch as it is now, the
# mark of the epoch, and the rooms
_SURVEY = Script(
    _TEXT
    + """
local clock, found = redis.call('TIME'), redis.call('HMGET', KEYS[2], 'top', 'at', 'mark')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local top = tonumber(found[1] or 0)
if found[2] then top = top + math.max(0, now - tonumber(found[2])) end
return {text(now), text(top), found[3] or '', redis.call('ZREVRANGE', KEYS[1], 0, -1)}
"""
)

# KEYS: messages and ids of a room; answers first, last, hole, and the oldest and newest that it
# has, all 0 without
_FACTS = Script("""
local found = redis.call('HMGET', KEYS[2], 'first', 'last', 'hole')
local function id(list) return list[1] and string.match(list[1][1], '%d+') or '0' end
return {found[1] or '0', found[2] or '0', found[3] or '0',
  id(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)),
  id(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1))}
""")

# KEYS: messages and tags of a room; answers mark, id and time of each tag whose message is kept
_TAGS = Script("""
local found, answer = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '+inf', 'WITHSCORES'), {}
for i = 1, #found, 2 do
  local id = string.format('%.0f', tonumber(found[i + 1]))
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then
    for _, word in ipairs({found[i], id, entry[2][2]}) do answer[#answer + 1] = word end
  end
end
return answer
""")

# KEYS: messages and tags of a room, staged
# ARGV: ms until they expire, how many messages, id, time and JSON of each, mark and id of each tag
_STAGE = Script("""
local behind = 2 + 3 * ARGV[2]
for i = 3, behind, 3 do
  redis.call('XADD', KEYS[1], ARGV[i] .. '-0', 't', ARGV[i + 1], 'b', ARGV[i + 2])
end
for i = behind + 1, #ARGV, 2 do redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
""")

# KEYS: messages, tags and ids of a room, bytes and posted of the index, staged
# ARGV: ms until they expire, the room, and what is known of it
_CLOSE = Script("""
local messages, tags, ids, sizes, posted = unpack(KEYS)
local ttl, room, first, oldest, last, hole, at = unpack(ARGV)
local newest
local from, size = '-', 0
repeat
  local found = redis.call('XRANGE', messages, from, '+', 'COUNT', 100)
  for _, entry in ipairs(found) do
    local id = string.match(entry[1], '%d+')
    if tonumber(id) < tonumber(oldest) then
      redis.call('XDEL', messages, entry[1])
    else
      size = size + #entry[2][4] + 64
    end
    from, newest = string.format('%.0f', tonumber(id) + 1), id
  end
until #found < 100
if size == 0 then return redis.call('DEL', messages, tags) end
redis.call('HSET', ids, 'first', first, 'last', last, 'jump', last, 'edge', newest, 'hole', hole)
redis.call('ZADD', sizes, size, room)
redis.call('ZADD', posted, at, room)
for _, key in ipairs({ids, sizes, posted}) do redis.call('PEXPIRE', key, ttl) end
""")

# KEYS: bytes, posted, total and epoch of the index, then bytes and posted staged
# ARGV: the names of the rooms' keys up to the name of the room, these of the staged ones, 1 to
# replace what is there, a lowest id, ms after the newest message when a room goes (0: never), and
# those for which tags are kept; answers how many rooms are in the way, or -1
_COMMIT = Script(
    _TEXT
    + """
local sizes, posted, total, epoch, new_sizes, new_posted = unpack(KEYS)
local head, staged, replace, lowest, lifetime, tags_kept = unpack(ARGV)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local parts = {'messages', 'ids', 'tags'}
local old, kept = redis.call('ZRANGEBYSCORE', sizes, '-inf', '+inf'), 0
for _, room in ipairs(old) do
  kept = kept + redis.call('EXISTS', head .. room .. '}:messages')
end
if kept > 0 and replace ~= '1' then return kept end
-- a script is not taken back: what may be refused is tried before anything is deleted
local top = math.max(tonumber(lowest), tonumber(redis.call('HGET', epoch, 'top') or 0))
redis.call('HSET', epoch, 'top', text(top), 'at', text(now))
if redis.call('EXISTS', new_posted) == 1 then
  redis.call('RENAME', new_posted, new_posted .. ':tried')
  redis.call('RENAME', new_posted .. ':tried', new_posted)
  redis.call('PERSIST', new_posted)
  redis.call('PEXPIRE', new_posted, 60000)
end
for _, room in ipairs(old) do
  for _, part in ipairs(parts) do redis.call('DEL', head .. room .. '}:' .. part) end
end
redis.call('DEL', sizes, posted, total)
local function name(from, to)
  if redis.call('EXISTS', from) == 0 then return end
  redis.call('RENAME', from, to)
  redis.call('PERSIST', to)
end
local rooms = redis.call('ZRANGEBYSCORE', new_posted, '-inf', '+inf', 'WITHSCORES')
for i = 1, #rooms, 2 do
  for _, part in ipairs(parts) do
    local key = head .. rooms[i] .. '}:' .. part
    name(staged .. rooms[i] .. '}:' .. part, key)
    local left = tonumber(lifetime) > 0 and rooms[i + 1] + lifetime - now or 0
    if part == 'tags' then left = tonumber(tags_kept) end
    if left ~= 0 then redis.call('PEXPIRE', key, text(left)) end
  end
end
name(new_sizes, sizes)
name(new_posted, posted)
return -1
"""
)


class Survey(NamedTuple):
    """What all servers have.

    Attributes:
        now: the Unix time in ms, by the clock that is ahead of the others.
        top: no room was given a higher id.
        marks: of the epochs of the servers.
        rooms: the names, in order.
    """

    now: int
    top: int
    marks: tuple[bytes, ...]
    rooms: list[str]


class _Body(msgspec.Struct):
    time: str


class RedisRooms:
    """The chat rooms of all servers.

    Args:
        redis: the servers, which are available.
        prefix: the prefix of all keys.
        kind: the kind of path whose groups the rooms are.
    """

    def __init__(self, redis: Redis, prefix: str, kind: Kind) -> None:
        self._redis = redis
        self._prefix = prefix
        self._kind = kind
        self._keys = Keys(prefix, kind)
        self._staged = Keys(f"{prefix}:{_NAME}", kind)

    async def survey(self) -> Survey:
        """Asks all servers. Raises RedisUnavailable, RedisRefused."""
        sizes, _, _, epoch = self._index(self._prefix)
        answers = [await one.run(_SURVEY, (sizes, epoch)) for one in self._redis.servers]
        names = {name.decode(errors="replace") for answer in answers for name in answer[3]}
        return Survey(
            max(int(answer[0]) for answer in answers),
            max(int(answer[1]) for answer in answers),
            tuple(bytes(answer[2]) for answer in answers),
            sorted(names),
        )

    async def records(self, survey: Survey) -> AsyncIterator[Record]:
        """The rooms with what they keep; of each room what it has when its turn comes, at least.

        Raises:
            BackupError: a server went back to an older state meanwhile.
            RedisUnavailable: a server is away.
            RedisRefused: a server refuses a command.
        """
        for room in survey.rooms:
            async for record in self._room(room):
                yield record
        if (await self.survey()).marks != survey.marks:
            raise BackupError("Redis was restarted or replaced meanwhile: make the backup again")

    async def _room(self, room: str) -> AsyncIterator[Record]:
        server = self._find(room)
        messages, ids = self._keys.of(room)
        first, last, _, _, newest = map(int, await server.run(_FACTS, (messages, ids)))
        if not newest:
            return
        yield Room(room)
        last, posted, after = max(last, newest), 0, 0
        while found := await server.call("XRANGE", messages, after + 1, newest, "COUNT", _ENTRIES):
            for entry, fields in found:
                id = int(entry.partition(b"-")[0])
                if id <= after:  # another program added it
                    continue
                after, values = id, [*fields, b"", b"", b"", b""]
                posted = int(values[1]) if values[1].isdigit() else posted
                yield Message(after, values[3].decode(errors="replace"), posted)
        tags = await server.run(_TAGS, (messages, self._keys.tags(room)))
        for mark, id, time in zip(tags[::3], tags[1::3], tags[2::3], strict=True):
            if int(id) <= newest and mark and time.isdigit():
                yield Tag(mark.decode(errors="replace"), int(id), int(time))
        _, _, hole, oldest, _ = map(int, await server.run(_FACTS, (messages, ids)))
        oldest = min(oldest or last + 1, last + 1)
        yield Kept(
            first=min(max(first, 1), oldest), oldest=oldest, last=last, hole=min(hole, last),
            posted=posted,
        )  # fmt: skip

    async def require_idle(self) -> None:
        """Raises InUse if a process is registered and lives."""
        for process in await read_processes(self._redis, self._prefix):
            if process.state != "gone":
                report = process.report
                where = f" (process {report.pid} on {report.host})" if report else ""
                raise InUse(f"relayd uses Redis{where}: stop every relayd with this Redis first")

    async def stage(self, records: Iterable[Record]) -> AsyncIterator[int]:
        """Writes rooms beside those that relayd uses.

        Args:
            records: of rooms.

        Yields:
            How many messages were written.
        """
        await self.discard()
        begun = ""
        for part in in_parts(records, _ENTRIES, _LONGEST):
            server = self._find(part.name)
            messages, ids = self._staged.of(part.name)
            tags = self._staged.tags(part.name)
            if part.name != begun:  # a restore that was killed may have left a part
                begun = part.name
                await server.call("DEL", messages, ids, tags)
            words: list[Word] = [_STAGED, len(part.messages)]
            for one in part.messages:
                words += (one.id, one.time or _time_of(one.body), one.body)
            for tag in part.tags:
                words += (tag.mark, tag.id)
            await server.run(_STAGE, (messages, tags), words)
            if part.kept is not None:
                await self._close(server, part.name, part.kept)
            yield len(part.messages)

    async def _close(self, server: RedisServer, room: str, kept: Kept) -> None:
        messages, ids = self._staged.of(room)
        sizes, posted, _, _ = self._index(f"{self._prefix}:{_NAME}")
        keys = (messages, self._staged.tags(room), ids, sizes, posted)
        words = (_STAGED, room, kept.first, kept.oldest, kept.last, kept.hole, kept.posted)
        await server.run(_CLOSE, keys, words)

    async def commit(self, lowest: int, *, replace: bool, lifetime: int, tags_kept: int) -> None:
        """Gives what was staged its names, on each server at once.

        Args:
            lowest: new rooms begin above it.
            replace: whether rooms that are there are deleted.
            lifetime: ms after its newest message when a room goes; 0 for never.
            tags_kept: ms for which tags are kept.

        Raises:
            InUse: a process has begun to use Redis.
            NotEmpty: there are rooms, and they are not to be replaced.
        """
        await self.require_idle()
        staged = self._index(f"{self._prefix}:{_NAME}")[:2]
        for server in self._redis.servers:
            found = await server.run(
                _COMMIT,
                (*self._index(self._prefix), *staged),
                (
                    *(self._keys.head, self._staged.head),
                    *(int(replace), lowest, lifetime, tags_kept),
                ),
            )
            if found > 0:
                raise NotEmpty(f"Redis {server.name} has {found} chat rooms already")

    async def discard(self) -> None:
        """Deletes what was staged and was not given its names."""
        sizes, posted, _, _ = self._index(f"{self._prefix}:{_NAME}")
        for server in self._redis.servers:
            for name in await server.call("ZRANGEBYSCORE", posted, "-inf", "+inf"):
                room = name.decode(errors="replace")
                await server.call("DEL", *self._staged.of(room), self._staged.tags(room))
            await server.call("DEL", sizes, posted)

    def _find(self, room: str) -> RedisServer:
        return self._redis.find(self._kind.group(room))

    @staticmethod
    def _index(prefix: str) -> tuple[str, ...]:
        return tuple(f"{prefix}:rooms:{part}" for part in INDEX)


def _time_of(body: str) -> int:
    """The Unix time in ms that the JSON of a message says; 0 without one."""
    try:
        text = msgspec.json.decode(body, type=_Body).time
        moment = datetime.fromisoformat(text)
    except (*UNDECODABLE, ValueError):
        return 0
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
