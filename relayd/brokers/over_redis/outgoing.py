"""The messages of this process on their way into the history in Redis.

Under `rooms`, on `history`, `lane` and `outcomes`. One script of a room at a time carries its
pending messages. If its answer is lost, the store is asked what became of them before the next
script goes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from relayd.brokers.over_redis.history import RedisHistory
from relayd.brokers.over_redis.lane import Lane
from relayd.brokers.over_redis.outcomes import Outcomes
from relayd.errors import (
    OutcomeUnknown,
    QuotaExceeded,
    RedisUnanswered,
    RedisUnavailable,
    StoreUnavailable,
)
from relayd.logs import Logger
from relayd.quotas.creation import Creators
from relayd.quotas.usage import Creation
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.tally import SIZES, Buckets
from relayd.wire import ChatDraft, ChatEntry


class _Draft(NamedTuple):
    text: ChatDraft
    creation: Creation
    posted: "Deferred[ChatEntry]"
    until: float


class Outgoing:
    """The pending messages, by room.

    Args:
        history: stores the messages.
        outcomes: finds out whether messages were stored.
        creators: judges the messages that may create a room.
        find: returns the server of a room.
        clock: for the deadline.
        now: returns the Unix time in seconds.
        deadline: seconds within which a script is carried out, and its outcome found out.

    Attributes:
        appended: how many messages one script stored, for each script.
    """

    _log = Logger()

    def __init__(
        self,
        history: RedisHistory,
        outcomes: Outcomes,
        creators: Creators,
        find: Callable[[str], RedisServer],
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        deadline: float,
    ) -> None:
        self._history = history
        self._outcomes = outcomes
        self._clock = clock
        self._deadline = deadline
        self._creators = creators
        self._find = find
        self._now = now
        self.appended = Buckets(SIZES)
        self._lanes: dict[RedisServer, Lane[_Draft]] = {}

    def post(
        self, room: str, message: str, user: str | None, address: str | None, tag: str = ""
    ) -> "Deferred[ChatEntry]":
        """Stores and publishes a message; as `brokers.interface.Rooms.post`.

        Returns:
            A Deferred that fires with the entry when Redis has confirmed it. It fails with
            StoreUnavailable, QuotaExceeded or OutcomeUnknown.
        """
        posted: Deferred[ChatEntry] = Deferred()
        server = self._find(room)
        lane = self._lanes.get(server)
        if lane is None:
            lane = self._lanes[server] = Lane(self._send)
        text = ChatDraft.of(message, int(self._now() * 1000), user, tag)
        asked = self._creators.ask(room, address)
        posted.addBoth(self._creators.settled, room, asked)
        draft = _Draft(text, asked, posted, self._clock.seconds() + self._deadline)
        if not server.available or not lane.add(room, draft, len(text.head), address):
            posted.errback(StoreUnavailable(f"{server.name} is unavailable or too slow"))
        return posted

    async def _send(self, room: str, drafts: list[_Draft]) -> None:
        now = self._clock.seconds()
        batch = [draft for draft in drafts if draft.until > now]
        if len(batch) < len(drafts):
            late = [draft for draft in drafts if draft.until <= now]
            _fail(late, StoreUnavailable(f"{self._find(room).name} is too slow"))
            if not batch:
                return
        try:
            entries = await self._append(room, batch)
        except (RedisUnavailable, RedisRefused) as error:
            _fail(batch, StoreUnavailable(str(error)))
        except (QuotaExceeded, OutcomeUnknown) as error:
            _fail(batch, error)
        except Exception as error:
            self._log.failure("storing messages of {room} failed", room=room)
            _fail(batch, OutcomeUnknown(str(error)))
        else:
            for entry, draft in zip(entries, batch, strict=True):
                if entry is None:
                    draft.posted.errback(StoreUnavailable("it was not carried out"))
                else:
                    draft.posted.callback(entry)

    async def _append(self, room: str, batch: list[_Draft]) -> Sequence[ChatEntry | None]:
        """Stores messages; returns their entries, None for one that was not stored."""
        creations = [draft.creation for draft in batch if draft.creation.allowed]
        texts, now = [draft.text for draft in batch], int(self._now() * 1000)
        until, run_id = self._clock.seconds() + self._deadline, self._find(room).run_id
        try:
            created, entries = await self._history.append(
                room, texts, now, create=bool(creations), deadline=self._deadline
            )
        except RedisUnanswered as error:
            finding = Deferred.fromCoroutine(
                self._find_out(room, texts, now, run_id, error.end, until)
            )
            finding.addTimeout(max(0.0, until - self._clock.seconds()), self._clock)
            try:
                return await self._shown(room, await finding, until)
            except (RedisUnavailable, RedisRefused, TimeoutError):
                if self._history.replicas is not None:
                    self._history.replicas.owe(room)
                raise OutcomeUnknown(str(error)) from error
        if created:
            creations[0].done = True
        self.appended.observe(len(entries))
        if self._history.replicas is None:
            return entries
        return await self._shown(room, entries, until)

    async def _shown(
        self, room: str, entries: Sequence[ChatEntry | None], until: float
    ) -> Sequence[ChatEntry | None]:
        """Publishes what was just stored or found, if that is left to this process."""
        if self._history.replicas is not None:
            run_id, seconds = self._find(room).run_id, until - self._clock.seconds()
            try:
                await self._history.replicas.show(room, entries, run_id, seconds)
            except RedisUnavailable as error:
                raise OutcomeUnknown(str(error)) from error
        return entries

    async def _find_out(
        self,
        room: str,
        texts: list[ChatDraft],
        now: int,
        run_id: str | None,
        end: int,
        until: float,
    ) -> Sequence[ChatEntry | None]:
        server = self._find(room)
        await server.when_available()
        same = run_id is not None and server.run_id == run_id
        seconds = until - self._clock.seconds()
        entries = await self._outcomes.find(server, room, texts, now, end=end, seconds=seconds)
        if not same and None in entries:
            # this Redis may have lost what the one before has done
            raise RedisUnavailable(f"{server.name} was restarted")
        return entries


def _fail(batch: list[_Draft], error: Exception) -> None:
    for draft in batch:
        draft.posted.errback(error)
