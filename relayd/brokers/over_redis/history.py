"""The chat history in Redis: one stream per room, read and written by atomic scripts.

Sits under `rooms`, on `keeping` and `epochs`. A room has two keys, both on the server that its
group belongs to:

    <prefix>:{chat/ROOM}:messages   stream; an entry <id>-0 holds t (Unix time, ms) and b (the JSON)
    <prefix>:{chat/ROOM}:ids        hash: first, the first id there ever was; last, the newest;
                                    epoch, the base of its epoch; jump, the id below its first one
                                    there; edge, the last one before that, if nothing is lost
                                    between; hole, the last id of a lost part
    <prefix>:{chat/ROOM}:tags       sorted set: marks of tags, by the ids of their messages

Ids are consecutive in an epoch. They begin with the store's Unix time in ms, or above the top of
the epoch if that is higher, so a room that has gone may be created again without a trace of the
earlier one. The stream is trimmed by count, by bytes and by age.
"""

import itertools
from typing import Any

from relayd.brokers.foreign import LARGEST_ID, Foreign
from relayd.brokers.over_redis.epochs import EPOCH, FORMAT, Epochs
from relayd.brokers.over_redis.keeping import Bounds, Keys, read_largest
from relayd.brokers.over_redis.replicas import Replicas
from relayd.errors import QuotaExceeded
from relayd.names import Kind
from relayd.quotas.usage import RoomTally, StoredRoom, Usage
from relayd.redis.commands import Script
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.wire import ChatDraft, ChatEntry, ChatPage

# The first messages from an id on, bounded in number and in bytes; at least one, if there is any.
# XRANGE has no bound in bytes, so as many are fetched as probably fit by the mean of those before.
_PAGE = (
    FORMAT
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

# KEYS: messages and ids of the room, epoch
# ARGV: id, most entries, most bytes, the last id that the asking process has shown, and its JSON,
# `known` and `facts` of `epochs`, and ms without a message after which the room goes
_SINCE = Script(
    _PAGE
    + EPOCH
    + """
local messages, ids, epoch = unpack(KEYS)
local id, shown, known, facts = tonumber(ARGV[1]), tonumber(ARGV[4]), ARGV[6], ARGV[7]
local store, room = settle(epoch, known, facts), look(ids)
local function at(place) return redis.call('XRANGE', messages, place, place)[1] end
local function kept(command, from, to)
  local found = redis.call(command, messages, from, to, 'COUNT', 1)[1]
  return found and tonumber(string.match(found[1], '%d+'))
end
local first_kept = kept('XRANGE', '-', '+') or room.last + 1

-- A client has seen an id of which nobody else knows: the next ones are above it. It may also be a
-- stranger's word, so it counts up to a day ahead. The ids skip one more, for the `gap` of others.
local function surpass(id)
  local clock = redis.call('TIME')
  if id > clock[1] * 1000 + 86400000 then return end
  if room.last > 0 then
    redis.pcall('HSET', ids, 'last', text(id + 1), 'jump', text(id + 1), 'edge', text(room.last))
  end
  if id >= store.top then redis.pcall('HSET', epoch, 'top', text(id + 1)) end
end

-- a message that was shown is missing, or its id is another's now
local whole = room.epoch == store.base or store.verdict == '1'
if whole and room.last > 0 and shown >= first_kept and shown > room.hole then
  local found = shown <= room.last and at(text(shown))
  if not found or ARGV[5] ~= '' and found[2][4] ~= ARGV[5] then
    local line = string.match(known, '^%S*')
    local serial, highest = string.match(facts, '(%d+) (%d+)')
    highest = text(math.max(tonumber(highest), shown))
    local doubt = shown > tonumber(store.base) and ' ?' .. store.base or ' !'
    store = settle(epoch, line .. doubt, serial .. ' ' .. highest)
  end
end
join(store, epoch, messages, ids, room, tonumber(ARGV[8]))
if not kept('XRANGE', '-', '+') then first_kept = room.last + 1 end
local asked = id
if id > room.last then id = 0 end
local met = id == room.last or id == room.edge or id == room.jump or id == first_kept - 1
met = met or at(text(id))
local answer = {text(room.first), text(first_kept), text(room.last), text(room.hole),
  met and 1 or 0, text(kept('XREVRANGE', '+', '-') or 0), store.mark, store.serial, store.verdict}
if asked > room.last then surpass(asked) end
return page(answer, messages, text(id + 1), tonumber(ARGV[2]), tonumber(ARGV[3]))
"""
)

# ARGV: how many, most entries, most bytes
_LAST = Script(
    _PAGE
    + """
local messages, ids = KEYS[1], KEYS[2]
local count = tonumber(ARGV[1])
local found = redis.call('HMGET', ids, 'last', 'hole', 'jump')
local last, hole = tonumber(found[1] or 0), tonumber(found[2] or 0)
hole = math.max(hole, tonumber(found[3] or 0))
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
        process: the unique id of this process.
        bounds: what the rooms of each server keep.
        epochs: notes the epochs of the servers.
        foreign: checks the messages that are read.

    Attributes:
        tally: what all rooms keep, as this process has seen it last.
        replicas: publish what is appended, once it is confirmed, and bound what is read; None if
            the script publishes.
    """

    def __init__(
        self,
        redis: Redis,
        kind: Kind,
        *,
        prefix: str,
        process: str,
        bounds: Bounds,
        epochs: Epochs,
        foreign: Foreign,
    ) -> None:
        self._epochs = epochs
        self._redis = redis
        self._kind = kind
        self._prefix = prefix
        self._process = process
        self._names = Keys(prefix, kind)
        self._bounds = bounds
        self._foreign = foreign
        self._usage: dict[RedisServer, Usage] = {}
        self.tally = RoomTally()
        self.replicas: Replicas | None = None

    def epoch(self, room: str) -> str:
        """The epoch of a room's server, as this process knows it."""
        return self._epochs.base(self._redis.find(self._kind.group(room)))

    async def append(
        self,
        room: str,
        drafts: list[ChatDraft],
        now: int,
        *,
        create: bool = True,
        deadline: float = 2.0,
    ) -> tuple[bool, list[ChatEntry]]:
        """Stores messages and publishes them to the room's channel, in one script.

        Args:
            room: the room's name.
            drafts: the messages.
            now: Unix time in ms.
            create: whether the messages may create the room.
            deadline: seconds from now after which they are not stored any more.

        Returns:
            Whether they have created the room, and the entries.

        Raises:
            RedisUnanswered: the script was sent; it may have run, or may still run before the
                deadline. `outcomes` finds out.
            RedisUnavailable: the script did not run, and will not.
            RedisRefused: likewise.
            QuotaExceeded: there is no such room, and no further one may be created.
        """
        server = self._redis.find(self._kind.group(room))
        channel = "" if self.replicas else self.channel(room)
        script = self._names.append(
            *(room, channel, now, self._bounds, create, self._process),
            self._epochs.words(server),
            drafts,
        )
        answer = await server.run_timely(*script, deadline)
        if not answer:
            raise QuotaExceeded(f"{room} would be a new room")
        (first, created, rooms, size, trimmed), repeated = map(int, answer[0]), answer[1]
        self._note(server, Usage(rooms, size))
        self.tally.trimmed += trimmed
        self._epochs.saw(server, first + len(drafts) - 1)
        self._epochs.note(server, *answer[2])
        return bool(created), self._entries(room, drafts, first, repeated)

    def _entries(
        self, room: str, drafts: list[ChatDraft], first: int, repeated: list[bytes]
    ) -> list[ChatEntry]:
        before = {
            int(place) - 1: ChatEntry(int(id), body, repeated=True)
            for place, id, body in zip(*[iter(repeated)] * 3, strict=True)
        }
        ids = itertools.count(first)
        return [
            before[place] if place in before else draft.entry(next(ids))
            for place, draft in enumerate(drafts)
        ]

    async def recount(self) -> None:
        """Asks the servers what their rooms keep. Raises RedisUnavailable."""
        await self.largest(0)

    async def largest(self, limit: int) -> list[StoredRoom]:
        """The rooms that keep the most bytes, the largest first. Raises RedisUnavailable."""
        found: list[StoredRoom] = []
        for server in self._redis.servers:
            answer = await server.run(*self._names.largest(limit))
            usage, rooms = read_largest(answer)
            self._note(server, usage)
            found += rooms
        found.sort(key=lambda room: (-room.bytes, room.name))
        return found[:limit]

    def _note(self, server: RedisServer, usage: Usage) -> None:
        self._usage[server] = usage
        found = self._usage.values()
        self.tally.usage = Usage(sum(one.rooms for one in found), sum(one.bytes for one in found))

    async def delete(self, room: str, now: int) -> bool:
        """Deletes a room's messages, and publishes that to its channel.

        Args:
            room: the room's name.
            now: Unix time in ms.

        Returns:
            Whether there were any.

        Raises:
            RedisUnavailable: the outcome is unknown; the script may have run.
        """
        server = self._redis.find(self._kind.group(room))
        return bool(await server.run(*self._names.delete(room, self.channel(room), now)))

    async def since(
        self, room: str, id: int, limit: int, size: int, shown: ChatEntry | None = None
    ) -> tuple[int, ChatPage, int]:
        """The first page after an id; 0 for all messages there ever were.

        Args:
            room: the room's name.
            id: the last one seen.
            limit: how many messages at most.
            size: their bytes at most; at least one message is returned, if there is any.
            shown: the newest message that this process has delivered to members. If Redis has lost
                it, a new epoch begins.

        Returns:
            The newest id of the room (0: it never had a message), the page, and the newest kept
            message that its reader has then. With an `id` that the room has not reached, the
            messages begin with the oldest.

        Raises:
            RedisUnavailable: the history cannot be read.
        """
        id = after = max(0, min(id, LARGEST_ID))
        server, known = self._redis.find(self._kind.group(room)), shown or ChatEntry(0, b"")
        while True:
            words = (after, limit, size, known.id, known.body, *self._epochs.words(server))
            keys = (*self._keys(room), self._epochs.key)
            answer: list[Any] = await server.run(_SINCE, keys, (*words, self._bounds.lifetime))
            if after == id:
                first, oldest, last, hole, met, kept = map(int, answer[:6])
            self._epochs.saw(server, int(answer[2]))
            self._epochs.note(server, *answer[6:9])
            entries, newest = self._read(room, answer[9:])
            if entries or newest >= last or newest <= after:
                break
            after = newest  # none of these is a message
        if not last:
            return 0, ChatPage([], gap=id > 0, from_start=id > 0), 0
        unmet, lost = oldest > first, hole >= first
        if id:
            unmet, lost = not oldest - 1 <= id <= last or not met, id < hole
        more = bool(entries) and newest < last
        gap, lost = unmet or lost, lost and not unmet
        page = ChatPage(entries, gap=gap, more=more, from_start=id > last, lost=lost)
        last, page = await self._confirmed(room, last, page)
        return last, page, page.entries[-1].id if page.entries else min(id, kept, last)

    async def last(self, room: str, count: int, limit: int, size: int) -> ChatPage:
        """The first page of the last `count` messages. Raises RedisUnavailable.

        Args:
            room: the room's name.
            count: how many messages.
            limit: how many of them at most.
            size: as for `since`.
        """
        last, page = await self._read_last(room, count, limit, size)
        return (await self._confirmed(room, last, page))[1]

    async def newest(self, room: str) -> ChatEntry | None:
        """The newest message, confirmed by replicas or not. Raises RedisUnavailable."""
        entries = (await self._read_last(room, 1, 1, 1))[1].entries
        return entries[-1] if entries else None

    async def _read_last(
        self, room: str, count: int, limit: int, size: int
    ) -> tuple[int, ChatPage]:
        answer: list[Any] = await self._redis.find(self._kind.group(room)).run(
            _LAST, self._keys(room), (count, limit, size)
        )
        last, (entries, newest) = int(answer[0]), self._read(room, answer[1:])
        return last, ChatPage(entries, more=bool(entries) and newest < last)

    async def _confirmed(self, room: str, last: int, page: ChatPage) -> tuple[int, ChatPage]:
        """The newest id and the part of a page that members may see."""
        if self.replicas is None:
            return last, page
        run_id = self._redis.find(self._kind.group(room)).run_id
        seen = await self.replicas.newest(room, last, run_id)
        if seen >= last:
            return last, page
        entries = [entry for entry in page.entries if entry.id <= seen]
        more = page.more and len(entries) == len(page.entries)
        return seen, ChatPage(entries, page.gap, more, page.from_start, page.lost)

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
        return self._names.of(room)
