"""The inbox of this process: one channel on every Redis, subscribed when Redis becomes available.

Under `pairs`; stands on `relayd.redis`, which restores a subscription after an outage, but only if
Redis had confirmed the subscription before.
"""

from functools import partial

from twisted.internet.defer import CancelledError, Deferred

from relayd.errors import RedisUnavailable
from relayd.logs import Logger
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.redis.subscriptions import Receive


class Inbox:
    """The messages that other processes send to this one.

    Args:
        redis: the servers.
        channel: the name of the inbox.
        receive: called with each message.
    """

    _log = Logger()

    def __init__(self, redis: Redis, channel: str, receive: Receive) -> None:
        self._redis = redis
        self._channel = channel
        self._receive = receive
        self._open: set[RedisServer] = set()
        self._waiting: dict[RedisServer, list[Deferred[None]]] = {}
        self._stopped = False
        for server in redis.servers:
            server.watch(partial(self._changed, server))

    def start(self) -> None:
        """Subscribes on the servers that are available; the others follow when they are."""
        for server in self._redis.servers:
            self._changed(server, server.available)

    def stop(self) -> None:
        """Unsubscribes everywhere; receives nothing from now on."""
        self._stopped = True
        self._open.clear()
        for server in self._redis.servers:
            server.unsubscribe(self._channel)

    async def ready(self, server: RedisServer) -> None:
        """Returns when messages through a server reach this process.

        Raises:
            RedisUnavailable: the inbox cannot be subscribed there now.
        """
        if server in self._open:
            return
        if self._stopped:
            raise RedisUnavailable("this process is stopping")
        waiter: Deferred[None] = Deferred()
        waiting = self._waiting.get(server)
        if waiting is None:
            self._waiting[server] = [waiter]
            Deferred.fromCoroutine(self._subscribe(server))
        else:
            waiting.append(waiter)
        await waiter

    def _changed(self, server: RedisServer, available: bool) -> None:
        if available and not self._stopped:
            Deferred.fromCoroutine(self.ready(server)).addErrback(lambda _: None)  # logged there

    async def _subscribe(self, server: RedisServer) -> None:
        failure: RedisUnavailable | None = None
        try:
            await server.subscribe(self._channel, self._receive)
            self._open.add(server)
        except CancelledError:
            failure = RedisUnavailable("this process is stopping")
        except RedisUnavailable as error:
            failure = error
        except RedisRefused as error:
            failure = RedisUnavailable(str(error))
        for waiter in self._waiting.pop(server):
            if failure is None:
                waiter.callback(None)
            else:
                waiter.errback(failure)
