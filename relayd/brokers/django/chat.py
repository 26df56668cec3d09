"""Chat messages of Django: every relayd process receives them, one of them stores them.

Sits beside `channels`, which receives Django's messages, and under `over_redis`, whose rooms store
them. The first process that receives a message for a room acquires a lease on the room, and each
further message renews the lease; the other processes ignore the message. So messages keep their
order and are stored once. If that process dies, Django's messages are lost to relayd's clients
until the lease expires, as Django's channel layer loses messages without a receiver.
"""

from collections import deque
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from relayd.errors import Unavailable
from relayd.logs import Logger
from relayd.names import split_group
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer

_LEASE = 3000
"""Milliseconds from a message to the end of the lease."""

_MOST_WAITING = 10_000

_ACQUIRE = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")


class DjangoChat:
    """Stores and delivers Django's chat messages.

    Args:
        server: the Redis that Django uses.
        post: stores the text of a message in a room and delivers it; raises Unavailable.
        process: the unique id of this process.
        prefix: the prefix of all keys.
    """

    _log = Logger()

    def __init__(
        self,
        server: RedisServer,
        post: Callable[[str, str], Awaitable[object]],
        process: str,
        prefix: str,
    ) -> None:
        self._server = server
        self._post = post
        self._process = process
        self._prefix = prefix
        self._waiting: dict[str, deque[str]] = {}

    def receive(self, group: str, text: str) -> None:
        """Enqueues a message (`channels.Receiver`); drops it if too many wait."""
        waiting = self._waiting.get(group)
        if waiting is None:
            self._waiting[group] = deque([text])
            Deferred.fromCoroutine(self._keep_all(group))
        elif len(waiting) < _MOST_WAITING:
            waiting.append(text)
        else:
            self._log.warn("{group}: too many messages from Django: one was dropped", group=group)

    async def _keep_all(self, group: str) -> None:
        waiting = self._waiting[group]
        key = f"{self._prefix}:{{{group}}}:django"
        while waiting:
            try:
                if await self._server.run(_ACQUIRE, [key], [self._process, _LEASE]):
                    await self._post(split_group(group)[1], waiting[0])
            except (RedisRefused, Unavailable) as error:
                self._log.warn(
                    "{group}: a message from Django is lost: {why}", group=group, why=str(error)
                )
            except Exception:
                self._log.failure("{group}: keeping a message from Django failed", group=group)
            waiting.popleft()
        del self._waiting[group]
