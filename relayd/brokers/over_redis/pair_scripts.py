"""Pairs in Redis: the keys, the scripts that alone access them, the messages that these publish.

Under `leases` and `frame_scripts`; stands on `relayd.redis`. Each side of a pair is a
lease, a key `<prefix>:{pair/<uuid>}:unity` or `...:android` of the value `<process>:<token>`, and
`:<secret>` behind it if the pair is bound to a secret, of which this is a hash. It expires unless
its process renews it.

The secret of a pair is that of its headset, or, while that has left, of its phone. No lease of
another one is acquired, nor released, as long as one of these lives; a headset with a secret takes
the place of one without, and of its phone.

Tokens are fencing tokens: a connection first gets a token, greater than all before it, and then
acquires the lease with it. If this were one step, a command that reaches Redis after its sender
gave it up could overwrite a newer lease; with a token, such a command is too old. Tokens begin at
Redis' clock in microseconds, so they also grow after Redis has lost its data. All are even.
`...:newest` is the greatest token that ever held the lease, plus one after that one was released: a
connection with a smaller token was replaced, or is late. `...:given` is the last token that was
assigned. Both outlive the lease by `memory` seconds, and no longer, since

- as long as a lease is held, its own token keeps older ones out, and each renewal keeps `newest`;
- a late command waits in a buffer in front of Redis, which Redis reads in its next turn, or as it
  goes on after a stop, and keys that ended meanwhile are older than any command that waited. A
  process gives its connection up, and what waits in it, when no answer came within the deadline;
- a command that is later still can take a lease that nobody holds, never one that is held; nobody
  renews it, so it ends within `ttl`, and its process answers that it has no such headset.

`...:duel` counts takeovers of the lease, from the first one on (`brokers.duels`).

Each process has an inbox, the channel `<prefix>:process:<process>`, on every server.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from relayd.brokers import duels
from relayd.errors import RedisUnavailable
from relayd.logs import Logger
from relayd.redis.commands import Script, Word
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis

Side = Literal["unity", "android"]


class Claim(NamedTuple):
    """What acquires or holds a lease.

    Attributes:
        side: the side of the pair.
        uuid: the UUID of the pair.
        token: the fencing token.
        secret: the hash of its secret; empty without one.
    """

    side: Side
    uuid: str
    token: int
    secret: str = ""


REPLACED, ALONE, PAIRED, WRONG_SECRET = 0, 1, 2, 3
"""The result of a claim: token too old; lease held, the other side's is not; both held; the pair is
bound to another secret."""
DUEL = 8
"""Added to the result of a claim that was one takeover too many."""
_DUEL_ARGS = (duels.MOST, round(duels.WITHIN * 1000), round(duels.QUIET * 1000))

# Lua keeps one copy of equal strings, so that a comparison takes the same time wherever two differ
PARTS = """
local function parts(lease)  -- process, token and secret of the value of a lease
  return string.match(lease or '', '^([^:]*):(%d+):?(%x*)$')
end
local function is_wrong(side, secret, own, other)
-- whether the pair has another secret, by those of the lease of this side and of the other one
  if side == 'android' and other then return other ~= secret end
  local bound = own or other or ''
  return bound ~= '' and bound ~= secret
end
"""

_TOKEN = Script("""
-- A new token. KEYS: the last that was given, the newest that held the lease
-- ARGV: ms to remember it
local now = redis.call('TIME')
local token = now[1] * 1000000 + now[2]
token = token - token % 2
for _, key in ipairs(KEYS) do
  local last = tonumber(redis.call('GET', key) or 0)
  if token <= last then token = last + 2 - last % 2 end
end
redis.call('SET', KEYS[1], string.format('%.0f', token), 'PX', ARGV[1])
return token
""")

_HOLD = Script(
    PARTS
    + """
-- Takes or renews leases. For each of them,
-- KEYS: the lease, its newest token, its takeovers, the other side's lease, its newest token
-- ARGV: process, ms to live, ms to remember, what inboxes begin with, takeovers that are no duel,
--   ms in which they are counted, ms without another report; for each: side, uuid, token, secret
local process, ttl, memory, inboxes = unpack(ARGV, 1, 4)
local answers = {}
for i = 1, #KEYS / 5 do
  local lease, newest, duel, other, other_newest = unpack(KEYS, 5 * i - 4, 5 * i)
  local side, uuid, token, secret = unpack(ARGV, 4 * i + 4, 4 * i + 7)
  local ours = process .. ':' .. token
  if secret ~= '' then ours = ours .. ':' .. secret end
  local holder = redis.call('GET', lease)
  local partner = redis.call('GET', other)
  answers[i] = partner and 2 or 1
  if holder == ours then
    redis.call('PEXPIRE', lease, ttl)
    if redis.call('PEXPIRE', newest, memory) == 0 then
      redis.call('SET', newest, token, 'PX', memory)
    end
  else
    local theirs, their_token, their_secret = parts(holder)
    local phone, phone_token, phone_secret = parts(partner)
    local last = tonumber(redis.call('GET', newest) or 0)
    if math.max(last, tonumber(their_token or 0)) > tonumber(token) then
      answers[i] = 0
    elseif is_wrong(side, secret, their_secret, phone_secret) then
      answers[i] = 3
    else
      redis.call('SET', lease, ours, 'PX', ttl)
      redis.call('SET', newest, token, 'PX', memory)
      if theirs and theirs ~= process then
        redis.call('PUBLISH', inboxes .. theirs,
          string.format('["replaced","%s","%s",%s]', side, uuid, their_token))
      end
      if phone and side == 'unity' and phone_secret ~= secret then
        redis.call('DEL', other)
        redis.call('SET', other_newest, string.format('%.0f', tonumber(phone_token) + 1),
          'PX', memory)
        redis.call('PUBLISH', inboxes .. phone,
          string.format('["barred","%s",%s]', uuid, phone_token))
        answers[i] = 1
      elseif phone and side == 'unity' and not holder then
        redis.call('PUBLISH', inboxes .. phone,
          string.format('["news","%s",%s,true]', uuid, phone_token))
      end
      if theirs then
        local count = redis.call('INCR', duel)
        if count == 1 then redis.call('PEXPIRE', duel, ARGV[6]) end
        if count == ARGV[5] + 1 then
          redis.call('PEXPIRE', duel, ARGV[7])
          answers[i] = answers[i] + 8
        end
      end
    end
  end
end
local now = redis.call('TIME')
return {answers, now[1] * 1000 + math.floor(now[2] / 1000)}
"""
)

_LEAVE = Script(
    PARTS
    + """
-- Takes leases back. KEYS and ARGV as for taking them
local process, memory, inboxes = ARGV[1], ARGV[3], ARGV[4]
for i = 1, #KEYS / 5 do
  local lease, newest, _, other = unpack(KEYS, 5 * i - 4, 5 * i - 1)
  local side, uuid, token, secret = unpack(ARGV, 4 * i + 4, 4 * i + 7)
  local holder, holder_token, holder_secret = parts(redis.call('GET', lease))
  local phone, phone_token, phone_secret = parts(redis.call('GET', other))
  local wrong = is_wrong(side, secret, holder_secret, phone_secret)
  if holder == process and holder_token == token then
    redis.call('DEL', lease)
    if phone and side == 'unity' then
      redis.call('PUBLISH', inboxes .. phone,
        string.format('["news","%s",%s,false]', uuid, phone_token))
    end
  end
  if not wrong and tonumber(redis.call('GET', newest) or 0) <= tonumber(token) then
    redis.call('SET', newest, string.format('%.0f', tonumber(token) + 1), 'PX', memory)
  end
end
"""
)


class Replaced(msgspec.Struct, array_like=True, tag="replaced"):
    """To the process of a lease: a newer connection has acquired it."""

    side: Side
    uuid: str
    token: int


class Barred(msgspec.Struct, array_like=True, tag="barred"):
    """To the process of a phone's lease: the new headset has a secret, which the phone has not."""

    uuid: str
    token: int


class News(msgspec.Struct, array_like=True, tag="news"):
    """To the process of a phone's lease: a headset came, or left."""

    uuid: str
    token: int
    present: bool


class PairScripts:
    """The scripts, as Python functions of one process.

    All of them raise RedisUnavailable, also where Redis refuses a command: a client can only wait.

    Args:
        redis: the servers.
        process: the unique id of this process.
        prefix: the prefix of all keys and channels.
        ttl: seconds until a lease expires if it is not renewed.
        memory: seconds for which Redis keeps `...:newest` and `...:given`.
    """

    _log = Logger()

    def __init__(
        self, redis: Redis, process: str, prefix: str, *, ttl: float, memory: float
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._times = (round(ttl * 1000), round(memory * 1000))
        self._inboxes = f"{prefix}:process:"
        self._refused: set[str] = set()
        self.process = process
        self.inbox = f"{self._inboxes}{process}"

    def find(self, uuid: str) -> RedisServer:
        """The server that has all keys of a pair."""
        return self._redis.find(f"pair/{uuid}")

    def inbox_of(self, process: str) -> str:
        """The channel of the inbox of a process; what all of them begin with, for an empty one."""
        return f"{self._inboxes}{process}"

    def key(self, uuid: str, name: str) -> str:
        """A key of a pair."""
        return f"{self._prefix}:{{pair/{uuid}}}:{name}"

    def lease(self, side: Side, uuid: str) -> str:
        """The key of a lease."""
        return self.key(uuid, side)

    async def headset_secret(self, uuid: str) -> str | None:
        """The hash of the secret of a headset, empty if it has none; None without a headset."""
        value = await self.run(self.find(uuid).call("GET", self.lease("unity", uuid)))
        if value is None:
            return None
        parts: list[str] = value.decode("ascii", "replace").split(":")
        return parts[2] if len(parts) == 3 else ""

    async def token(self, side: Side, uuid: str) -> int:
        """Assigns a new token."""
        key = self.lease(side, uuid)
        keys = (f"{key}:given", f"{key}:newest")
        token: int = await self.run(self.find(uuid).run(_TOKEN, keys, (self._times[1],)))
        return token

    async def hold(self, server: RedisServer, claims: Iterable[Claim]) -> tuple[list[int], float]:
        """Acquires or renews leases, all on one server.

        Processes with a replaced connection, or with the phone of a new headset, get a message.

        Returns:
            REPLACED, ALONE, PAIRED or WRONG_SECRET, with DUEL or without, for each claim; and the
            Unix time of Redis.
        """
        answers, now = await self.run(server.run(_HOLD, *self._words(claims)))
        return answers, now / 1000

    async def leave(self, server: RedisServer, claims: Iterable[Claim]) -> None:
        """Releases leases, all on one server; their tokens can never acquire them again."""
        await self.run(server.run(_LEAVE, *self._words(claims)))

    def _words(self, claims: Iterable[Claim]) -> tuple[list[Word], list[Word]]:
        keys: list[Word] = []
        args: list[Word] = [self.process, *self._times, self._inboxes, *_DUEL_ARGS]
        for claim in claims:
            key = self.lease(claim.side, claim.uuid)
            other = self.lease("android" if claim.side == "unity" else "unity", claim.uuid)
            keys += (key, f"{key}:newest", f"{key}:duel", other, f"{other}:newest")
            args += claim
        return keys, args

    async def run(self, running: Any) -> Any:
        """Waits for a command or script. Raises RedisUnavailable alone."""
        try:
            return await running
        except RedisRefused as error:
            # once for each code: every retry gets it again
            if error.state is None and error.code not in self._refused:
                self._refused.add(error.code)
                self._log.warn("Redis refuses what pairs need: {error}", error=error)
            raise RedisUnavailable(str(error)) from error
