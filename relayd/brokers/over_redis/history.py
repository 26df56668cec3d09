"""The chat history in Redis: one stream per room, read and written by atomic scripts.

Sits under `rooms`. A room has two keys, both on the server that its group belongs to:

    <prefix>:{chat/ROOM}:messages   stream; an entry <id>-0 holds t (Unix time, ms) and b (the JSON)
    <prefix>:{chat/ROOM}:ids        hash: first, the first id there ever was; last, the newest;
                                    hole, the last id of a part that Redis has lost

Ids are consecutive and begin with the Unix time in ms, so that the ids of a lost history are lower
than the ids of the next one. The stream is trimmed by count and by age.
"""

from typing import Any

from relayd.brokers.foreign import LARGEST_ID, Foreign
from relayd.names import Kind
from relayd.redis.commands import Script
from relayd.redis.shards import Redis
from relayd.wire import ChatDraft, ChatEntry, ChatPage

_FORMAT = """
local function text(number) return string.format('%.0f', number) end
local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end
local function add(messages, id, now, keep, body)
  return redis.pcall('XADD', messages, 'MAXLEN', '=', keep, text(id) .. '-0', 't', now, 'b', body)
end
"""

# The first messages from an id on, bounded in number and in bytes; at least one, if there is any.
# XRANGE has no bound in bytes, so as many are fetched as probably fit by the mean of those before.
_PAGE = (
    _FORMAT
    + """
local function page(answer, messages, from, limit, size)
  local found, total, want = {}, 0, 4
  while #found < limit and total < size do
    local part = redis.call('XRANGE', messages, from, '+', 'COUNT', math.min(want, limit - #found))
    for _, entry in ipairs(part) do
      local body = entry[2][4] or ''
      if #found > 0 and total + #body > size then part = {} break end
      total = total + #body
      found[#found + 1] = {body, string.match(entry[1], '%d+')}
    end
    if #part == 0 then break end
    from = text(tonumber(found[#found][2]) + 1)
    want = math.min(4 * want, math.floor((size - total) * #found / math.max(total, 1)) + 1)
  end
  for _, each in ipairs(found) do answer[#answer + 1] = each[1] end
  for _, each in ipairs(found) do answer[#answer + 1] = each[2] end
  return answer
end
"""
)

# ARGV: channel, Unix time in ms, entries to keep, age in ms (0: any), then head and tail of each
_APPEND = Script(
    _FORMAT
    + """
local messages, ids = KEYS[1], KEYS[2]
local now, keep, age = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local last = redis.call('HGET', ids, 'last')
if last then
  last = tonumber(last)
else
  last = now - 1
  local newest = redis.call('XREVRANGE', messages, '+', '-', 'COUNT', 1)[1]
  if newest then last = math.max(last, tonumber(string.match(newest[1], '%d+'))) end
  redis.call('HSET', ids, 'first', text(last + 1))
end
local first, bodies = last + 1, {}
for i = 5, #ARGV, 2 do
  last = last + 1
  local body = ARGV[i] .. text(last) .. ARGV[i + 1]
  bodies[#bodies + 1] = body
  local added = add(messages, last, ARGV[2], keep, body)
  if failed(added) and string.find(added.err, 'equal or smaller', 1, true) then
    -- another program has added entries with higher ids: they go, with the ids
    local own = text(last - 1)
    for _, entry in ipairs(redis.call('XRANGE', messages, own .. '-1', '+', 'COUNT', 1000)) do
      redis.call('XDEL', messages, entry[1])
    end
    redis.call('XSETID', messages, own .. '-0')
    added = add(messages, last, ARGV[2], keep, body)
  end
  if failed(added) then return added end
end
redis.call('HSET', ids, 'last', text(last))
if age > 0 then
  repeat
    local found, gone = redis.call('XRANGE', messages, '-', '+', 'COUNT', 10), 0
    for _, entry in ipairs(found) do
      if (tonumber(entry[2][2]) or 0) >= now - age then break end
      gone = gone + redis.call('XDEL', messages, entry[1])
    end
  until gone < 10
  redis.call('PEXPIRE', messages, age)
  redis.call('PEXPIRE', ids, age)
end
redis.call('PUBLISH', ARGV[1], '[' .. text(first) .. ',' .. table.concat(bodies, ',') .. ']')
return first
"""
)

# ARGV: id, most entries, most bytes, the last id that the asking process has shown, and its JSON
_SINCE = Script(
    _PAGE
    + """
local messages, ids = KEYS[1], KEYS[2]
local id, shown = tonumber(ARGV[1]), tonumber(ARGV[4])
local found = redis.call('HMGET', ids, 'first', 'last', 'hole')
local first, last, hole = tonumber(found[1] or 0), tonumber(found[2] or 0), tonumber(found[3] or 0)
if last < shown then
  last, hole = shown, shown
  if first == 0 then first = shown + 1 end
  redis.call('HSET', ids, 'first', text(first), 'last', text(last), 'hole', text(hole))
  -- others may have been given ids since that this process knows as older messages
  hole = shown + 1
elseif shown > 0 then
  local kept = redis.call('XRANGE', messages, text(shown), text(shown))[1]
  if kept and ARGV[5] ~= '' and kept[2][4] ~= ARGV[5] then
    hole = last + 1
    redis.call('HSET', ids, 'hole', text(hole))
  end
end
local oldest = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
oldest = oldest and string.match(oldest[1], '%d+') or text(last + 1)
if id > last then id = 0 end
local answer = {text(first), oldest, text(last), text(hole)}
return page(answer, messages, text(id + 1), tonumber(ARGV[2]), tonumber(ARGV[3]))
"""
)

# ARGV: how many, most entries, most bytes
_LAST = Script(
    _PAGE
    + """
local messages, ids = KEYS[1], KEYS[2]
local count = tonumber(ARGV[1])
local found = redis.call('HMGET', ids, 'last', 'hole')
local last, hole = tonumber(found[1] or 0), tonumber(found[2] or 0)
local from = last - count + 1
if hole >= from or last == 0 then
  -- ids are missing, so the messages are counted
  local seen, before = 0, '+'
  repeat
    local part = redis.call('XREVRANGE', messages, before, '-', 'COUNT', 10)
    for _, entry in ipairs(part) do
      if seen < count then
        seen, from = seen + 1, tonumber(string.match(entry[1], '%d+'))
      end
      last = math.max(last, from)
    end
    before = text(from - 1)
  until #part < 10 or seen >= count or from < 1
end
local limit = math.min(count, tonumber(ARGV[2]))
return page({text(last)}, messages, text(math.max(from, 0)), limit, tonumber(ARGV[3]))
"""
)


class RedisHistory:
    """The messages of all rooms.

    Args:
        redis: the servers.
        kind: the kind of path whose groups the rooms are.
        prefix: the prefix of all keys.
        keep: how many messages a room keeps.
        age: seconds after which a message is deleted; 0 for no limit by age.
        foreign: checks the messages that are read.
    """

    def __init__(
        self,
        redis: Redis,
        kind: Kind,
        *,
        prefix: str,
        keep: int,
        foreign: Foreign,
        age: float = 0.0,
    ) -> None:
        self._redis = redis
        self._kind = kind
        self._prefix = prefix
        self._keep = keep
        self._age = int(age * 1000)
        self._foreign = foreign

    async def append(self, room: str, drafts: list[ChatDraft], now: int) -> list[ChatEntry]:
        """Stores messages and publishes them to the room's channel, in one script.

        Args:
            room: the room's name.
            drafts: the messages.
            now: Unix time in ms.

        Raises:
            RedisUnavailable: the outcome is unknown; the script may have run.
            RedisRefused: the script did not run.
        """
        words: list[bytes | str | int] = [self.channel(room), now, self._keep, self._age]
        for draft in drafts:
            words += (draft.head, draft.tail)
        first = await self._redis.find(self._kind.group(room)).run(_APPEND, self._keys(room), words)
        return [draft.entry(id) for id, draft in enumerate(drafts, int(first))]

    async def since(
        self, room: str, id: int, limit: int, size: int, shown: ChatEntry | None = None
    ) -> tuple[int, ChatPage]:
        """The first page after an id; 0 for all messages there ever were.

        Args:
            room: the room's name.
            id: the last one seen.
            limit: how many messages at most.
            size: their bytes at most; at least one message is returned, if there is any.
            shown: the newest message that this process has delivered to members. Its id is never
                assigned again, even if Redis has lost the message, and the lost part counts as
                missing from then on.

        Returns:
            The newest id of the room (0: it never had a message), and the page. With something
            missing, or an `id` that the room has not reached, its messages begin with the oldest.

        Raises:
            RedisUnavailable: the history cannot be read.
        """
        id = after = max(0, min(id, LARGEST_ID))
        server, known = self._redis.find(self._kind.group(room)), shown or ChatEntry(0, b"")
        while True:
            answer: list[Any] = await server.run(
                _SINCE, self._keys(room), (after, limit, size, known.id, known.body)
            )
            if after == id:
                first, oldest, last, hole = map(int, answer[:4])
            entries, newest = self._read(room, answer[4:])
            if entries or newest >= last or newest <= after:
                break
            after = newest  # none of these is a message
        if not last:
            return 0, ChatPage([], gap=id > 0)
        gap = oldest > first or hole >= first
        if id:
            gap = not oldest - 1 <= id <= last or id < hole
        return last, ChatPage(entries, gap=gap, more=bool(entries) and newest < last)

    async def last(self, room: str, count: int, limit: int, size: int) -> ChatPage:
        """The first page of the last `count` messages. Raises RedisUnavailable.

        Args:
            room: the room's name.
            count: how many messages.
            limit: how many of them at most.
            size: as for `since`.
        """
        answer: list[Any] = await self._redis.find(self._kind.group(room)).run(
            _LAST, self._keys(room), (count, limit, size)
        )
        entries, newest = self._read(room, answer[1:])
        return ChatPage(entries, more=bool(entries) and newest < int(answer[0]))

    def _read(self, room: str, answer: list[bytes]) -> tuple[list[ChatEntry], int]:
        """The messages in an answer of `page`, and the last id in it; 0 if it is empty."""
        bodies, ids = answer[: len(answer) // 2], answer[len(answer) // 2 :]
        return self._check(room, ids, bodies), int(ids[-1]) if ids else 0

    def _check(self, room: str, ids: list[bytes], bodies: list[bytes]) -> list[ChatEntry]:
        """The entries of a room's stream that are messages."""
        entries = []
        for id, body in zip(ids, bodies, strict=True):
            try:
                entries.append(self._foreign.check_entry(int(id), body))
            except ValueError as error:
                self._foreign.drop(f"the history of {room}", error)
        return entries

    def channel(self, room: str) -> str:
        """The channel that carries the room's new messages."""
        return f"{self._prefix}:{self._kind.group(room)}"

    def _keys(self, room: str) -> tuple[str, str]:
        name = f"{self._prefix}:{{{self._kind.group(room)}}}"
        return f"{name}:messages", f"{name}:ids"
