"""The chat history in Redis: one stream per room, read and written by atomic scripts.

Sits under `rooms`, on `keeping`, `page_scripts` and `epochs`. A room has two keys, both on the
server that its group belongs to:

    <prefix>:{chat/ROOM}:messages   stream; an entry <id>-0 holds t (Unix time, ms) and b (the JSON)
    <prefix>:{chat/ROOM}:ids        hash: first, the first id there ever was; last, the newest;
                                    epoch, the base of its epoch; jump, the id below its first one
                                    there; edge, the last one before that, if nothing is lost
                                    between; hole, the last id of a lost part
    <prefix>:{chat/ROOM}:tags       sorted set: marks of tags, by the ids of their messages

Ids are consecutive in an epoch. They begin with the store's Unix time in ms, or above the top of
the epoch if that is higher, so a room that has gone may be created again without a trace of the
earlier one. The stream is trimmed by count, by bytes and by age.
"""

import itertools
from typing import Any

from twisted.internet.interfaces import IReactorTime

from relayd.brokers.foreign import LARGEST_ID, Foreign
from relayd.brokers.over_redis.epochs import Epochs
from relayd.brokers.over_redis.keeping import Bounds, Keys, read_largest
from relayd.brokers.over_redis.page_scripts import LAST, SINCE
from relayd.brokers.over_redis.replicas import Replicas
from relayd.errors import QuotaExceeded, RedisUnavailable
from relayd.names import Kind
from relayd.quotas.usage import RoomTally, StoredRoom, Usage
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.wire import ChatDraft, ChatEntry, ChatPage


class RedisHistory:
    """The messages of all rooms.

    Args:
        redis: the servers.
        kind: the kind of path whose groups the rooms are.
        prefix: the prefix of all keys.
        process: the unique id of this process.
        bounds: what the rooms of each server keep.
        epochs: notes the epochs of the servers.
        foreign: checks the messages that are read.
        clock: for the deadlines of messages.

    Attributes:
        tally: what all rooms keep, as this process has seen it last.
        replicas: publish what is appended, once it is confirmed, and bound what is read; None if
            the script publishes.
    """

    def __init__(
        self,
        redis: Redis,
        kind: Kind,
        *,
        prefix: str,
        process: str,
        bounds: Bounds,
        epochs: Epochs,
        foreign: Foreign,
        clock: IReactorTime,
    ) -> None:
        self._clock = clock
        self._epochs = epochs
        self._redis = redis
        self._kind = kind
        self._prefix = prefix
        self._process = process
        self._names = Keys(prefix, kind)
        self._bounds = bounds
        self._foreign = foreign
        self._usage: dict[RedisServer, Usage] = {}
        self.tally = RoomTally()
        self.replicas: Replicas | None = None

    def epoch(self, room: str) -> str:
        """The epoch of a room's server, as this process knows it."""
        return self._epochs.base(self._redis.find(self._kind.group(room)))

    async def append(
        self,
        room: str,
        drafts: list[ChatDraft],
        now: int,
        *,
        create: bool = True,
        deadline: float = 2.0,
    ) -> tuple[bool, list[ChatEntry]]:
        """Stores messages and publishes them to the room's channel, in one script.

        Args:
            room: the room's name.
            drafts: the messages.
            now: Unix time in ms.
            create: whether the messages may create the room.
            deadline: seconds from now after which they are not stored any more.

        Returns:
            Whether they have created the room, and the entries.

        Raises:
            RedisUnanswered: the script was sent; it may have run, or may still run before the
                deadline. `outcomes` finds out.
            RedisUnavailable: the script did not run, and will not.
            RedisRefused: likewise.
            QuotaExceeded: there is no such room, and no further one may be created.
        """
        server = self._redis.find(self._kind.group(room))
        channel = "" if self.replicas else self.channel(room)
        until = self._clock.seconds() + deadline

        async def attempt() -> Any:
            seconds = until - self._clock.seconds()
            if seconds <= 0:
                raise RedisUnavailable(f"{server.name} may have lost messages, which is found out")
            script = self._names.append(
                *(room, channel, now, self._bounds, create, self._process),
                self._epochs.words(server),
                drafts,
            )
            return await server.run_timely(*script, seconds)

        answer = await self._epochs.decided(server, attempt)
        if not answer:
            raise QuotaExceeded(f"{room} would be a new room")
        (first, created, rooms, size, trimmed), repeated = map(int, answer[0]), answer[1]
        self._note(server, Usage(rooms, size))
        self.tally.trimmed += trimmed
        self._epochs.saw(server, first + len(drafts) - 1)
        self._epochs.note(server, *answer[2])
        return bool(created), self._entries(room, drafts, first, repeated)

    def _entries(
        self, room: str, drafts: list[ChatDraft], first: int, repeated: list[bytes]
    ) -> list[ChatEntry]:
        before = {
            int(place) - 1: ChatEntry(int(id), body, repeated=True)
            for place, id, body in zip(*[iter(repeated)] * 3, strict=True)
        }
        ids = itertools.count(first)
        return [
            before[place] if place in before else draft.entry(next(ids))
            for place, draft in enumerate(drafts)
        ]

    async def recount(self) -> None:
        """Asks the servers what their rooms keep. Raises RedisUnavailable."""
        await self.largest(0)

    async def largest(self, limit: int) -> list[StoredRoom]:
        """The rooms that keep the most bytes, the largest first. Raises RedisUnavailable."""
        found: list[StoredRoom] = []
        for server in self._redis.servers:
            answer = await server.run(*self._names.largest(limit))
            usage, rooms = read_largest(answer)
            self._note(server, usage)
            found += rooms
        found.sort(key=lambda room: (-room.bytes, room.name))
        return found[:limit]

    def _note(self, server: RedisServer, usage: Usage) -> None:
        self._usage[server] = usage
        found = self._usage.values()
        self.tally.usage = Usage(sum(one.rooms for one in found), sum(one.bytes for one in found))

    async def delete(self, room: str, now: int) -> bool:
        """Deletes a room's messages, and publishes that to its channel.

        Args:
            room: the room's name.
            now: Unix time in ms.

        Returns:
            Whether there were any.

        Raises:
            RedisUnavailable: the outcome is unknown; the script may have run.
        """
        server = self._redis.find(self._kind.group(room))
        return bool(await server.run(*self._names.delete(room, self.channel(room), now)))

    async def since(
        self, room: str, id: int, limit: int, size: int, shown: ChatEntry | None = None
    ) -> tuple[int, ChatPage, int]:
        """The first page after an id; 0 for all messages there ever were.

        Args:
            room: the room's name.
            id: the last one seen.
            limit: how many messages at most.
            size: their bytes at most; at least one message is returned, if there is any.
            shown: the newest message that this process has delivered to members. If Redis has lost
                it, a new epoch begins.

        Returns:
            The newest id of the room (0: it never had a message), the page, and the newest kept
            message that its reader has then. With an `id` that the room has not reached, the
            messages begin with the oldest.

        Raises:
            RedisUnavailable: the history cannot be read.
        """
        id = after = max(0, min(id, LARGEST_ID))
        server, known = self._redis.find(self._kind.group(room)), shown or ChatEntry(0, b"")
        keys = (*self._keys(room), self._epochs.key)

        async def read() -> Any:
            words = (after, limit, size, known.id, known.body, *self._epochs.words(server))
            return await server.run(SINCE, keys, (*words, self._bounds.lifetime))

        while True:
            answer: list[Any] = await self._epochs.decided(server, read)
            if after == id:
                first, oldest, last, hole, met, kept = map(int, answer[:6])
            self._epochs.saw(server, int(answer[2]))
            self._epochs.note(server, *answer[6:11])
            entries, newest = self._read(room, answer[11:])
            if entries or newest >= last or newest <= after:
                break
            after = newest  # none of these is a message
        if not last:
            return 0, ChatPage([], gap=id > 0, from_start=id > 0), 0
        unmet, lost = oldest > first, hole >= first
        if id:
            unmet, lost = not oldest - 1 <= id <= last or not met, id < hole
        more = bool(entries) and newest < last
        gap, lost = unmet or lost, lost and not unmet
        page = ChatPage(entries, gap=gap, more=more, from_start=id > last, lost=lost)
        last, page = await self._confirmed(room, last, page)
        return last, page, page.entries[-1].id if page.entries else min(id, kept, last)

    async def last(self, room: str, count: int, limit: int, size: int) -> ChatPage:
        """The first page of the last `count` messages. Raises RedisUnavailable.

        Args:
            room: the room's name.
            count: how many messages.
            limit: how many of them at most.
            size: as for `since`.
        """
        last, page = await self._read_last(room, count, limit, size)
        return (await self._confirmed(room, last, page))[1]

    async def newest(self, room: str) -> ChatEntry | None:
        """The newest message, confirmed by replicas or not. Raises RedisUnavailable."""
        entries = (await self._read_last(room, 1, 1, 1))[1].entries
        return entries[-1] if entries else None

    async def _read_last(
        self, room: str, count: int, limit: int, size: int
    ) -> tuple[int, ChatPage]:
        answer: list[Any] = await self._redis.find(self._kind.group(room)).run(
            LAST, self._keys(room), (count, limit, size)
        )
        last, (entries, newest) = int(answer[0]), self._read(room, answer[1:])
        return last, ChatPage(entries, more=bool(entries) and newest < last)

    async def _confirmed(self, room: str, last: int, page: ChatPage) -> tuple[int, ChatPage]:
        """The newest id and the part of a page that members may see."""
        if self.replicas is None:
            return last, page
        run_id = self._redis.find(self._kind.group(room)).run_id
        seen = await self.replicas.newest(room, last, run_id)
        if seen >= last:
            return last, page
        entries = [entry for entry in page.entries if entry.id <= seen]
        more = page.more and len(entries) == len(page.entries)
        return seen, ChatPage(entries, page.gap, more, page.from_start, page.lost)

    def _read(self, room: str, answer: list[bytes]) -> tuple[list[ChatEntry], int]:
        """The messages in an answer of `page`, and the last id in it; 0 if it is empty."""
        bodies, ids = answer[: len(answer) // 2], answer[len(answer) // 2 :]
        return self._check(room, ids, bodies), int(ids[-1]) if ids else 0

    def _check(self, room: str, ids: list[bytes], bodies: list[bytes]) -> list[ChatEntry]:
        """The entries of a room's stream that are messages."""
        entries = []
        for id, body in zip(ids, bodies, strict=True):
            try:
                entries.append(self._foreign.check_entry(int(id), body))
            except ValueError as error:
                self._foreign.drop(f"the history of {room}", error)
        return entries

    def channel(self, room: str) -> str:
        """The channel that carries the room's new messages."""
        return f"{self._prefix}:{self._kind.group(room)}"

    def _keys(self, room: str) -> tuple[str, str]:
        return self._names.of(room)
