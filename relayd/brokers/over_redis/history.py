"""The chat history in Redis: one stream per room, read and written by atomic scripts.

Sits under `rooms`. A room has two keys, both on the server that its group belongs to:

    <prefix>:{chat/ROOM}:messages   stream; an entry <id>-0 holds t (Unix time, ms) and b (the JSON)
    <prefix>:{chat/ROOM}:ids        hash: first, the first id there ever was; last, the newest;
                                    hole, the last id of a part that Redis has lost

Ids are consecutive and begin with the Unix time in ms, so that the ids of a lost history are lower
than the ids of the next one. The stream is trimmed by count and by age.
"""

from typing import Any

from relayd.names import Kind
from relayd.redis.commands import Script
from relayd.redis.shards import Redis
from relayd.wire import ChatDraft, ChatEntry

_FORMAT = """
local function text(number) return string.format('%.0f', number) end
"""

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
  redis.call('XADD', messages, 'MAXLEN', '=', keep, text(last) .. '-0', 't', ARGV[2], 'b', body)
end
redis.call('HSET', ids, 'last', text(last))
if age > 0 then
  repeat
    local found, gone = redis.call('XRANGE', messages, '-', '+', 'COUNT', 10), 0
    for _, entry in ipairs(found) do
      if tonumber(entry[2][2]) >= now - age then break end
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

# ARGV: id, most entries, the last id that the asking process has shown, and its JSON
_SINCE = Script(
    _FORMAT
    + """
local messages, ids = KEYS[1], KEYS[2]
local id, shown = tonumber(ARGV[1]), tonumber(ARGV[3])
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
  if kept and ARGV[4] ~= '' and kept[2][4] ~= ARGV[4] then
    hole = last + 1
    redis.call('HSET', ids, 'hole', text(hole))
  end
end
local oldest = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
oldest = oldest and string.match(oldest[1], '%d+') or text(last + 1)
if id > last then id = 0 end
local answer = {text(first), oldest, text(last), text(hole)}
local after = redis.call('XRANGE', messages, text(id + 1), '+', 'COUNT', ARGV[2])
for _, entry in ipairs(after) do answer[#answer + 1] = entry[2][4] end
for _, entry in ipairs(after) do answer[#answer + 1] = string.match(entry[1], '%d+') end
return answer
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
    """

    def __init__(
        self, redis: Redis, kind: Kind, *, prefix: str, keep: int, age: float = 0.0
    ) -> None:
        self._redis = redis
        self._kind = kind
        self._prefix = prefix
        self._keep = keep
        self._age = int(age * 1000)

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
        self, room: str, id: int, limit: int, shown: ChatEntry | None = None
    ) -> tuple[int, bool, list[ChatEntry]]:
        """The first `limit` messages after an id; 0 for all there ever were.

        Args:
            room: the room's name.
            id: the last one seen.
            limit: how many messages at most.
            shown: the newest message that this process has delivered to members. Its id is never
                assigned again, even if Redis has lost the message, and the lost part counts as
                missing from then on.

        Returns:
            The newest id of the room (0: it never had a message), whether something after `id` is
            missing, and the messages. With something missing, or an `id` that the room has not
            reached, these begin with the oldest.

        Raises:
            RedisUnavailable: the history cannot be read.
        """
        id = max(0, min(id, 2**53))
        answer: list[Any] = await self._redis.find(self._kind.group(room)).run(
            _SINCE,
            self._keys(room),
            (id, limit, shown.id if shown else 0, shown.body if shown else b""),
        )
        first, oldest, last, hole = map(int, answer[:4])
        bodies = answer[4 : 4 + (len(answer) - 4) // 2]
        ids = answer[4 + len(bodies) :]
        entries = [ChatEntry(int(id), body) for id, body in zip(ids, bodies, strict=True)]
        if not last:
            return 0, id > 0, []
        if id == 0:
            return last, oldest > first or hole >= first, entries
        return last, not oldest - 1 <= id <= last or id < hole, entries

    async def last(self, room: str, count: int) -> list[ChatEntry]:
        """The last `count` messages, oldest first. Raises RedisUnavailable."""
        answer = await self._redis.find(self._kind.group(room)).call(
            "XREVRANGE", self._keys(room)[0], "+", "-", "COUNT", count
        )
        return [ChatEntry(int(id.partition(b"-")[0]), fields[3]) for id, fields in reversed(answer)]

    def channel(self, room: str) -> str:
        """The channel that carries the room's new messages."""
        return f"{self._prefix}:{self._kind.group(room)}"

    def _keys(self, room: str) -> tuple[str, str]:
        name = f"{self._prefix}:{{{self._kind.group(room)}}}"
        return f"{name}:messages", f"{name}:ids"
