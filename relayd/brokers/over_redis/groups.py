"""Groups over Redis: a payload published in one process reaches the members of all processes.

Implements `brokers.interface.Groups`; sits on the hub and on `relayd.redis`. Inside a process the
hub fans out, at once; Redis carries one copy for each other process, in batches that follow the
same rule as the hub's (`native.batching`). A group is one channel, `<prefix>:<group>`, on the
server that the group's name belongs to:

    ["process", key or null, payload, key or null, payload, ...]    from a relayd
    {...}                                                           one payload, from anybody else

A key is the number of the sending connection in its process; from the two, every process makes the
same name for viewers that ask (`hub`), so that nothing else need travel.

The first local member of a group makes the process subscribe; the subscription outlives the last
local member by a second (after centrifuge). While Redis is unavailable, a group goes on inside the
process, and is subscribed when Redis is back; of most kinds, it cannot get its first member then.
"""

from collections.abc import Container
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relayd.brokers.django.channels import DjangoChannels
from relayd.brokers.foreign import Foreign, split
from relayd.brokers.interface import Publish
from relayd.drops import DropReason, Drops
from relayd.errors import RedisUnavailable
from relayd.hub import Hub, Member
from relayd.logs import Logger
from relayd.names import split_group
from relayd.native.batching import Batch, Batching
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis

LINGER = 1.0
"""Seconds that a subscription outlives the last member of its group."""
COST_ELSEWHERE = 0.0002
"""Seconds of work that a message on a channel causes in Redis and in the processes that get it."""


class Topics(Protocol):
    """The receiver of the channels of one kind of group."""

    async def began(self, group: str) -> None:
        """The channel was subscribed for the first local member. Raises RedisUnavailable."""

    def received(self, group: str, data: bytes) -> None:
        """A message came through the channel."""

    def ended(self, group: str) -> None:
        """The channel was unsubscribed, after the last local member left."""


class _Channel:
    """The channel of a group that has local members, or had some within the last `LINGER`.

    Attributes:
        ready: whether members may join: the subscription is confirmed, or waits for Redis.
        waiting: Deferreds that fire when members may join, or may not.
        linger: the pending unsubscription, if the group has no local member.
    """

    __slots__ = ("batch", "linger", "name", "ready", "server", "waiting")

    def __init__(self, name: bytes, server: RedisServer, batch: Batch) -> None:
        self.name = name
        self.server = server
        self.batch = batch
        self.ready = False
        self.waiting: list[Deferred[None]] = []
        self.linger: IDelayedCall | None = None


class RedisGroups:
    """`interface.Groups` over Redis.

    Args:
        hub: delivers to the members in this process.
        redis: the servers.
        clock: for batches.
        process: the unique id of this process.
        prefix: the prefix of the channels' names.
        coalesce: seconds a payload may wait for others on its way to Redis; 0 to send each at once.
        drops: counts payloads that could not be sent.
        foreign: checks what comes from Redis.
        local_kinds: the kinds whose groups can be joined while Redis is away, since a message that
            other processes miss is soon followed by another.
        django: exchanges messages with Django Channels; None without Django.
    """

    _log = Logger()

    def __init__(
        self,
        hub: Hub,
        redis: Redis,
        *,
        clock: IReactorTime,
        process: str,
        prefix: str,
        coalesce: float,
        drops: Drops,
        foreign: Foreign,
        local_kinds: Container[str] = (),
        django: DjangoChannels | None = None,
    ) -> None:
        self._hub = hub
        self._redis = redis
        self._foreign = foreign
        self._local_kinds = local_kinds
        self._clock = clock
        self._head = b'["%b"' % process.encode()
        self._prefix = prefix
        self._batching = Batching(clock, coalesce, COST_ELSEWHERE)
        self._drops = drops
        self._django = django
        self._channels: dict[str, _Channel] = {}
        self._topics: dict[str, Topics] = {}

    def delegate(self, kind: str, topics: Topics) -> None:
        """Passes messages on the channels of a kind's groups to `topics`, not to the hub."""
        self._topics[kind] = topics

    async def prepare(self, group: str) -> None:
        channel = self._channels.get(group)
        first = channel is None
        if channel is None:
            name, server = self._place(group)
            batch = Batch(self._batching, partial(self._send, name, server))
            channel = self._channels[group] = _Channel(name, server, batch)
        if not channel.ready:
            ready: Deferred[None] = Deferred()
            channel.waiting.append(ready)
            if first:
                Deferred.fromCoroutine(self._subscribe(group, channel))
            await ready
        self._linger(group, channel)

    async def join(self, group: str, member: Member) -> None:
        channel = self._channels.get(group)
        if channel is None or not channel.ready:
            await self.prepare(group)
            channel = self._channels[group]
        self._hub.join(group, member)
        if channel.linger is not None:
            channel.linger.cancel()
            channel.linger = None

    def leave(self, group: str, member: Member) -> None:
        self._hub.leave(group, member)
        channel = self._channels.get(group)
        if channel is not None:
            self._linger(group, channel)

    def publish(self, group: str, payload: bytes, key: int | None = None) -> int:
        members = self._hub.fan_out(group, payload, key)
        channel = self._channels.get(group)
        if channel is None:
            self._send(*self._place(group), [_item(key, payload)])
        else:
            channel.batch.add(_item(key, payload))
        if self._django is not None:
            self._django.publish(group, payload)
        return members

    def publisher(self, group: str, key: int | None = None) -> Publish:
        channel = self._channels.get(group)
        if channel is None or self._django is not None:
            return partial(self.publish, group, key=key)
        return partial(self._publish, self._hub.publisher(group, key), channel.batch, key)

    def _publish(self, local: Publish, batch: Batch, key: int | None, payload: bytes) -> int:
        members = local(payload)
        batch.add(_item(key, payload))
        return members

    def catch_up(self, group: str, member: Member) -> None:
        self._hub.catch_up(group, member)

    # -- subscriptions

    async def _subscribe(self, group: str, channel: _Channel) -> None:
        """Subscribes a group's channel, and fires the Deferreds that wait for the subscription."""
        failure: Exception | None = None
        kind = split_group(group)[0]
        topics = self._topics.get(kind)
        receive = partial(self._received if topics is None else topics.received, group)
        try:
            await channel.server.subscribe(channel.name, receive)
            if self._django is not None:
                await self._django.subscribe(group)
            if topics is not None:
                await topics.began(group)
        except RedisRefused as error:
            failure = RedisUnavailable(str(error))
        except RedisUnavailable as error:
            if kind not in self._local_kinds or self._redis.available:
                failure = error
            else:
                channel.server.subscribe_later(channel.name, receive)
                if self._django is not None:
                    self._django.subscribe_later(group)
        except Exception as error:
            self._log.failure("subscribing to {group} failed", group=group)
            failure = RedisUnavailable(str(error))
        if failure is None:
            channel.ready = True
        else:
            self._forget(group, channel)
        waiting, channel.waiting = channel.waiting, []
        for ready in waiting:
            if failure is None:
                ready.callback(None)
            else:
                ready.errback(failure)
        if failure is None:
            # the client that needed the channel may have disconnected meanwhile
            self._linger(group, channel)

    def _linger(self, group: str, channel: _Channel) -> None:
        """Schedules the unsubscription if the group has no local member."""
        if channel.linger is None and channel.ready and not self._hub.size(group):
            channel.linger = self._clock.callLater(LINGER, self._end, group, channel)

    def _end(self, group: str, channel: _Channel) -> None:
        channel.linger = None
        if not self._hub.size(group):
            channel.batch.flush()
            self._forget(group, channel)

    def _forget(self, group: str, channel: _Channel) -> None:
        del self._channels[group]
        channel.server.unsubscribe(channel.name)
        if self._django is not None:
            self._django.unsubscribe(group)
        topics = self._topics.get(split_group(group)[0])
        if topics is not None:
            topics.ended(group)

    # -- to the other processes

    def _place(self, group: str) -> tuple[bytes, RedisServer]:
        """A group's channel and its server."""
        return f"{self._prefix}:{group}".encode(), self._redis.find(group)

    def _send(self, name: bytes, server: RedisServer, items: list[bytes]) -> None:
        data = b"%b,%b]" % (self._head, b",".join(items))
        if not server.publish(name, data):
            self._drops.count(DropReason.REDIS_AWAY, len(items))

    # -- from the other processes

    def _received(self, group: str, data: bytes) -> None:
        if data.startswith(self._head):
            return
        try:
            if not data.startswith(b"["):
                # one payload of another program goes out unchanged
                self._hub.fan_out(group, self._foreign.check_payload(data))
                return
            origin, *rest = split(data)
        except ValueError as error:
            self._foreign.drop(group, error)
            return
        for key, payload in zip(rest[::2], rest[1::2], strict=False):
            try:
                if not payload.startswith(b"{"):
                    raise ValueError("a payload is a JSON object")
                sender = None if key == b"null" else (origin, int(key))
                self._hub.fan_out(group, self._foreign.check_size(payload), sender)
            except ValueError as error:
                self._foreign.drop(group, error)


def _item(key: int | None, payload: bytes) -> bytes:
    """A key and a payload as they stand in a batch."""
    return b"null,%b" % payload if key is None else b"%d,%b" % (key, payload)
