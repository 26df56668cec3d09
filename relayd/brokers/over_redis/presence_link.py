"""Presence over Redis: the processes tell each other the members of the rooms that one watches.

Implements `brokers.presence.Others`; sits on `relayd.redis`. Nothing is sent about a room that
nobody watches. All processes subscribe to one channel, and to one more for each watched room:

    <prefix>:presence              {"process": id, "watch": [room, ...], "unwatch": [room, ...],
                                   "ask": bool, "again": bool}
    <prefix>:presence:<room>       {"process": id, "named": n, "anonymous": n, "users": [...]}
    <prefix>:process:<id>:present  the lease of a process that watches, or is watched

Every process answers a `watch` with its members, none too, and sends them again when they change.
A process that has begun, or was cut off, asks the others what they watch; they list it `again`, and
whoever did not know a watch reports its members. The lease expires after `LEASE`, or with its
process: then its members are gone, and what it watches is not sent to it any more. After an outage
of Redis, and after its lease has expired, a process sends all of this again.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from relayd.brokers.foreign import Foreign
from relayd.brokers.presence import LONGEST, MOST, Part, Presence
from relayd.errors import RedisUnavailable
from relayd.logs import Logger
from relayd.redis.replies import RedisRefused
from relayd.redis.shards import Redis
from relayd.wire import UNDECODABLE

RENEWAL = 2.0
"""Seconds between two renewals of a lease, and between two looks at those of others."""
LEASE = 8.0
"""Seconds after which a process that does not renew its lease counts as dead."""
PACE = 0.5
"""Seconds between two messages of a process about the members of a room."""
PATIENCE = 0.5
"""Seconds that a new watch waits for the answers of the other processes."""
_MOST_WATCHED = 100_000  # rooms that other processes watch
_TOGETHER = 500  # rooms of one message


class _Watch(msgspec.Struct, omit_defaults=True):
    process: str
    watch: list[str] = []
    unwatch: list[str] = []
    ask: bool = False
    again: bool = False


class _Members(msgspec.Struct, omit_defaults=True):
    process: str
    named: int = 0
    anonymous: int = 0
    users: tuple[str, ...] | None = None


class _Pending:
    """A watch whose answers are awaited: how many there will be, if that is known yet."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self.answered = answered
        self.expected: int | None = None
        self.deadline: IDelayedCall | None = None


class PresenceLink:
    """The side of one process.

    Args:
        presence: the members and watchers in this process.
        redis: the servers.
        clock: for leases and deadlines.
        process: the unique id of this process.
        prefix: the prefix of keys and channels.
        foreign: counts invalid messages.
    """

    _log = Logger()

    def __init__(
        self,
        presence: Presence,
        redis: Redis,
        *,
        clock: IReactorTime,
        process: str,
        prefix: str,
        foreign: Foreign,
    ) -> None:
        self._presence = presence
        self._redis = redis
        self._clock = clock
        self._process = process
        self._prefix = prefix
        self._foreign = foreign
        self._channel = f"{prefix}:presence"
        self._server = redis.find(self._channel)
        self._pending: dict[str, _Pending] = {}
        self._watched: dict[str, set[str]] = {}  # the processes that watch each room
        self._heard: dict[str, float] = {}  # when each other process was alive
        self._changed: set[str] = set()
        self._sending: IDelayedCall | None = None
        self._answering: IDelayedCall | None = None
        self._renewed = float("-inf")
        self._leased = False
        self._loop = LoopingCall(self._renew)
        self._loop.clock = clock
        presence.others = self
        for server in redis.servers:  # a room is reported through any of them
            server.watch(self._available)

    def start(self) -> None:
        """Begins to receive what the other processes watch."""
        self._server.subscribe_later(self._channel, self._received_watch)
        self._loop.start(RENEWAL, now=False)

    async def stop(self) -> None:
        """Reports the last changes, and gives up the lease."""
        if self._loop.running:
            self._loop.stop()
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        self._send()
        self._presence.others = None
        self._server.unsubscribe(self._channel)
        if self._leased and self._server.available:
            with contextlib.suppress(RedisUnavailable, RedisRefused):  # it expires
                await self._server.call("DEL", self._lease(self._process))

    # -- what this process watches (`presence.Others`)

    def watch(self, room: str, answered: Callable[[], None]) -> None:
        pending = self._pending[room] = _Pending(answered)
        pending.deadline = self._clock.callLater(PATIENCE, self._settle, room)
        Deferred.fromCoroutine(self._watch(room)).addErrback(
            lambda failure: self._log.failure("watching {room} failed", failure, room=room)
        )

    def unwatch(self, room: str) -> None:
        self._settle(room)
        channel = self._channel_of(room)
        self._redis.find(channel).unsubscribe(channel)
        self._tell(_Watch(self._process, unwatch=[room]))

    async def _watch(self, room: str) -> None:
        channel = self._channel_of(room)
        server, receive = self._redis.find(channel), partial(self._received_members, room)
        try:
            try:
                await server.subscribe(channel, receive)
            except CancelledError:
                return  # the last watcher has gone meanwhile
            self._keep_lease()
            text = msgspec.json.encode(_Watch(self._process, watch=[room]))
            # this process, too, gets it
            expected = await self._server.call("PUBLISH", self._channel, text) - 1
        except (RedisUnavailable, RedisRefused):
            # `redis.server` has logged it; what is watched is sent again when Redis is available
            if room in self._presence.watched:
                server.subscribe_later(channel, receive)
            self._settle(room)
        else:
            if (pending := self._pending.get(room)) is not None:
                pending.expected = expected
                self._look_at_answers(room)

    def _look_at_answers(self, room: str) -> None:
        pending = self._pending.get(room)
        if pending is None or pending.expected is None:
            return
        if self._presence.answers(room) >= pending.expected:
            self._settle(room)

    def _settle(self, room: str) -> None:
        """No further answers are awaited."""
        pending = self._pending.pop(room, None)
        if pending is None:
            return
        if pending.deadline is not None and pending.deadline.active():
            pending.deadline.cancel()
        pending.answered()

    def _received_members(self, room: str, data: bytes) -> None:
        try:
            found = msgspec.json.decode(data, type=_Members)
            names = found.users or ()
            if found.named < 0 or found.anonymous < 0 or not self._is_id(found.process):
                raise ValueError("no members of a room")
            if len(names) > MOST or sum(map(len, names)) > LONGEST:
                raise ValueError("too many names")
        except (*UNDECODABLE, ValueError) as error:
            self._foreign.drop(f"presence of {room}", error)
            return
        if found.process != self._process:
            self._heard[found.process] = self._clock.seconds()
            part = Part(found.named, found.anonymous, found.users)
            self._presence.received(room, found.process, part)
            self._look_at_answers(room)

    # -- what others watch

    def changed(self, room: str) -> None:
        if room in self._watched:
            self._changed.add(room)
            if self._sending is None:
                self._sending = self._clock.callLater(PACE, self._send)

    def _send(self) -> None:
        """Reports the members of all rooms that have changed."""
        if self._sending is not None and self._sending.active():
            self._sending.cancel()
        self._sending = None
        changed, self._changed = self._changed, set()
        for room in changed:
            self._report(room)

    def _report(self, room: str) -> None:
        part, channel = self._presence.part(room), self._channel_of(room)
        members = _Members(self._process, part.named, part.anonymous, part.users)
        self._redis.find(channel).publish(channel.encode(), msgspec.json.encode(members))

    def _received_watch(self, data: bytes) -> None:
        try:
            found = msgspec.json.decode(data, type=_Watch)
            if not self._is_id(found.process):
                raise ValueError("no id of a process")
        except (*UNDECODABLE, ValueError) as error:
            self._foreign.drop("presence", error)
            return
        if found.process == self._process:
            return
        self._heard[found.process] = self._clock.seconds()
        for room in found.watch:
            if room not in self._watched and len(self._watched) >= _MOST_WATCHED:
                self._foreign.drop("presence", f"over {_MOST_WATCHED} rooms are watched")
                break
            watching = self._watched.setdefault(room, set())
            if not found.again:
                self._report(room)
            elif found.process not in watching:
                self.changed(room)  # several may list it again at once
            watching.add(found.process)
        for room in found.unwatch:
            self._forget_watch(room, found.process)
        if found.ask and self._answering is None:
            self._answering = self._clock.callLater(PACE, self._answer)
        if found.watch:
            self._keep_lease()

    def _answer(self) -> None:
        """Lists what this process watches for all that have asked."""
        self._answering = None
        self._tell_watched(again=True)

    def _forget_watch(self, room: str, process: str) -> None:
        processes = self._watched.get(room, set())
        processes.discard(process)
        if not processes:
            self._watched.pop(room, None)

    # -- leases

    def _keep_lease(self) -> None:
        """Has a lease if it does not have one yet."""
        if not self._leased:
            self._leased = True
            self._renew()

    def _renew(self) -> None:
        if self._leased:
            Deferred.fromCoroutine(self._look()).addErrback(
                lambda failure: self._log.failure("the leases of presence failed", failure)
            )

    async def _look(self) -> None:
        """Renews the lease, and forgets the processes whose leases have expired."""
        now, others = self._clock.seconds(), self._others()
        self._leased = bool(others or self._watched or list(self._presence.watched))
        if not self._leased:
            return
        mine = self._lease(self._process)
        found: Sequence[bytes | None]
        try:
            held, *found = await self._server.call("MGET", mine, *map(self._lease, others))
            await self._server.call("SET", mine, "1", "PX", int(LEASE * 1000))
        except (RedisUnavailable, RedisRefused):
            if now - self._renewed < LEASE:
                return
            found = [None] * len(others)
        else:
            self._renewed = now
            if held is None:
                self._repeat()
                return  # a Redis that was emptied has the leases of others at their next renewal
        for process, lease in zip(others, found, strict=True):
            # one that was heard just now may have its lease in a moment
            if lease is None and now - self._heard.get(process, now) >= RENEWAL:
                self._forget(process)

    def _others(self) -> list[str]:
        """The other processes that watch, or are watched."""
        watching = {process for processes in self._watched.values() for process in processes}
        return sorted(watching | self._presence.processes())

    def _forget(self, process: str) -> None:
        """A process is dead."""
        self._heard.pop(process, None)
        self._presence.forget(process)
        for room in [room for room, processes in self._watched.items() if process in processes]:
            self._forget_watch(room, process)

    def _available(self, available: bool) -> None:
        if available:
            self._repeat()

    def _repeat(self) -> None:
        """Sends everything again: messages were lost, or the lease was."""
        self._tell_watched()
        self._tell(_Watch(self._process, ask=True))  # theirs were lost, too
        for room in self._watched:
            self._report(room)

    def _tell_watched(self, again: bool = False) -> None:
        watched = list(self._presence.watched)
        for start in range(0, len(watched), _TOGETHER):
            part = watched[start : start + _TOGETHER]
            self._tell(_Watch(self._process, watch=part, again=again))

    def _tell(self, watch: _Watch) -> None:
        self._server.publish(self._channel.encode(), msgspec.json.encode(watch))

    def _channel_of(self, room: str) -> str:
        return f"{self._channel}:{room}"

    def _lease(self, process: str) -> str:
        return f"{self._prefix}:process:{process}:present"

    @staticmethod
    def _is_id(process: str) -> bool:
        """Whether this may be the id of a process."""
        return 0 < len(process) <= 64 and process.isascii() and process.isprintable()
