"""What relayd needs of a Redis, tried once: every command it uses, on a few small keys.

Under `brokers`; `redis.server` tries it when a server has become available, and once a second while
it refuses something. `relayctl doctor` tries it, too. docs/install.md lists the same commands.
"""

from collections.abc import Awaitable, Callable

from relayd.redis.commands import Script
from relayd.redis.server import RedisServer

_MEMORY = 60_000  # ms until the keys are gone

# ARGV: ms until the keys are gone, a channel, 4 KiB of text
PROBE = Script(
    """
local text, number, hash, sorted, stream = unpack(KEYS)  -- and one of another slot of a cluster
local call, age = redis.call, ARGV[1]
call('SET', text, ARGV[3], 'PX', age)
call('GET', text)
call('MGET', text)
call('EXISTS', text)
call('DEL', number)
call('INCRBY', number, 1)
call('PEXPIRE', number, age)
call('HSET', hash, 'a', 1)
call('HGET', hash, 'a')
call('HMGET', hash, 'a')
call('PEXPIRE', hash, age)
call('ZADD', sorted, 1, 'a')
call('ZCARD', sorted)
call('ZSCORE', sorted, 'a')
call('ZRANGEBYSCORE', sorted, 1, 1)
call('ZREVRANGE', sorted, 0, 0)
call('ZREM', sorted, 'a')
call('ZREMRANGEBYSCORE', sorted, 1, 1)
local id = call('XADD', stream, '*', 'a', ARGV[3])
call('XLEN', stream)
call('XRANGE', stream, id, id)
call('XREVRANGE', stream, id, id)
call('XDEL', stream, id)
call('XSETID', stream, id)
call('DEL', stream)
call('TIME')
call('PUBLISH', ARGV[2], '')
return 1
"""
)


def needs(server: RedisServer, prefix: str) -> Callable[[], Awaitable[None]]:
    """Returns a function that tries on a server what relayd needs of it.

    The function raises RedisUnavailable or RedisRefused with the server's words if that refuses
    something, and writes nothing but keys `<prefix>:{probe}:…` that last for a minute.

    Args:
        server: the server.
        prefix: of relayd's keys and channels.
    """
    names = ("text", "number", "hash", "sorted", "stream")
    keys = [*(f"{prefix}:{{probe}}:{name}" for name in names), f"{prefix}:probe"]
    channel = f"{prefix}:probe"

    async def attempt() -> None:
        await server.run(PROBE, keys, (_MEMORY, channel, "x" * 4096))
        await server.subscribe(channel, lambda _: None)
        server.unsubscribe(channel)

    return attempt
