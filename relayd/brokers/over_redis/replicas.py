"""Messages that are shown only when replicas have confirmed them (`[redis] wait_replicas`).

Under `outgoing` and `history`. WAIT holds up the connection on which it is sent, so each server has
one more connection for it, made when it is needed first. A write on that connection comes after all
that Redis has carried out before, so WAIT after it speaks for the messages of all rooms that were
stored until then; few WAITs serve many of them.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from relayd.errors import RedisUnavailable
from relayd.logs import Logger
from relayd.redis.commands import pack
from relayd.redis.connection import Connection
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.wire import ChatEntry

_SLICE = 0.25  # seconds of one WAIT; longer ones would hold up those who come meanwhile
_PAUSE = 0.1
_MOST_KNOWN = 20_000
_MARK_KEPT = 60_000  # ms


class _Waiter:
    """The connection to one server for WAIT.

    Args:
        server: the server.
        count: how many replicas have to confirm.
        key: is written before each WAIT.
        clock: for the deadlines.
        slice: seconds of one WAIT at most.
    """

    _log = Logger()

    def __init__(
        self, server: RedisServer, count: int, key: str, clock: IReactorTime, slice: float
    ) -> None:
        self._server = server
        self._clock = clock
        self._mark = pack(("SET", key, 1, "PX", _MARK_KEPT))
        self._wait = pack(("WAIT", count, max(1, int(slice * 1000))))
        self._count = count
        self._connection: Connection | None = None
        self._waiting: list[Deferred[str]] = []
        self._running = False
        self._why = ""
        self.stopped = False

    async def confirm(self, run_id: str | None, seconds: float) -> None:
        """Returns when replicas have all that the server had carried out before the call.

        Args:
            run_id: of the Redis that has carried it out.
            seconds: until the deadline.

        Raises:
            RedisUnavailable: too few replicas have confirmed, or it is another Redis now.
        """
        until = self._clock.seconds() + seconds
        while True:
            left = until - self._clock.seconds()
            if run_id is None or self._server.run_id != run_id or self.stopped:
                raise RedisUnavailable(f"{self._server.name}: another Redis answers now")
            if left <= 0:
                raise RedisUnavailable(f"{self._server.name}: {self._why or 'WAIT is too slow'}")
            confirmed: Deferred[str] = Deferred()
            self._waiting.append(confirmed)
            if not self._running:
                self._running = True
                Deferred.fromCoroutine(self._run())
            confirmed.addTimeout(left, self._clock)
            try:
                if await confirmed == run_id:
                    return
            except (TimeoutError, CancelledError):
                continue

    async def _run(self) -> None:
        try:
            while self._waiting:
                served, self._waiting = self._waiting, []
                process = ""
                try:
                    process = await self._ask()
                except (RedisUnavailable, RedisRefused) as error:
                    self._note(str(error))
                except Exception as error:
                    self._note(repr(error))
                if not process and not self.stopped:
                    await deferLater(self._clock, _PAUSE)
                for each in served:
                    if not each.called:
                        each.callback(process)
        finally:
            self._running = False

    async def _ask(self) -> str:
        """One WAIT; returns the run id of the Redis, empty if too few replicas confirmed."""
        connection = self._connection
        if connection is None or connection.ended.called:
            connection = self._connection = await self._server.dial("relayd-replicas")
        elif connection.process != self._server.run_id:
            connection.abort("another Redis answers now")
            return ""
        await connection.call(self._mark)
        confirmed = await connection.call(self._wait)
        if confirmed < self._count:
            self._note(f"{confirmed} of {self._count} replicas have confirmed")
            return ""
        self._note("")
        return connection.process

    def _note(self, why: str) -> None:
        if bool(why) != bool(self._why):
            text = why or "replicas confirm again"
            self._log.info("Redis {name}: {text}", name=self._server.name, text=text)
        self._why = why

    def stop(self) -> None:
        self.stopped = True
        if self._connection is not None:
            self._connection.abort("it is closed")


class Replicas:
    """Asks replicas, and shows what they have confirmed.

    Args:
        count: how many have to confirm.
        prefix: the prefix of all keys.
        find: returns the server of a room.
        channel: returns the channel of a room.
        read: returns the newest message of a room, confirmed or not.
        clock: for deadlines and repetitions.
        deadline: seconds that a reader waits.
    """

    def __init__(
        self,
        count: int,
        prefix: str,
        find: Callable[[str], RedisServer],
        channel: Callable[[str], str],
        read: Callable[[str], Coroutine[Any, Any, ChatEntry | None]],
        *,
        clock: IReactorTime,
        deadline: float,
    ) -> None:
        self._count = count
        self._key = f"{prefix}:rooms:waited"
        self._find = find
        self._channel = channel
        self._read = read
        self._clock = clock
        self._deadline = deadline
        self._waiters: dict[RedisServer, _Waiter] = {}
        self._known: dict[str, int] = {}
        self._owed: dict[RedisServer, set[str]] = {}
        self._stopped = False

    async def show(
        self,
        room: str,
        entries: Sequence[ChatEntry | None],
        run_id: str | None,
        seconds: float,
    ) -> None:
        """Publishes messages as soon as they are confirmed.

        Args:
            room: the room's name.
            entries: what was stored; None for a message that was not.
            run_id: of the Redis that has just said so.
            seconds: until the deadline.

        Raises:
            RedisUnavailable: they are not confirmed; as soon as they are, they are shown.
        """
        stored = [entry for entry in entries if entry is not None]
        if not stored:
            return
        server = self._find(room)
        try:
            await self._waiter(server).confirm(run_id, seconds)
        except RedisUnavailable:
            self.owe(room)
            raise
        self.note(room, max(entry.id for entry in stored))
        new = [entry for entry in stored if not entry.repeated]
        if not new or not all(self._publish(server, room, run) for run in _runs(new)):
            self.owe(room)  # the newest one shows that there are others

    async def newest(self, room: str, last: int, run_id: str | None) -> int:
        """The newest id of a room that members may see.

        Args:
            room: the room's name.
            last: the newest one in the store.
            run_id: of the Redis that has just said so.

        Raises:
            RedisUnavailable: this process knows of none.
        """
        known = self._known.get(room, 0)
        if last <= known:
            return last
        try:
            await self._waiter(self._find(room)).confirm(run_id, self._deadline)
        except RedisUnavailable:
            self.owe(room)
            known = self._known.get(room, 0)
            if not known:
                raise
            return min(last, known)
        self.note(room, last)
        return last

    def owe(self, room: str) -> None:
        """Shows the newest message of a room once replicas have confirmed it."""
        server = self._find(room)
        owed = self._owed.get(server)
        if owed is not None:
            owed.add(room)
        elif not self._stopped:
            self._owed[server] = {room}
            Deferred.fromCoroutine(self._pay(server))

    def stop(self) -> None:
        """Ends the connections."""
        self._stopped = True
        for waiter in self._waiters.values():
            waiter.stop()

    async def _pay(self, server: RedisServer) -> None:
        while self._owed[server]:
            # a script whose outcome is unknown may be carried out until its deadline
            await deferLater(self._clock, self._deadline)
            if self._stopped:
                break
            rooms, self._owed[server] = self._owed[server], set()
            run_id = server.run_id
            try:
                found = [(room, await self._read(room)) for room in sorted(rooms)]
                await self._waiter(server).confirm(run_id, self._deadline)
            except (RedisUnavailable, RedisRefused):
                self._owed[server] |= rooms
                continue
            for room, entry in found:
                if entry is None:
                    continue
                self.note(room, entry.id)
                if not self._publish(server, room, [entry]):
                    self._owed[server].add(room)
        del self._owed[server]

    def _publish(self, server: RedisServer, room: str, entries: Sequence[ChatEntry]) -> bool:
        payload = b"[%d,%b]" % (entries[0].id, b",".join(entry.body for entry in entries))
        return server.publish(self._channel(room).encode(), payload)

    def _waiter(self, server: RedisServer) -> _Waiter:
        if server not in self._waiters:
            slice = min(_SLICE, self._deadline / 4)
            self._waiters[server] = _Waiter(server, self._count, self._key, self._clock, slice)
        return self._waiters[server]

    def note(self, room: str, id: int) -> None:
        """Members may see the messages of a room up to this id."""
        self._known[room] = max(id, self._known.pop(room, 0))
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]


def _runs(entries: Sequence[ChatEntry]) -> list[list[ChatEntry]]:
    """Parts whose ids are consecutive, as the channel has them."""
    runs: list[list[ChatEntry]] = []
    for entry in entries:
        if runs and runs[-1][-1].id + 1 == entry.id:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs
