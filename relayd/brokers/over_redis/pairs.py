"""Pairs over Redis: headset and phone may be connected to different processes.

Implements `brokers.interface.Pairs` with its parts: `leases` has the registrations of this
process, `deliveries` sends frames to headsets, `inbox` receives the messages of other processes,
and `pair_scripts` has the scripts that Redis runs.
"""

from functools import partial
from hmac import compare_digest

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relayd.brokers.foreign import Foreign
from relayd.brokers.interface import Headset, Phone
from relayd.brokers.over_redis.deliveries import Deliveries
from relayd.brokers.over_redis.frame_scripts import (
    Ask,
    FrameScripts,
    Ready,
    Settle,
    Void,
    Write,
    Written,
)
from relayd.brokers.over_redis.inbox import Inbox
from relayd.brokers.over_redis.leases import Leases
from relayd.brokers.over_redis.pair_scripts import Barred, News, PairScripts, Replaced
from relayd.errors import OutcomeUnknown, RedisUnavailable, WrongSecret
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.wire import UNDECODABLE

TTL = 7.0
RENEWAL = 2.0
"""With `TTL`: the leases of a dead process end within 7 s, and phones are notified within 9 s."""
MEMORY = 30.0
WITHIN = 2.0
MOST = 10_000

_Message = Replaced | Barred | News | Ask | Ready | Write | Written | Settle | Void
_decoder: msgspec.json.Decoder[_Message] = msgspec.json.Decoder(_Message)


class RedisPairs:
    """`interface.Pairs` over Redis.

    Args:
        redis: the servers; their owner starts and stops them.
        clock: for renewals and deadlines.
        process: the unique id of this process, letters and digits.
        prefix: the prefix of all keys and channels.
        foreign: drops invalid messages from the inbox.
        ttl: seconds until a lease expires if it is not renewed.
        renewal: seconds between two renewals, less than half of `ttl`.
        memory: seconds for which Redis remembers the newest fencing token of a lease.
        within: seconds that a phone waits for its receipt.
        most: how many frames may be in flight at once.
    """

    def __init__(
        self,
        redis: Redis,
        clock: IReactorTime,
        process: str,
        prefix: str,
        foreign: Foreign,
        *,
        ttl: float = TTL,
        renewal: float = RENEWAL,
        memory: float = MEMORY,
        within: float = WITHIN,
        most: int = MOST,
    ) -> None:
        self._redis = redis
        self._foreign = foreign
        self._scripts = PairScripts(redis, process, prefix, ttl=ttl, memory=memory)
        self._inbox = Inbox(redis, self._scripts.inbox, self._received)
        self._leases = Leases(self._scripts, clock, self._inbox.ready, grace=ttl)
        self._deliveries = Deliveries(
            FrameScripts(self._scripts), self._leases, clock, within=within, most=most
        )
        self._renewal = renewal
        self._beat = LoopingCall(self._renew)
        self._beat.clock = clock
        for server in redis.servers:
            server.watch(partial(self._changed, server))

    def start(self) -> None:
        """Subscribes the inbox, now or when Redis becomes available, and begins to renew."""
        self._inbox.start()
        self._beat.start(self._renewal, now=False)

    def stop(self) -> "Deferred[None]":
        """Releases all leases; call it before the servers are stopped.

        Returns:
            A Deferred that fires when Redis has confirmed, or does not answer.
        """
        if self._beat.running:
            self._beat.stop()
        self._inbox.stop()
        self._deliveries.stop()
        return self._leases.stop()

    async def headset_present(self, uuid: str, secret: str = "") -> bool:
        await self._inbox.ready(self._scripts.find(uuid))
        found = await self._scripts.headset_secret(uuid)
        if found is not None and not compare_digest(found, secret):
            raise WrongSecret
        return found is not None

    async def add_headset(self, uuid: str, headset: Headset, secret: str = "") -> None:
        await self._leases.add("unity", uuid, secret, headset)

    def remove_headset(self, uuid: str, headset: Headset) -> None:
        self._leases.remove("unity", uuid, headset)

    async def add_phone(self, uuid: str, phone: Phone, secret: str = "") -> None:
        await self._leases.add("android", uuid, secret, phone)

    def remove_phone(self, uuid: str, phone: Phone) -> None:
        self._leases.remove("android", uuid, phone)

    async def deliver(self, uuid: str, payload: bytes, secret: str = "", tag: str = "") -> None:
        await self._be_heard(uuid, tag)
        await self._deliveries.deliver(uuid, payload, secret, tag)

    async def carried_out(self, uuid: str, secret: str, tag: str) -> bool:
        await self._be_heard(uuid, tag)
        return await self._deliveries.carried_out(uuid, secret, tag)

    async def _be_heard(self, uuid: str, tag: str) -> None:
        """Returns when answers can arrive. Raises RedisUnavailable; with a tag, OutcomeUnknown."""
        try:
            await self._inbox.ready(self._scripts.find(uuid))
        except RedisUnavailable as error:
            if tag:  # an earlier request with it may have been carried out
                raise OutcomeUnknown(str(error)) from error
            raise

    def _renew(self) -> None:
        self._deliveries.offers.tidy()
        for server in self._redis.servers:
            if server.available:
                self._leases.renew(server)

    def _changed(self, server: RedisServer, available: bool) -> None:
        if available and self._beat.running:
            self._leases.recovered(server)

    def _received(self, data: bytes) -> None:
        try:
            message = _decoder.decode(data)
        except UNDECODABLE as error:
            self._foreign.drop("the inbox of this process", error)
            return
        match message:
            case Replaced():
                self._leases.replaced(message.side, message.uuid, message.token)
            case Barred():
                self._leases.barred(message.uuid, message.token)
            case News():
                self._leases.news(message.uuid, message.token, message.present)
            case Ask():
                self._deliveries.offers.ask(message)
            case Ready():
                self._deliveries.ready(message.process, message.number)
            case Write():
                self._deliveries.offers.write(message)
            case Settle():
                self._deliveries.offers.settle(message)
            case Void():
                self._deliveries.void(message.number)
            case Written():
                self._deliveries.written(message.number, message.success)
