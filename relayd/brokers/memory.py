"""The broker of one process: groups, rooms, lobby and pairs in memory, the history in the database.

Implements `brokers.interface`; sits on the hub and on `storage.history`.
"""

from collections.abc import Awaitable, Callable, Sequence
from hmac import compare_digest
from typing import Any

from twisted.internet.defer import Deferred, succeed

from relayd import wire
from relayd.brokers.duels import Duels
from relayd.brokers.interface import PAGE_SIZE, Headset, Phone, Publish
from relayd.brokers.lobby import Lobby
from relayd.brokers.presence import Presence
from relayd.brokers.reads import Reads, in_time
from relayd.brokers.tags import Tags, mark_of
from relayd.config import Config
from relayd.errors import DatabaseUnavailable, NoUnity, StoreUnavailable, WrongSecret
from relayd.hub import Hub, Member
from relayd.names import Kind, Kinds
from relayd.quotas.creation import Creators
from relayd.quotas.usage import RoomTally, StoredRoom
from relayd.storage.disk import DiskWatch
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.storage.upkeep import Upkeep
from relayd.tally import Buckets
from relayd.wire import ChatEntry, ChatPage


class MemoryGroups:
    """`interface.Groups` inside one process, by the hub alone."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def prepare(self, group: str) -> None:
        pass

    async def join(self, group: str, member: Member) -> None:
        self._hub.join(group, member)

    def leave(self, group: str, member: Member) -> None:
        self._hub.leave(group, member)

    def publish(self, group: str, payload: bytes, key: int | None = None) -> int:
        return self._hub.fan_out(group, payload, key)

    def publisher(self, group: str, key: int | None = None) -> Publish:
        return self._hub.publisher(group, key)

    def catch_up(self, group: str, member: Member) -> None:
        self._hub.catch_up(group, member)


class MemoryRooms:
    """`interface.Rooms` inside one process: stored in the database, then delivered by the hub.

    Args:
        hub: delivers to the members.
        history: stores the messages.
        kind: the kind of path whose groups the rooms are.
        creators: judges the messages that may create a room.
        late: as for `MemoryBrokers`.
    """

    def __init__(
        self,
        hub: Hub,
        history: History,
        kind: Kind,
        creators: Creators,
        late: Callable[[], bool] = in_time,
    ) -> None:
        self._hub = hub
        self._history = history
        self._kind = kind
        self._reads = Reads(late=late)
        self._creators = creators
        history.watch(self._found)

    def post(
        self,
        room: str,
        message: str,
        user: str | None = None,
        address: str | None = None,
        *,
        tag: str = "",
    ) -> "Deferred[ChatEntry]":
        asked = self._creators.ask(room, address)
        # the history fires its Deferreds in the order of the ids, so all members see one order
        keeping = self._history.append(room, message, user, asked, address, tag)
        keeping.addBoth(self._creators.settled, room, asked)
        return keeping.addCallback(self._deliver, self._kind.group(room))

    @property
    def tally(self) -> RoomTally:
        return self._history.tally

    @property
    def appended(self) -> Buckets:
        return self._history.appended

    async def last(self, room: str, count: int, limit: int, size: int = PAGE_SIZE) -> ChatPage:
        return await self._reads.read(
            room,
            ("last", count, limit, size),
            lambda: self._read(self._history.last(room, count, limit, size)),
            joins=True,
        )

    async def since(
        self, room: str, position: int, limit: int, size: int = PAGE_SIZE, *, joins: bool = False
    ) -> ChatPage:
        return await self._reads.read(
            room,
            ("since", position, limit, size),
            lambda: self._read(self._history.since(room, position, limit, size)),
            joins=joins,
        )

    async def largest(self, limit: int) -> list[StoredRoom]:
        return await self._history.largest(limit)

    async def delete(self, room: str) -> bool:
        self._creators.forget(room)
        found = await self._history.delete(room)
        self._hub.fan_out(self._kind.group(room), wire.GAP)
        return found

    async def _read(self, reading: Awaitable[ChatPage]) -> ChatPage:
        """Reads the history, then waits until committed entries have reached the members."""
        try:
            found = await reading
            await self._history.settled()
        except DatabaseUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        return found

    def _found(self, room: str, entries: Sequence[ChatEntry] | None) -> None:
        """Messages are stored whose senders were told that this is unknown."""
        group = self._kind.group(room)
        for body in [wire.GAP] if entries is None else [entry.body for entry in entries]:
            self._hub.fan_out(group, body)

    def _deliver(self, entry: ChatEntry, group: str) -> ChatEntry:
        if not entry.repeated:
            self._hub.fan_out(group, entry.body)
        return entry


class MemoryPairs:
    """`interface.Pairs` inside one process: two dictionaries by UUID, with the secrets' hashes.

    Args:
        seconds: returns the time of a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._duels = Duels(seconds)
        self._tags = Tags(seconds)
        self._headsets: dict[str, tuple[Headset, str]] = {}
        self._phones: dict[str, tuple[Phone, str]] = {}

    async def headset_present(self, uuid: str, secret: str = "") -> bool:
        headset = self._headsets.get(uuid)
        if headset is not None and not compare_digest(headset[1], secret):
            raise WrongSecret
        return headset is not None

    async def add_headset(self, uuid: str, headset: Headset, secret: str = "") -> None:
        older, phone = self._headsets.get(uuid), self._phones.get(uuid)
        self._check_bound(older or phone, secret)
        self._headsets[uuid] = (headset, secret)
        if older is not None:
            self._duels.taken_over("unity", uuid)
            older[0].replaced()
        if phone is not None and not compare_digest(phone[1], secret):
            del self._phones[uuid]
            phone[0].barred()
        elif phone is not None and older is None:
            phone[0].headset_came()

    def remove_headset(self, uuid: str, headset: Headset) -> None:
        if self._headsets.get(uuid, (None,))[0] is not headset:
            return
        del self._headsets[uuid]
        if (phone := self._phones.get(uuid)) is not None:
            phone[0].headset_left()

    async def add_phone(self, uuid: str, phone: Phone, secret: str = "") -> None:
        older = self._phones.get(uuid)
        if not await self.headset_present(uuid, secret):
            self._check_bound(older, secret)
        self._phones[uuid] = (phone, secret)
        if older is not None:
            self._duels.taken_over("android", uuid)
            older[0].replaced()

    def remove_phone(self, uuid: str, phone: Phone) -> None:
        if self._phones.get(uuid, (None,))[0] is phone:
            del self._phones[uuid]

    async def deliver(self, uuid: str, payload: bytes, secret: str = "", tag: str = "") -> None:
        mark = mark_of(secret, tag)
        if self._tags.has(uuid, mark):
            return
        headset, bound = self._headsets.get(uuid, (None, ""))
        if headset is None or not compare_digest(bound, secret) or not headset.assign(payload):
            raise NoUnity
        self._tags.add(uuid, mark)

    async def carried_out(self, uuid: str, secret: str, tag: str) -> bool:
        return self._tags.has(uuid, mark_of(secret, tag))

    def _check_bound(self, registered: tuple[Headset | Phone, str] | None, secret: str) -> None:
        """Checks that the pair has no other secret. Raises WrongSecret."""
        bound = "" if registered is None else registered[1]
        if bound and not compare_digest(bound, secret):
            raise WrongSecret


class MemoryBrokers:
    """`interface.Brokers` inside one process.

    Args:
        reactor: for the upkeep of the history.
        hub: delivers to the members.
        database: has the history.
        config: the sections `chat` and `limits`.
        disk: is watched from the start to the stop.
        kinds: the table of paths.
        new_rooms_per_hour: returns how many rooms an address may create in an hour.
        late: whether the process is late; then no history is read for clients that join.
    """

    def __init__(
        self,
        reactor: Any,
        hub: Hub,
        database: Database,
        config: Config,
        *,
        disk: DiskWatch,
        kinds: Kinds,
        new_rooms_per_hour: Callable[[], int],
        late: Callable[[], bool] = in_time,
    ) -> None:
        chat = config.chat
        history = History(
            database,
            keep=chat.history_length,
            room_bytes=chat.history_bytes,
            total_bytes=chat.total_bytes,
            tags_kept=chat.tags_kept,
            disk=disk,
        )
        creators = Creators(
            reactor.seconds, history.tally, per_hour=new_rooms_per_hour, most=chat.max_rooms
        )
        self.groups = MemoryGroups(hub)
        self.rooms = MemoryRooms(hub, history, kinds.history, creators, late)
        self.presence = Presence(reactor, config.limits.coalesce)
        self.lobby = Lobby(self.presence, reactor.seconds, history.posted)
        self.pairs = MemoryPairs(reactor.seconds)
        self._upkeep = Upkeep(
            reactor, database, history, disk, age=chat.room_age, rooms=chat.max_rooms
        )

    def start(self) -> None:
        self._upkeep.start()

    def stop(self) -> "Deferred[None]":
        self._upkeep.stop()
        return succeed(None)
