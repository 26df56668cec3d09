"""Chat messages of Django: every relayd receives them, one of them keeps them.

Sits beside `channels`, which hands over what Django says, and under `over_redis`, whose rooms keep
it. The process that was the first to hear something in a room has a lease there, which each further
message renews; the others leave it to that one. So messages keep their order and are kept once. If
that process dies, what Django says in the next seconds is lost to relayd's clients, as Django's
channel layer loses what nobody hears.
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
"""Milliseconds that a lease lasts after a message."""

_MOST_WAITING = 10_000

_TAKE = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")


class DjangoChat:
    """Keeps what Django says.

    Args:
        server: the Redis that Django uses.
        say: keeps the text of a message in a room, and shows it; raises Unavailable.
        process: the unique id of this process.
        prefix: what the keys' names begin with.
    """

    _log = Logger()

    def __init__(
        self,
        server: RedisServer,
        say: Callable[[str, str], Awaitable[object]],
        process: str,
        prefix: str,
    ) -> None:
        self._server = server
        self._say = say
        self._process = process
        self._prefix = prefix
        self._waiting: dict[str, deque[str]] = {}

    def take(self, group: str, text: str) -> None:
        """Takes a message (`channels.Take`)."""
        waiting = self._waiting.get(group)
        if waiting is None:
            self._waiting[group] = deque([text])
            Deferred.fromCoroutine(self._keep_all(group))
        elif len(waiting) < _MOST_WAITING:
            waiting.append(text)
        else:
            self._log.warn("{group}: too much comes from Django, left out", group=group)

    async def _keep_all(self, group: str) -> None:
        waiting = self._waiting[group]
        key = f"{self._prefix}:{{{group}}}:django"
        while waiting:
            try:
                if await self._server.run(_TAKE, [key], [self._process, _LEASE]):
                    await self._say(split_group(group)[1], waiting[0])
            except (RedisRefused, Unavailable) as error:
                self._log.warn(
                    "{group}: a message from Django is lost: {why}", group=group, why=str(error)
                )
            except Exception:
                self._log.failure("{group}: keeping a message from Django failed", group=group)
            waiting.popleft()
        del self._waiting[group]
