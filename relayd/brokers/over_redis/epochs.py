"""The epochs of a store: which ids belong together, and whether acknowledged messages are lost.

Under `history`, beside `keeping`. A Redis that returns from an older file, a promoted replica and
an emptied one have a past that differs from what clients have seen. Each begins a new epoch: ids go
on above all that may have been given out, so none is ever that of two messages. Each server has

    <prefix>:rooms:epoch    hash: mark, the lineage of the server and the base of the epoch; top, no
                            room was given a higher id, unless the clock has passed it; at, the
                            store's Unix time in ms when top was last ahead of it; serial, how
                            often messages were stored; verdict; lost, the base of the epoch
                            before whose beginning messages are missing; past, base=serial of
                            the epochs before, at their ends; met, the processes that have
                            compared what they know; peers, how many there are; asked, the
                            store's Unix time in ms since when one vouches

An epoch in a store comes back with the store's snapshot, so the lineage (run id and replication
id, as the server says now) tells a new one. Each process remembers the epoch and the serial that it
has seen last. If the store has both in its past, nothing that was acknowledged to this process is
lost, and it vouches; else messages are lost. A process that stood still knows less than the others,
so the epoch begins only when all have compared: until then every script answers WAIT. Some seconds
later it begins without those that did not come, which may have acknowledged what is lost. Every
process whose rooms have members is notified of a loss, by the channel that has the name of the key.
docs/decisions/0010-epochs.md has the reasons.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from relayd.errors import RedisUnavailable
from relayd.logs import Logger
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis

_LOST = 2
"""The verdict on an epoch: acknowledged messages were lost before it.

1: none were, as far as anybody knows. 3: a process vouches for that, and others are waited for. 0:
no process has come yet that knows the epoch before.
"""

WAIT = b"WAIT"
"""What a script answers that did nothing, while the processes compare what they know."""

_PATIENCE = 3000
"""Milliseconds that a process which vouches waits for others: they reconnect within them."""
_PACE = 0.9
"""Ids that a room may get in a millisecond, on average since its epoch began."""
_PAUSE = 0.1
"""Seconds between two questions whether the processes have compared."""

FORMAT = """
local function text(number) return string.format('%.0f', number) end
"""

# Behind `FORMAT`. `epoch` is the key, `known` and `facts` what the process has seen: lineage and
# base; serial and highest id, then how many processes there are, and which it is. Every epoch
# begins two hours of ids above the clock, or above all ids that it knows of. Its ids go on more
# slowly than the clock, so a later epoch is above it even where nobody knows of it; and they never
# get much further ahead, however often a store goes back.
EPOCH = (
    f"""
local patience, pace = {_PATIENCE}, {_PACE}
"""
    + """
local far, pause, most_past, ten_years = 7200000, 3600000, 20, 315360000000
local function split(mark) return string.match(mark or ' ', '^(%S*) (%S*)$') end

local function lineage()
  local server, other = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  if type(server) ~= 'string' or type(other) ~= 'string' then return nil end
  local run, copy = string.match(server, 'run_id:(%w+)'), string.match(other, 'master_replid:(%w+)')
  return run and copy and string.sub(run, 1, 16) .. ':' .. string.sub(copy, 1, 16)
end

-- in milliseconds: a Redis that was emptied may be back within the same second
local function read_clock()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function settle(epoch, known, facts)
  local found = redis.call('HMGET', epoch, 'mark', 'top', 'serial', 'verdict', 'lost', 'at')
  local store = {mark = found[1], top = tonumber(found[2] or 0), serial = found[3] or '0',
    verdict = found[4], lost = found[5], at = tonumber(found[6])}
  local line, base = split(store.mark)
  store.base = base
  if store.mark == known then return store end
  local past = redis.call('HGET', epoch, 'past') or ''
  local here, seen = split(known)
  local seen_serial, highest, peers, process = string.match(facts, '(%d+) (%d+) ?(%d*) ?(%S*)')

  local function begin(verdict, lost)
    local now, ends = read_clock(), {}
    if base ~= '' then past = base .. '=' .. store.serial .. ' ' .. past end
    for one in string.gmatch(past, '%S+') do
      if #ends < most_past then ends[#ends + 1] = one end
    end
    past = table.concat(ends, ' ')
    -- other programs may have written anything
    local above = math.min(math.max(tonumber(highest), tonumber(seen) or 0), now + ten_years)
    -- without a time, an earlier version of relayd has written the top
    local passed = store.at and math.floor(math.max(0, now - store.at) * pace) or pause
    store.top = math.max(now + far, store.top + passed, above) + 1
    base, store.verdict = text(store.top), verdict
    store.base, store.mark, store.lost = base, line .. ' ' .. base, lost or base
    store.at = now
    redis.call('HSET', epoch, 'mark', store.mark, 'top', base, 'at', text(now), 'verdict', verdict,
      'past', past, 'lost', store.lost, 'met', '', 'peers', '0', 'asked', '0')
  end

  -- acknowledged messages are lost
  local function lose(again)
    if again or store.verdict == '1' then
      begin('2', not again and base)
    else
      if tonumber(highest) > store.top then
        store.top = tonumber(highest) + 1
        redis.call('HSET', epoch, 'top', text(store.top))
      end
      if store.verdict == '2' then return end
      store.verdict = '2'
      redis.call('HSET', epoch, 'verdict', '2')
    end
    redis.call('PUBLISH', epoch, store.mark)
  end

  if line ~= here or not store.mark then here = lineage() or here end
  -- notes that the process has compared; one that vouches waits for those that may know more
  local function compare(vouches)
    local found, now = redis.call('HMGET', epoch, 'met', 'peers', 'asked'), read_clock()
    local met, most, asked = found[1] or '', tonumber(found[2] or 0), tonumber(found[3] or 0)
    if seen ~= '' and process ~= '' then
      most = math.max(most, tonumber(peers) or 0)
      if not string.find(met, process .. ' ', 1, true) then met = met .. process .. ' ' end
    end
    if vouches and store.verdict == '0' and asked == 0 then store.verdict, asked = '3', now end
    if store.verdict == '3' or vouches then
      local _, count = string.gsub(met, ' ', ' ')
      if count >= most then
        store.verdict = '1'
      elseif math.abs(now - asked) > patience then  -- a clock that has stepped ends it, too
        store.verdict = '0'  -- one that has gone may have acknowledged what is lost
      end
      store.waits = store.verdict == '3'
    end
    redis.call('HSET', epoch, 'verdict', store.verdict, 'met', met, 'peers', text(most),
      'asked', text(asked))
  end

  if not store.mark or line ~= here and here ~= '' then
    line = here
    -- without a mark, and nobody who knows one, it is new to relayd or of an earlier version
    begin((store.mark or seen ~= '') and '0' or '1')
  end
  local vouches = false
  if seen ~= '' and seen ~= base then
    -- a question mark: the process has found that messages of this very epoch are missing
    local doubted = string.match(seen, '^%?(.*)')
    local ended = not doubted and string.match(' ' .. past, ' ' .. seen .. '=(%d+)')
    if not ended or tonumber(seen_serial) > tonumber(ended) then
      lose(doubted == base)
    else
      -- a process that missed an epoch does not know what was acknowledged in it
      vouches = seen == string.match(past, '^([^=]*)')
    end
  end
  if store.verdict == '3' or store.verdict == '0' and seen ~= '' then compare(vouches) end
  return store
end

-- as `Epochs.note` takes it. Each process subscribes the channel of the epoch, so it counts them
local function report(store, epoch)
  local found = redis.pcall('PUBSUB', 'NUMSUB', epoch)
  local peers = type(found) == 'table' and found[2] or 0
  return {store.mark, store.serial, store.verdict, text(store.top), text(peers)}
end

-- the room goes on above all ids that may have been given out, if it is from an earlier epoch
local function join(store, epoch, messages, ids, room, ttl)
  if room.epoch == store.base or room.last == 0 then return end
  if not room.epoch and ttl > 0 then  -- rooms of earlier versions have no age
    redis.call('PEXPIRE', messages, text(ttl))
    redis.call('PEXPIRE', ids, text(ttl))
  end
  local from, joined, jump = room.last, room.epoch, room.jump
  room.last, room.epoch = math.max(from, store.top), store.base
  room.jump = room.last
  if store.verdict == '1' then
    room.edge = from
  elseif joined == store.lost then  -- what it has got since is whole
    room.edge, room.hole = from, math.max(room.hole, jump)
  else
    room.hole = room.last
  end
  redis.call('HSET', ids, 'last', text(room.last), 'epoch', room.epoch, 'jump', text(room.jump),
    'edge', text(room.edge), 'hole', text(room.hole))
  if room.last > store.top then
    store.top = room.last
    redis.call('HSET', epoch, 'top', text(store.top))
  end
end

local function look(ids)
  local found = redis.call('HMGET', ids, 'first', 'last', 'hole', 'epoch', 'jump', 'edge')
  return {first = tonumber(found[1] or 0), last = tonumber(found[2] or 0),
    hole = tonumber(found[3] or 0), epoch = found[4], jump = tonumber(found[5] or 0),
    edge = tonumber(found[6] or 0)}
end
"""
)


class _Seen:
    """What this process has seen last of a server."""

    def __init__(self) -> None:
        self.base = ""
        self.serial = 0
        self.highest = 0
        self.top = 0  # of the epoch, and when it was read
        self.top_at = 0.0
        self.told = ""  # the base of the last epoch whose loss was passed on
        self.subscribed = False
        self.peers = 0  # how many processes there were then; 0 if that is unknown
        self.waiting: list[Deferred[None]] | None = None  # for the processes to compare


_SETTLE = Script(
    FORMAT
    + EPOCH
    + """
local store = settle(KEYS[1], ARGV[1], ARGV[2])
if store.waits then return redis.status_reply('WAIT') end
return report(store, KEYS[1])
"""
)


class Epochs:
    """The epochs of all servers, as this process has seen them.

    Args:
        redis: the servers.
        prefix: the prefix of all keys.
        clock: for pauses.
        process: the unique id of this process.
    """

    _log = Logger()

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        *,
        clock: IReactorTime,
        process: str,
    ) -> None:
        self.key = f"{prefix}:rooms:epoch"
        self._clock = clock
        self._process = process
        self._seen = {server: _Seen() for server in redis.servers}
        self._lost: Callable[[RedisServer], None] | None = None
        for server in redis.servers:
            server.watch(partial(self._changed, server))

    def refresh(self) -> None:
        """Looks at the epochs: a process that is idle would know less than others."""
        for server in self._seen:
            if server.available:
                Deferred.fromCoroutine(self._settle(server))

    def on_loss(self, lost: Callable[[RedisServer], None]) -> None:
        """Registers the callback for a server that has lost acknowledged messages."""
        self._lost = lost

    def base(self, server: RedisServer) -> str:
        """The base of the epoch that was seen last; empty before the first."""
        return self._seen[server].base

    def words(self, server: RedisServer) -> tuple[str, str]:
        """The arguments `known` and `facts` of `EPOCH`."""
        seen = self._seen[server]
        # others may have given ids since, by the clock
        top = (
            seen.top + int((self._clock.seconds() - seen.top_at) * 1000 * _PACE) if seen.top else 0
        )
        facts = f"{seen.serial} {max(seen.highest, top)} {seen.peers} {self._process}"
        return f"{server.lineage} {seen.base}", facts

    async def decided(self, server: RedisServer, run: Callable[[], Awaitable[Any]]) -> Any:
        """Runs a script, again and again while it answers WAIT; returns its answer.

        Args:
            server: the server of the script.
            run: runs it once; an exception ends it.
        """
        while (answer := await run()) == WAIT:
            seen = self._seen[server]
            if seen.waiting is None:
                Deferred.fromCoroutine(self._compare(server))
            if seen.waiting is not None:
                compared: Deferred[None] = Deferred()
                seen.waiting.append(compared)
                await compared
        return answer

    def saw(self, server: RedisServer, id: int) -> None:
        """Notes an id that a room on a server has given."""
        seen = self._seen[server]
        if id > seen.highest:
            seen.highest = id

    def note(
        self,
        server: RedisServer,
        mark: bytes,
        serial: bytes,
        verdict: bytes,
        top: bytes,
        peers: bytes,
    ) -> None:
        """Notes the last part of a script's answer, as `report` in `EPOCH` makes it."""
        seen, base, count = self._seen[server], mark.decode().partition(" ")[2], int(serial)
        if base == seen.base and count < seen.serial:
            # the server does not tell its lineage, and has gone back within the epoch
            seen.base = f"?{base}"
            Deferred.fromCoroutine(self._settle(server))
            return
        seen.base, seen.serial, seen.peers = base, count, int(peers)
        seen.top, seen.top_at = int(top), self._clock.seconds()
        if int(verdict) == _LOST and seen.told != base:
            seen.told = base
            if self._lost is not None:
                self._lost(server)

    def _changed(self, server: RedisServer, available: bool) -> None:
        if available:
            Deferred.fromCoroutine(self._settle(server))

    async def _settle(self, server: RedisServer) -> None:
        seen = self._seen[server]
        try:
            if not seen.subscribed:
                await server.subscribe(self.key, partial(self._notified, server))
                seen.subscribed = True
            await self._compare(server)
        except (RedisUnavailable, RedisRefused):
            pass  # the end of the outage does it

    async def _compare(self, server: RedisServer) -> None:
        seen = self._seen[server]
        if seen.waiting is not None:
            return
        seen.waiting = []
        try:
            while True:
                answer = await server.run(_SETTLE, (self.key,), self.words(server))
                if answer != WAIT:
                    break
                await deferLater(self._clock, _PAUSE)
            self.note(server, *answer)
        except (RedisUnavailable, RedisRefused):
            pass  # the end of the outage, or the next script, does it
        except Exception:
            self._log.failure("comparing epochs with {server} failed", server=server.name)
        finally:
            waiting, seen.waiting = seen.waiting, None
            for compared in waiting:
                compared.callback(None)

    def _notified(self, server: RedisServer, mark: bytes) -> None:
        if mark.decode(errors="replace") != self.words(server)[0]:
            Deferred.fromCoroutine(self._settle(server))
