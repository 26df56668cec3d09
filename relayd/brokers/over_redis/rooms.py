"""Rooms over Redis: stored in a stream and published in one script, delivered in one order.

Implements `brokers.interface.Rooms`; sits on `history` and on the hub. New messages reach every
process, the sender's too, through the room's channel only, so all members see one order. A process
knows the last id that it delivered in each room where it has members. Messages that the channel
skips, or that were posted during an outage of Redis, are fetched from the history.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relayd import wire
from relayd.brokers.django.channels import DjangoChannels
from relayd.brokers.foreign import Foreign, split
from relayd.brokers.interface import PAGE_SIZE
from relayd.brokers.over_redis.groups import RedisGroups
from relayd.brokers.over_redis.history import RedisHistory
from relayd.brokers.over_redis.keeping import DELETED
from relayd.brokers.over_redis.local_room import LocalRoom
from relayd.brokers.over_redis.outgoing import Outgoing
from relayd.brokers.reads import Reads, in_time
from relayd.errors import OutcomeUnknown, RedisUnavailable, StoreUnavailable
from relayd.hub import Hub
from relayd.logs import Logger
from relayd.names import Kind, split_group
from relayd.quotas.creation import Creators
from relayd.quotas.usage import RoomTally, StoredRoom
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.tally import Buckets
from relayd.wire import ChatEntry, ChatPage

_PAGE = 500
_RETRY = 1.0
_MOST_EARLY = 1000
_DAY = 86400.0
_ANY = 2**63


class RedisRooms:
    """`interface.Rooms` over Redis.

    Args:
        hub: delivers to the members in this process.
        groups: subscribes the rooms' channels.
        redis: the servers.
        history: has the messages.
        kind: the kind of path whose groups the rooms are.
        outgoing: stores the messages of this process.
        creators: is notified of deleted rooms.
        clock: for deadlines and retries.
        now: returns the Unix time in seconds.
        deadline: seconds that a reader waits for the delivery of the entries that it has read.
        foreign: checks what comes from Redis.
        django: exchanges messages with Django Channels; None without Django.
        late: as for `RedisBrokers`.
    """

    _log = Logger()

    def __init__(
        self,
        hub: Hub,
        groups: RedisGroups,
        redis: Redis,
        history: RedisHistory,
        kind: Kind,
        outgoing: Outgoing,
        creators: Creators,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        deadline: float,
        foreign: Foreign,
        django: DjangoChannels | None = None,
        late: Callable[[], bool] = in_time,
    ) -> None:
        self._hub = hub
        self._redis = redis
        self._history = history
        self._kind = kind
        self._creators = creators
        self._clock = clock
        self._now = now
        self._deadline = deadline
        self._foreign = foreign
        self._django = django
        self._reads = Reads(late=late)
        self._rooms: dict[str, LocalRoom] = {}
        self._outgoing = outgoing
        groups.delegate(kind.name, self)
        for server in redis.servers:
            server.watch(partial(self._changed, server))

    @property
    def appended(self) -> Buckets:
        return self._outgoing.appended

    @property
    def tally(self) -> RoomTally:
        return self._history.tally

    # -- called by relays

    def post(
        self,
        room: str,
        message: str,
        user: str | None = None,
        address: str | None = None,
        *,
        tag: str = "",
        to_django: bool = True,
    ) -> "Deferred[ChatEntry]":
        posted = self._outgoing.post(room, message, user, address, tag)
        posted.addCallback(self._after_delivery, room)
        if self._django is not None and to_django:
            posted.addCallback(self._forward_to_django, room, message)
        return posted

    async def last(self, room: str, count: int, limit: int, size: int = PAGE_SIZE) -> ChatPage:
        if count <= 0:
            return ChatPage([])
        return await self._reads.read(
            room,
            ("last", count, limit, size),
            lambda: self._read(room, self._last(room, count, limit, size)),
            joins=True,
        )

    async def since(
        self, room: str, position: int, limit: int, size: int = PAGE_SIZE, *, joins: bool = False
    ) -> ChatPage:
        return await self._reads.read(
            room,
            ("since", position, limit, size),
            lambda: self._read(room, self._since(room, position, limit, size)),
            joins=joins,
        )

    async def _last(self, room: str, count: int, limit: int, size: int) -> tuple[ChatPage, int]:
        page = await self._history.last(room, count, limit, size)
        return page, page.entries[-1].id if page.entries else 0

    async def _since(self, room: str, position: int, limit: int, size: int) -> tuple[ChatPage, int]:
        state = self._rooms.get(room)
        shown = state.newest if state else None
        _, page, reached = await self._history.since(room, position, limit, size, shown)
        return page, reached

    async def _read(
        self, room: str, reading: Coroutine[Any, Any, tuple[ChatPage, int]]
    ) -> ChatPage:
        """Reads the history, then waits until all that its reader has has reached the members.

        A reader may have got messages from another process, whose subscription was faster: without
        the wait, it would get them a second time.
        """
        try:
            page, reached = await reading
        except (RedisUnavailable, RedisRefused) as error:
            raise StoreUnavailable(str(error)) from error
        await self._delivered(room, reached)
        return page

    async def _delivered(self, room: str, id: int) -> bool:
        """Returns when an id has been delivered to the members in this process.

        Returns at once if the room has none; False when they will not get it.
        """
        state = self._rooms.get(room)
        if state is None or (state.position is not None and state.position >= id):
            return True
        shown: Deferred[bool] = Deferred()
        state.waiting.append((id, shown))
        shown.addTimeout(self._deadline, self._clock)
        try:
            return await shown
        except Exception as error:
            raise StoreUnavailable("the channel does not deliver new messages") from error

    async def largest(self, limit: int) -> list[StoredRoom]:
        try:
            return await self._history.largest(limit)
        except (RedisUnavailable, RedisRefused) as error:
            raise StoreUnavailable(str(error)) from error

    async def delete(self, room: str) -> bool:
        try:
            return await self._history.delete(room, int(self._now() * 1000))
        except (RedisUnavailable, RedisRefused) as error:
            raise StoreUnavailable(str(error)) from error

    # -- posting

    def _after_delivery(self, entry: ChatEntry, room: str) -> "Deferred[ChatEntry]":
        """Fires when the entry was delivered in this process, or after `deadline`."""
        return Deferred.fromCoroutine(self._acknowledged(entry, room))

    async def _acknowledged(self, entry: ChatEntry, room: str) -> ChatEntry:
        """Raises OutcomeUnknown: Redis has gone, or come back without what it has confirmed."""
        try:
            delivered = await self._delivered(room, entry.id)
        except StoreUnavailable:
            state = self._rooms.get(room)
            delivered = state is None or not state.cut_off
        if not delivered:
            raise OutcomeUnknown("Redis may have lost what it had confirmed")
        return entry

    def _forward_to_django(self, entry: ChatEntry, room: str, message: str) -> ChatEntry:
        assert self._django is not None
        if not entry.repeated:
            self._django.post(self._kind.group(room), message)
        return entry

    # -- the channels (`groups.Topics`)

    async def began(self, group: str) -> None:
        room = split_group(group)[1]
        state = self._rooms[room] = self._rooms.get(room) or LocalRoom()
        # a client that joins reads the history after this, and older messages come from there
        last, _, _ = await self._history.since(room, 2**53, 1, 1)
        state.position = last
        self._release(room, state)

    def received(self, group: str, data: bytes) -> None:
        room = split_group(group)[1]
        entries: list[ChatEntry] = []
        try:
            first, *bodies = split(data)
            for id, body in enumerate(bodies, int(first)):
                entries.append(self._foreign.check_entry(id, body))
        except ValueError as error:
            self._foreign.drop(group, error)
        if data == DELETED:
            self._deleted(room)
        state = self._rooms.get(room)
        if state is None:
            state = self._rooms[room] = LocalRoom()
        state.early += entries
        if len(state.early) > _MOST_EARLY:
            # the history has them
            state.early.clear()
            state.again = True
        if state.position is not None and not state.catching_up:
            self._release(room, state)

    def _deleted(self, room: str) -> None:
        """The history of a room was deleted: its members miss nothing, but are told."""
        self._creators.forget(room)
        state = self._rooms.get(room)
        if state is not None:
            state.newest = None  # it must not count as lost
        self._hub.fan_out(self._kind.group(room), wire.GAP)

    def ended(self, group: str) -> None:
        state = self._rooms.pop(split_group(group)[1], None)
        if state is not None:
            if state.retry is not None:
                state.retry.cancel()
            for _, shown in state.waiting:
                shown.cancel()

    def _release(self, room: str, state: LocalRoom) -> None:
        """Delivers the entries that came through the channel.

        Fetches what the channel skipped first, and what was dropped because too much waited.
        """
        assert state.position is not None
        early, state.early = state.early, []
        for place, entry in enumerate(early):
            if entry.id > state.position + 1 and not self._is_first(state, entry):
                state.early = early[place:]
                state.again = True
                break
            self._deliver(room, state, entry)
        if state.again:
            Deferred.fromCoroutine(self._catch_up(room, state))

    def _is_first(self, state: LocalRoom, entry: ChatEntry) -> bool:
        """Whether it may be the room's first message: ids begin with the Unix time in ms."""
        return state.position == 0 and abs(entry.id / 1000 - self._now()) < _DAY

    def _deliver(self, room: str, state: LocalRoom, entry: ChatEntry) -> None:
        if state.position is not None and entry.id <= state.position:
            return
        state.position = entry.id
        state.newest = entry
        if self._history.replicas is not None:  # what is on the channel is confirmed
            self._history.replicas.note(room, entry.id)
        self._hub.fan_out(self._kind.group(room), entry.body)
        if state.waiting:
            state.decide(entry.id, delivered=True)

    # -- outages of Redis

    def lost(self, server: RedisServer) -> None:
        """A server has lost messages; the members are told with the next read.

        The read itself may find nothing: another process had vouched for the server, and they have
        got messages from behind the hole since.
        """
        for room, state in tuple(self._rooms.items()):
            if self._redis.find(self._kind.group(room)) is server:
                state.lost = state.told != self._history.epoch(room)
                Deferred.fromCoroutine(self._catch_up(room, state))

    def _changed(self, server: RedisServer, available: bool) -> None:
        for room, state in tuple(self._rooms.items()):
            if self._redis.find(self._kind.group(room)) is not server:
                continue
            if available:
                Deferred.fromCoroutine(self._catch_up(room, state))
            elif not state.cut_off:
                state.cut_off = True
                self._hub.fan_out(self._kind.group(room), wire.CUT_OFF)

    async def _catch_up(self, room: str, state: LocalRoom) -> None:
        """Delivers the entries that did not come through the channel."""
        if state.catching_up:
            state.again = True
            return
        state.catching_up = True
        complete = False
        try:
            state.again = True
            while state.again:
                state.again = False
                await self._check_early(room, state)
            complete = True
        except (RedisUnavailable, RedisRefused) as error:
            self._log.info("{room}: cannot catch up yet: {why}", room=room, why=str(error))
        except Exception:
            self._log.failure("catching up in {room} failed", room=room)
        finally:
            state.catching_up = False
        if self._rooms.get(room) is not state:
            return
        available = self._redis.find(self._kind.group(room)).available
        if not complete:
            # the end of an outage begins this anew; if Redis was only slow, this timer does
            if available and state.retry is None:
                state.retry = self._clock.callLater(_RETRY, self._retry, room, state)
            return
        if state.cut_off and available:
            state.cut_off = False
            self._hub.fan_out(self._kind.group(room), wire.RESTORED)
        if state.position is not None:
            self._release(room, state)

    def _retry(self, room: str, state: LocalRoom) -> None:
        state.retry = None
        if self._rooms.get(room) is state:
            Deferred.fromCoroutine(self._catch_up(room, state))

    async def _check_early(self, room: str, state: LocalRoom) -> None:
        """Fetches what is missing. Entries of the channel that the history does not have go.

        The script that publishes a message has stored it before.
        """
        known, state.early = state.early, []
        try:
            await self._fetch(room, state)
        except BaseException:
            state.early = known + state.early
            raise
        if state.position is None:
            state.early = known + state.early
            return
        for entry in known:
            if entry.id > state.position:
                self._foreign.drop(self._kind.group(room), f"{entry.id} is no id of the room")

    async def _fetch(self, room: str, state: LocalRoom) -> None:
        more = state.position is not None
        while more and self._rooms.get(room) is state:
            position = state.position or 0
            last, page, _ = await self._history.since(
                room, position, _PAGE, PAGE_SIZE, state.newest
            )
            entries = page.entries
            if page.gap or state.lost:
                state.lost, state.told = False, self._history.epoch(room)
                self._hub.fan_out(self._kind.group(room), wire.GAP)
            if page.gap:
                # delivered entries are not delivered again; without any ids, new ones are above all
                before = entries[0].id - 1 if entries else last
                state.position = max(position, before) if last else 0
                state.decide(state.position if last else _ANY, delivered=False)
            for entry in entries:
                self._deliver(room, state, entry)
            more = page.more
