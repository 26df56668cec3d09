"""Frames on their way to a headset: the scripts that find it, and what Redis knows of tagged ones.

Under `deliveries` and `offers`; stands on `pair_scripts`. A phone that sends a request again with
its tag may reach another process, and so may its headset, so the state of a tagged request is in
Redis, in the hash `<prefix>:{pair/<uuid>}:tags`, by its mark (`brokers.tags`):

    <time> g <holder> <asker> <number>    the process `holder` may write the frame, or has written
                                          it; `asker` has permitted that in its request `number`
    <time> w                              the headset has got the frame

A grant is set before the holder may write, in the script that publishes `write`, and replaced or
removed by the holder. So a mark without an entry was never carried out; where a grant stays, the
holder alone knows, and is asked (`settle`). `time` is that of Redis in microseconds. A hash has the
last 64 marks, and ends five minutes after the last change.
"""

from typing import Any, Literal

import msgspec

from relayd.brokers import tags
from relayd.brokers.over_redis.pair_scripts import PARTS, PairScripts
from relayd.redis.commands import Script
from relayd.redis.server import RedisServer

_SET = """
local function set(key, mark, value, memory, most)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  redis.call('HSET', key, mark, string.format('%.0f ', now) .. value)
  redis.call('PEXPIRE', key, memory)
  if redis.call('HLEN', key) <= tonumber(most) then return end
  local all, oldest, first = redis.call('HGETALL', key), nil, nil
  for i = 1, #all, 2 do
    local set = tonumber(string.match(all[i + 1], '^%d+'))
    if not first or set < first then oldest, first = all[i], set end
  end
  redis.call('HDEL', key, oldest)
end
"""

_ASK = Script(
    PARTS
    + _SET
    + """
-- Finds the headset, and asks its process to get ready, unless that is the one that asks. Asks the
-- holder of a grant instead, if a request with the same mark has one.
-- KEYS: the headset's lease, the marks
-- ARGV: process, what inboxes begin with, number of the request, uuid, secret, mark or '', ms to
--   remember it, how many, 1 to look for the mark alone
-- returns nil if there is no headset; else what was found, a process, a token, subscribers
local process, inboxes, number, uuid, wanted, mark, memory, most, looks = unpack(ARGV)
if mark ~= '' then
  local entry = redis.call('HGET', KEYS[2], mark)
  if entry then
    local holder, asker, of = string.match(entry, '^%d+ g ([^ ]+) ([^ ]+) (%d+)$')
    if not holder then return {1, '', 0, 0} end
    return {2, holder, 0, redis.call('PUBLISH', inboxes .. holder,
      string.format('["settle","%s",%s,"%s",%s,"%s","%s"]', process, number, asker, of, uuid, mark)
    )}
  end
end
local holder, token, secret = parts(redis.call('GET', KEYS[1]))
if looks == '1' or not holder or secret ~= wanted then return false end
local receivers = 0
if holder ~= process then
  receivers = redis.call('PUBLISH', inboxes .. holder,
    string.format('["ask","%s",%s,"%s",%s,"%s"]', process, number, uuid, token, mark))
elseif mark ~= '' then
  set(KEYS[2], mark, 'g ' .. process .. ' ' .. process .. ' ' .. number, memory, most)
end
return {0, holder, tonumber(token), receivers}
"""
)
FOUND, CARRIED_OUT, SETTLING = 0, 1, 2
"""What `ask` has found: the headset; that the request was carried out; a grant, whose holder was
asked."""

_GRANT = Script(
    _SET
    + """
-- Permits a process to write a frame. KEYS: the marks
-- ARGV: mark, ms to remember it, how many, the grant, the channel of the process, the message
-- returns how many subscribers got the message; -1 if the mark has an entry already
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return -1 end
local receivers = redis.call('PUBLISH', ARGV[5], ARGV[6])
if receivers > 0 then set(KEYS[1], ARGV[1], ARGV[4], ARGV[2], ARGV[3]) end
return receivers
"""
)

_SETTLE = Script(
    _SET
    + """
-- Notes the outcome of a grant, and publishes it. KEYS: the marks
-- ARGV: mark, ms to remember it, how many, the grant, 1 if the frame was written, channel or '',
--   message
if ARGV[5] == '1' then
  set(KEYS[1], ARGV[1], 'w', ARGV[2], ARGV[3])
else
  local entry = redis.call('HGET', KEYS[1], ARGV[1])
  if entry and string.match(entry, '^%d+ (.*)$') == ARGV[4] then
    redis.call('HDEL', KEYS[1], ARGV[1])
  end
end
if ARGV[6] ~= '' then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
"""
)


class Ask(msgspec.Struct, array_like=True, tag="ask"):
    """To the process of a headset's lease: prepare to write a frame."""

    asker: str
    number: int
    uuid: str
    token: int
    mark: str = ""


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    """To the asker: the headset's process is ready to write."""

    process: str
    number: int


class Write(msgspec.Struct, array_like=True, tag="write"):
    """To the process of the headset: the frame."""

    asker: str
    number: int
    payload: str


class Written(msgspec.Struct, array_like=True, tag="written"):
    """To the asker: whether the headset's connection accepted the frame; False if it never will."""

    number: int
    success: bool


class Settle(msgspec.Struct, array_like=True, tag="settle"):
    """To the process that was permitted to write: say what became of that, and permit it no more.

    Attributes:
        asker: who wants to know, for its request `number`.
        of_asker: who has permitted it, in its request `of_number`.
    """

    asker: str
    number: int
    of_asker: str
    of_number: int
    uuid: str
    mark: str = ""


class Void(msgspec.Struct, array_like=True, tag="void"):
    """To the asker of `settle`: the frame was not written, and will not be."""

    number: int


class Grant(msgspec.Struct, frozen=True):
    """The permission to write one frame.

    Attributes:
        uuid: of the pair.
        mark: of the request; empty without a tag.
        holder: the process of the headset.
        asker: the process of the phone.
        number: of the request there.
    """

    uuid: str
    mark: str
    holder: str
    asker: str
    number: int

    @property
    def entry(self) -> str:
        """As it stands in Redis."""
        return f"g {self.holder} {self.asker} {self.number}"


Found = tuple[Literal[0, 1, 2], str, int, int]
"""What was found, a process, the token of its lease, how many subscribers it has."""

_KEPT = (round(tags.MEMORY * 1000), tags.EACH)


class FrameScripts:
    """The scripts, as Python functions of one process. They raise as those of PairScripts.

    Args:
        scripts: of the leases.
    """

    def __init__(self, scripts: PairScripts) -> None:
        self._scripts = scripts
        self.process = scripts.process

    def find(self, uuid: str) -> RedisServer:
        """The server that has all keys of a pair."""
        return self._scripts.find(uuid)

    def send(self, server: RedisServer, process: str, message: msgspec.Struct) -> bool:
        """Sends a message to the inbox of a process; False if it was not sent."""
        channel = self._scripts.inbox_of(process).encode()
        return server.publish(channel, msgspec.json.encode(message))

    async def ask(
        self, uuid: str, number: int, secret: str, mark: str, *, looks: bool
    ) -> Found | None:
        """Asks the process of a headset to prepare to write a frame, unless it is this process.

        Args:
            uuid: of the pair.
            number: of the request.
            secret: the hash of the pair's secret.
            mark: of the request; empty without a tag.
            looks: whether it only asks what became of an earlier request with this mark.

        Returns:
            None if no headset with this secret has a lease.
        """
        keys = self._scripts.lease("unity", uuid), self._tags(uuid)
        args = (self.process, self._scripts.inbox_of(""), number, uuid, secret, mark, *_KEPT)
        answer = await self._run(uuid, _ASK, keys, (*args, int(looks)))
        if answer is None:
            return None
        kind, process, token, receivers = answer
        return kind, process.decode(), token, receivers

    async def grant(self, grant: Grant, message: Write) -> int:
        """Sets a grant and sends `write` to its holder, unless its mark has an entry.

        Returns:
            How many subscribers got the message, and -1 if the mark has an entry.
        """
        args = (*self._words(grant), self._scripts.inbox_of(grant.holder))
        args = (*args, msgspec.json.encode(message))
        sent: int = await self._run(grant.uuid, _GRANT, (self._tags(grant.uuid),), args)
        return sent

    async def settle(self, grant: Grant, written: bool, to: str, message: msgspec.Struct) -> None:
        """Notes the outcome of a grant, and sends a message to a process, if `to` names one."""
        channel = self._scripts.inbox_of(to) if to else ""
        args = (*self._words(grant), int(written), channel, msgspec.json.encode(message))
        await self._run(grant.uuid, _SETTLE, (self._tags(grant.uuid),), args)

    @staticmethod
    def _words(grant: Grant) -> tuple[Any, ...]:
        return (grant.mark, *_KEPT, grant.entry)

    def _tags(self, uuid: str) -> str:
        return self._scripts.key(uuid, "tags")

    async def _run(self, uuid: str, script: Script, keys: Any, args: Any) -> Any:
        return await self._scripts.run(self.find(uuid).run(script, keys, args))
