"""What the rooms in Redis keep: the scripts that store messages, and trim, list and delete rooms.

Under `history`. Beside the keys of each room, a server has an index of its rooms:

    <prefix>:rooms:bytes    sorted set: the rooms that keep messages, by their bytes
    <prefix>:rooms:posted   sorted set: the same rooms, by the Unix time of the newest message in ms
    <prefix>:rooms:epoch    see `epochs`
    <prefix>:rooms:total    the bytes of all of them; expires after five minutes, and is then added
                            up anew, without the rooms whose messages have gone

A message counts with its JSON and 64 bytes more. Each script changes a room and the index at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from relayd.brokers.over_redis.epochs import EPOCH, FORMAT
from relayd.names import Kind
from relayd.quotas.usage import TAGGED, StoredRoom, Usage
from relayd.redis.commands import Script, Word
from relayd.redis.store_clock import timely
from relayd.wire import ChatDraft

INDEX = ("bytes", "posted", "total", "epoch")
DELETED = b"[0]"
"""The message on the channel of a room whose messages were deleted."""

# KEYS: messages and ids of the room, then the index: bytes, posted, total, epoch
# ARGV: the names of its keys up to the name of the room, and that name
_COMMON = (
    FORMAT
    + """
local messages, ids, sizes, posted, sum, epoch = unpack(KEYS)
local key_head, room = ARGV[1], ARGV[2]
local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end
local function weigh(entry) return #(entry[2][4] or '') + 64 end
local function key(name, part) return key_head .. name .. '}:' .. part end

-- deletes the oldest entries: `least` of them, and more for so many bytes; returns the freed bytes
local function drop(stream, least, wanted, most)
  local freed, count = 0, 0
  while (count < least or freed < wanted) and count < most do
    local few = math.min(50, wanted > 0 and 50 or least - count)
    local found, gone = redis.call('XRANGE', stream, '-', '+', 'COUNT', few), {}
    for _, entry in ipairs(found) do
      if count >= most or count >= least and freed >= wanted then break end
      freed, count = freed + weigh(entry), count + 1
      gone[#gone + 1] = entry[1]
    end
    if #gone == 0 then break end
    redis.call('XDEL', stream, unpack(gone))
  end
  return freed
end

-- adds up all rooms now and then: what no script did, such as an eviction, is noticed here
local function total()
  local found = redis.call('GET', sum)
  if found then return tonumber(found) end
  local added, rooms = 0, redis.call('ZRANGEBYSCORE', sizes, '-inf', '+inf', 'WITHSCORES')
  for i = 1, #rooms, 2 do
    if redis.call('EXISTS', key(rooms[i], 'messages')) == 1 then
      added = added + tonumber(rooms[i + 1])
    else
      redis.call('ZREM', sizes, rooms[i])
      redis.call('ZREM', posted, rooms[i])
    end
  end
  redis.call('SET', sum, text(added), 'PX', 300000)
  return added
end

-- notes the bytes that a room has now; a room without any leaves the index, and soon its ids go:
-- later ones are above the top of the epoch, or the clock has passed them
local function note(name, before, size, now)
  total()
  local all = redis.call('INCRBY', sum, text(size - before))
  if size > 0 then
    redis.call('ZADD', sizes, text(size), name)
  else
    redis.call('ZREM', sizes, name)
    redis.call('ZREM', posted, name)
    redis.call('DEL', key(name, 'messages'))
    redis.call('PEXPIRE', key(name, 'ids'), 60000)
  end
  return all
end

local function size_of(name)
  return tonumber(redis.call('ZSCORE', sizes, name) or 0)
end
"""
)

# the last two of KEYS: the fence of the process (`outcomes`), the tags of the room
# further ARGV: channel ('': not published), Unix time in ms, then `Bounds.words`, 1 to create the
# room, `known` and `facts` of `epochs`, how many messages have a tag, for each of these its place
# and mark, then the texts, and the window of `timely`
_APPEND = timely(
    _COMMON
    + EPOCH
    + """
if store_end <= tonumber(redis.call('GET', KEYS[7]) or 0) then return redis.status_reply('LATE') end
local numbers = {}
for i = 4, 11 do numbers[#numbers + 1] = tonumber(ARGV[i]) end
local now, keep, room_bytes, total_bytes, max_rooms, age, room_age, tags_kept = unpack(numbers)
local create, texts, marks, repeated, tags = ARGV[12], 16 + 2 * ARGV[15], {}, {}, KEYS[8]
for i = 16, texts - 1, 2 do marks[tonumber(ARGV[i])] = ARGV[i + 1] end
local function kept_before(mark)
  local id = redis.call('ZSCORE', tags, mark)
  local entry = id and redis.call('XRANGE', messages, text(tonumber(id)), text(tonumber(id)))[1]
  if entry and now - (tonumber(entry[2][2]) or 0) <= tags_kept then
    return {string.match(entry[1], '%d+'), entry[2][4] or ''}
  end
end
local function add(id, body)
  return redis.pcall('XADD', messages, text(id) .. '-0', 't', ARGV[4], 'b', body)
end

local era = settle(epoch, ARGV[13], ARGV[14])
if era.waits then return redis.status_reply('WAIT') end
if room_age > 0 then
  local before = '(' .. text(now - room_age)
  local old = redis.call('ZRANGEBYSCORE', posted, '-inf', before, 'LIMIT', 0, 2)
  for _, name in ipairs(old) do
    if name ~= room then note(name, size_of(name), 0, now) end
  end
end
local kept, before, size = redis.call('XLEN', messages), size_of(room), 0
if kept > 0 and before > 0 then
  size = before
elseif kept > 0 then  -- the index does not know the room yet
  local from = '-'
  repeat
    local found = redis.call('XRANGE', messages, from, '+', 'COUNT', 100)
    for _, entry in ipairs(found) do size = size + weigh(entry) end
    if #found > 0 then from = text(tonumber(string.match(found[#found][1], '%d+')) + 1) end
  until #found < 100
elseif create ~= '1' or (before == 0 and redis.call('ZCARD', sizes) >= max_rooms) then
  return {}
end
local state = look(ids)
if state.last > 0 then
  join(era, epoch, messages, ids, state, 0)
else
  -- not by the clock of the process, which may differ from the others'
  state.last = math.max(math.floor(store_now) - 1, era.top)
  local newest = redis.call('XREVRANGE', messages, '+', '-', 'COUNT', 1)[1]
  newest = newest and tonumber(string.match(newest[1], '%d+')) or 0
  if newest < store_now + ten_years then state.last = math.max(state.last, newest) end
  redis.call('HSET', ids, 'first', text(state.last + 1), 'epoch', era.base)
end
local last = state.last
local first, bodies = last + 1, {}
local function store(i)
  last = last + 1
  local body = ARGV[i] .. text(last) .. ARGV[i + 1]
  bodies[#bodies + 1] = body
  local added = add(last, body)
  if failed(added) and string.find(added.err, 'equal or smaller', 1, true) then
    -- another program has added entries with higher ids: they go, with the ids
    local own = text(last - 1)
    for _, entry in ipairs(redis.call('XRANGE', messages, own .. '-1', '+', 'COUNT', 1000)) do
      redis.call('XDEL', messages, entry[1])
    end
    redis.call('XSETID', messages, own .. '-0')
    added = add(last, body)
  end
  if failed(added) then return added end
  size = size + #body + 64
end
for i = texts, #ARGV - 2, 2 do
  local place = (i - texts) / 2 + 1
  local mark = marks[place]
  local found = mark and kept_before(mark)
  if found then
    for _, word in ipairs({text(place), found[1], found[2]}) do repeated[#repeated + 1] = word end
  else
    local failure = store(i)
    if failure then return failure end
    if mark then redis.call('ZADD', tags, text(last), mark) end
  end
end
if #bodies == 0 then
  return {{text(first), 0, redis.call('ZCARD', sizes), text(total()), '0'}, repeated,
    report(era, epoch)}
end
if next(marks) and tags_kept > 0 then
  redis.call('ZREMRANGEBYRANK', tags, 0, -1 - TAGGED)  -- not by ids, which jump
  redis.call('PEXPIRE', tags, text(tags_kept))
end
redis.call('HSET', ids, 'last', text(last))
-- new rooms begin above the top
if last >= store_now then era.top = math.max(era.top, last) end
era.serial = text(tonumber(era.serial) + 1)
local ahead = era.top >= store_now and {'at', text(math.floor(store_now))} or {}
redis.call('HSET', epoch, 'serial', era.serial, 'top', text(era.top), unpack(ahead))
local over = redis.call('XLEN', messages) - keep
if over > 0 then size = size - drop(messages, over, 0, over) end
if age > 0 then
  repeat
    local found, gone = redis.call('XRANGE', messages, '-', '+', 'COUNT', 10), 0
    for _, entry in ipairs(found) do
      if (tonumber(entry[2][2]) or 0) >= now - age then break end
      size, gone = size - weigh(entry), gone + redis.call('XDEL', messages, entry[1])
    end
  until gone < 10
end
-- an eighth more, so that not every message has to
if size > room_bytes then
  size = size - drop(messages, 0, size - room_bytes + math.floor(room_bytes / 8), 2000)
end
local ttl = age
if room_age > 0 and (ttl == 0 or room_age < ttl) then ttl = room_age end
if ttl > 0 then
  redis.call('PEXPIRE', messages, text(ttl))
  redis.call('PEXPIRE', ids, text(ttl))
end
redis.call('ZADD', posted, ARGV[4], room)
local all = note(room, before, math.max(1, size), now)
if ARGV[3] ~= '' then
  redis.call('PUBLISH', ARGV[3], '[' .. text(first) .. ',' .. table.concat(bodies, ',') .. ']')
end

-- the largest rooms lose what is too much, a quarter or what they are larger by, at a time
local trimmed, rounds = 0, 0
while all > total_bytes and rounds < 8 do
  rounds = rounds + 1
  local two = redis.call('ZREVRANGE', sizes, 0, 1, 'WITHSCORES')
  local most, second = tonumber(two[2]), tonumber(two[4] or 0)
  local wanted = all - total_bytes + math.floor(total_bytes / 16)
  wanted = math.min(wanted, math.max(math.floor(most / 4), most - second, 1))
  local freed = drop(key(two[1], 'messages'), 0, wanted, 500)
  if freed == 0 or redis.call('XLEN', key(two[1], 'messages')) == 0 then freed = most end
  all = note(two[1], most, math.max(0, most - freed), now)
  trimmed = trimmed + freed
end
local new = kept > 0 and 0 or 1
return {{text(first), new, redis.call('ZCARD', sizes), text(all), text(trimmed)}, repeated,
  report(era, epoch)}
""".replace("TAGGED", str(TAGGED))
)

# further ARGV: channel, Unix time in ms; `hole` in the ids says that older messages are gone
_DELETE = Script(
    _COMMON
    + """
local found = redis.call('EXISTS', messages)
local last = redis.call('HGET', ids, 'last')
if last then redis.call('HSET', ids, 'hole', last) end
note(room, size_of(room), 0, tonumber(ARGV[4]))
redis.call('PUBLISH', ARGV[3], '[0]')
return found
"""
)

# further ARGV: how many rooms at most
_LARGEST = Script(
    _COMMON
    + """
local answer = {text(total()), redis.call('ZCARD', sizes)}
local found = redis.call('ZREVRANGE', sizes, 0, ARGV[3] - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  answer[#answer + 1] = found[i]
  answer[#answer + 1] = redis.call('XLEN', key(found[i], 'messages'))
  answer[#answer + 1] = found[i + 1]
  answer[#answer + 1] = redis.call('ZSCORE', posted, found[i]) or '0'
end
return answer
"""
)


@dataclass(frozen=True)
class Bounds:
    """What the rooms of one server keep.

    Attributes:
        length: messages of a room.
        room_bytes: bytes of a room.
        total_bytes: bytes of all rooms together.
        rooms: how many rooms.
        age: seconds after which a message is deleted; 0 for no limit by age.
        room_age: seconds without a message after which a room is deleted; 0 for never.
        tags_kept: seconds for which a message is found by its tag.
    """

    length: int = 10_000
    room_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 256 * 1024 * 1024
    rooms: int = 10_000
    age: float = 0.0
    room_age: float = 0.0
    tags_kept: float = 300.0

    @cached_property  # each message takes them
    def words(self) -> tuple[int, ...]:
        """The bounds in the order of the script; times in ms."""
        return (
            *(self.length, self.room_bytes, self.total_bytes, self.rooms),
            *(int(self.age * 1000), int(self.room_age * 1000), int(self.tags_kept * 1000)),
        )

    @property
    def lifetime(self) -> int:
        """Milliseconds after its newest message when a room goes; 0 for never."""
        return int(min((age for age in (self.age, self.room_age) if age), default=0.0) * 1000)


class Keys:
    """The names of all keys of the rooms.

    Args:
        prefix: the prefix of all keys.
        kind: the kind of path whose groups the rooms are.

    Attributes:
        head: the names of the keys of a room, up to the name of the room.
        posted: the index of the rooms by time.
    """

    def __init__(self, prefix: str, kind: Kind) -> None:
        self.head = f"{prefix}:{{{kind.group('')}"
        self._index = tuple(f"{prefix}:rooms:{part}" for part in INDEX)
        self.posted = self._index[INDEX.index("posted")]

    def of(self, room: str) -> tuple[str, str]:
        """The messages and the ids of a room."""
        return f"{self.head}{room}}}:messages", f"{self.head}{room}}}:ids"

    def tags(self, room: str) -> str:
        """The tags of a room: marks of messages, by their ids."""
        return f"{self.head}{room}}}:tags"

    def fence(self, room: str, process: str) -> str:
        """The fence of a process in a room."""
        return f"{self.head}{room}}}:fence:{process}"

    def append(
        self,
        room: str,
        channel: str,
        now: int,
        bounds: Bounds,
        create: bool,
        process: str,
        epoch: tuple[str, str],
        drafts: Sequence[ChatDraft],
    ) -> tuple[Script, Sequence[Word], Sequence[Word]]:
        """A timely script, its keys and its arguments: stores messages, and publishes them.

        It returns three lists: the first new id, whether the room is new, the rooms and bytes of
        the server, and the trimmed bytes; then place, id and JSON of each message that the room has
        already, by its tag; then what `Epochs.note` takes. It returns nothing if there is no such
        room and none may be created.
        """
        facts: tuple[Word, ...] = (now, *bounds.words, int(create), *epoch)
        words = (self.head, room, channel, *facts)
        keys = (*self.of(room), *self._index, self.fence(room, process), self.tags(room))
        return _APPEND, keys, (*words, *tagged(drafts))

    def delete(
        self, room: str, channel: str, now: int
    ) -> tuple[Script, Sequence[Word], Sequence[Word]]:
        """As `append`: deletes a room, and publishes that; it returns 1 if there was one."""
        return _DELETE, (*self.of(room), *self._index), (self.head, room, channel, now)

    def largest(self, limit: int) -> tuple[Script, Sequence[Word], Sequence[Word]]:
        """As `append`: finds the rooms that keep the most bytes; `read_largest` reads that."""
        return _LARGEST, (*self.of(""), *self._index), (self.head, "", limit)


def tagged(drafts: Sequence[ChatDraft]) -> list[Word]:
    """Messages as arguments of a script: how many have a tag, place and mark of each, the texts."""
    words: list[Word] = []
    for place, draft in enumerate(drafts, 1):
        if draft.mark:
            words += (place, draft.mark)
    return [len(words) // 2, *words, *(text for one in drafts for text in (one.head, one.tail))]


def read_largest(answer: list[Any]) -> tuple[Usage, list[StoredRoom]]:
    """What the script of `Keys.largest` has found on one server."""
    total, rooms, *found = answer
    parts = zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True)
    listed = [
        StoredRoom(name.decode(errors="replace"), int(messages), int(float(size)), int(float(at)))
        for name, messages, size, at in parts
    ]
    return Usage(int(rooms), int(total)), listed
