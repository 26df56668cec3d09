"""The brokers of many processes: groups, rooms, presence, lobby and pairs over Redis.

Implements `brokers.interface.Brokers`; top of the package.
"""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relayd.brokers.django.channels import DjangoChannels
from relayd.brokers.django.chat import DjangoChat
from relayd.brokers.foreign import Foreign
from relayd.brokers.lobby import Lobby
from relayd.brokers.over_redis.epochs import Epochs
from relayd.brokers.over_redis.groups import RedisGroups
from relayd.brokers.over_redis.history import RedisHistory
from relayd.brokers.over_redis.keeping import Bounds, Keys
from relayd.brokers.over_redis.lobby_link import LobbyLink
from relayd.brokers.over_redis.outcomes import Outcomes
from relayd.brokers.over_redis.outgoing import Outgoing
from relayd.brokers.over_redis.pairs import MEMORY, RedisPairs
from relayd.brokers.over_redis.presence_link import PresenceLink
from relayd.brokers.over_redis.probe import needs
from relayd.brokers.over_redis.replicas import Replicas
from relayd.brokers.over_redis.rooms import RedisRooms
from relayd.brokers.presence import Presence
from relayd.brokers.reads import in_time
from relayd.config import Config
from relayd.drops import Drops
from relayd.errors import RedisUnavailable
from relayd.hub import Hub
from relayd.logs import Logger
from relayd.names import Content, Kinds
from relayd.quotas.creation import Creators
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis

_INTERVAL = 30.0
"""Seconds between two counts of what the rooms keep, for the metrics."""
_COMPARED = 3.0
"""Seconds between two looks at the epochs of the servers."""


class RedisBrokers:
    """`interface.Brokers` over Redis.

    Args:
        redis: the servers.
        hub: delivers to the members in this process.
        config: the sections `redis`, `chat` and `limits`.
        clock: for batches, deadlines and renewals.
        now: returns the Unix time in seconds.
        process: the unique id of this process.
        drops: counts payloads that could not be sent to other processes.
        kinds: the table of paths.
        new_rooms_per_hour: returns how many rooms an address may create in an hour.
        late: whether the process is late; then no history is read for clients that join.
    """

    _log = Logger()

    def __init__(
        self,
        redis: Redis,
        hub: Hub,
        config: Config,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        process: str,
        drops: Drops,
        kinds: Kinds,
        new_rooms_per_hour: Callable[[], int],
        late: Callable[[], bool] = in_time,
    ) -> None:
        settings = config.redis
        self._redis = redis
        for server in redis.servers:
            server.probe_with(needs(server, settings.prefix))
        # a client that does not read is closed when more waits for it
        foreign = Foreign(clock, drops, config.limits.send_buffer)
        django: DjangoChannels | None = None
        if settings.django_channels:
            django = DjangoChannels(
                redis.servers[0], settings.django_prefix, process, kinds, foreign
            )
        self.groups = RedisGroups(
            hub,
            redis,
            clock=clock,
            process=process,
            prefix=settings.prefix,
            coalesce=config.limits.coalesce,
            drops=drops,
            foreign=foreign,
            local_kinds=frozenset(kind.name for kind in kinds if kind.content is Content.POSE),
            django=django,
        )
        kind = kinds.history

        def find(room: str) -> RedisServer:
            return redis.find(kind.group(room))

        bounds = Bounds(
            length=config.chat.history_length,
            room_bytes=config.chat.history_bytes,
            total_bytes=config.chat.total_bytes,
            rooms=config.chat.max_rooms,
            age=settings.history_age,
            room_age=config.chat.room_age,
            tags_kept=config.chat.tags_kept,
        )
        epochs = Epochs(redis, settings.prefix, clock=clock, process=process)
        history = RedisHistory(
            redis,
            kind,
            prefix=settings.prefix,
            process=process,
            bounds=bounds,
            epochs=epochs,
            foreign=foreign,
            clock=clock,
        )
        if settings.wait_replicas:
            history.replicas = Replicas(
                settings.wait_replicas,
                settings.prefix,
                find,
                history.channel,
                history.newest,
                clock=clock,
                deadline=settings.deadline,
            )
        outcomes = Outcomes(Keys(settings.prefix, kind), process)
        creators = Creators(clock.seconds, history.tally, per_hour=new_rooms_per_hour)
        self.rooms = RedisRooms(
            hub,
            self.groups,
            redis,
            history,
            kind,
            Outgoing(
                history,
                outcomes,
                creators,
                find,
                clock=clock,
                now=now,
                deadline=settings.deadline,
            ),
            creators,
            clock=clock,
            now=now,
            deadline=settings.deadline,
            foreign=foreign,
            django=django,
            late=late,
        )
        epochs.on_loss(self.rooms.lost)
        if django is not None:
            keep = partial(self.rooms.post, to_django=False)
            chat = DjangoChat(redis.servers[0], keep, process, settings.prefix)
            for each in kinds.fanned_out:
                if each.keeps_history:
                    django.register(each.name, chat.receive)
                else:
                    django.register(each.name, lambda group, payload: hub.fan_out(group, payload))
        # a command may be late by a few deadlines
        memory = max(MEMORY, 5 * settings.deadline)
        self.pairs = RedisPairs(redis, clock, process, settings.prefix, foreign, memory=memory)

        self.presence = Presence(clock, config.limits.coalesce)
        self._link = PresenceLink(
            self.presence,
            redis,
            clock=clock,
            process=process,
            prefix=settings.prefix,
            foreign=foreign,
        )
        self._lobby_link = LobbyLink(
            self.presence,
            redis,
            kinds.history,
            clock=clock,
            process=process,
            prefix=settings.prefix,
            foreign=foreign,
        )
        self.lobby = Lobby(self.presence, clock.seconds, self._lobby_link.posted, self._lobby_link)
        self._history = history
        self._counting = LoopingCall(lambda: Deferred.fromCoroutine(self._count()))
        self._counting.clock = clock
        self._comparing = LoopingCall(epochs.refresh)
        self._comparing.clock = clock

    def start(self) -> None:
        self._redis.start()
        self.pairs.start()
        self._link.start()
        self._lobby_link.start()
        self._counting.start(_INTERVAL, now=False)
        self._comparing.start(_COMPARED, now=False)

    def stop(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._stop())

    async def _count(self) -> None:
        try:
            await self._history.recount()
        except (RedisUnavailable, RedisRefused):
            pass  # the server has logged its outage
        except Exception:
            self._log.failure("counting what the rooms keep failed")

    async def _stop(self) -> None:
        for loop in (self._counting, self._comparing):
            if loop.running:
                loop.stop()
        if self._history.replicas is not None:
            self._history.replicas.stop()
        for stop in (self._lobby_link.stop, self._link.stop, self.pairs.stop, self._redis.stop):
            try:
                await stop()
            except Exception:
                self._log.failure("disconnecting from Redis failed")
