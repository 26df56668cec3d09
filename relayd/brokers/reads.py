"""Reads of histories, shared by all who want the same at the same moment; few at a time.

The rooms of both brokers stand on it. Pure.
"""

from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from relayd.errors import Overloaded, StoreUnavailable
from relayd.wire import ChatPage

Fetch = Callable[[], Coroutine[Any, Any, ChatPage]]


def in_time() -> bool:
    """The answer of a process that is never late."""
    return False


class _Read:
    """A read that has not begun, and those who wait for its page."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.waiters: list[Deferred[ChatPage]] = []


class Reads:
    """The reads of all rooms of a process.

    A read serves all who asked for it before it began; whoever asks later gets the next one, since
    this one may not see the newest messages. A room has one read under way at most, and rooms that
    wait take turns.

    Args:
        most: how many reads may be under way.
        late: whether the process is late; then it takes no further reads for clients that join.
    """

    def __init__(self, most: int = 2, late: Callable[[], bool] = in_time) -> None:
        self._most = most
        self._late = late
        self._busy: set[str] = set()
        # the rooms in turn, each with its reads, oldest first
        self._rooms: dict[str, dict[Hashable, _Read]] = {}

    def read(
        self, room: str, part: Hashable, fetch: Fetch, *, joins: bool = False
    ) -> "Deferred[ChatPage]":
        """Reads a part of a room's history.

        Args:
            room: the room's name.
            part: identifies the part.
            fetch: reads it; called once for all who wait.
            joins: whether the client is not admitted yet.

        Returns:
            A Deferred that fires with the page, or fails as `fetch` does, or with `Overloaded`: the
            process is late, and no such read waits that could be shared. Cancelling it takes its
            caller out; a read that nobody waits for any more does not begin.
        """
        if joins and self._late() and part not in self._rooms.get(room, ()):
            return fail(Overloaded("the loop is late"))
        read = self._rooms.setdefault(room, {}).setdefault(part, _Read(fetch))

        def leave(waiter: "Deferred[ChatPage]") -> None:
            read.waiters.remove(waiter)
            reads = self._rooms.get(room, {})
            if not read.waiters and reads.get(part) is read:
                del reads[part]
                if not reads:
                    del self._rooms[room]

        waiter: Deferred[ChatPage] = Deferred(leave)
        read.waiters.append(waiter)
        self._begin()
        return waiter

    def _begin(self) -> None:
        while len(self._busy) < self._most:
            room = next((room for room in self._rooms if room not in self._busy), None)
            if room is None:
                return
            reads = self._rooms.pop(room)
            read = reads.pop(next(iter(reads)))
            if reads:
                self._rooms[room] = reads
            self._busy.add(room)
            fetching = Deferred.fromCoroutine(_fetch(read))
            fetching.addBoth(self._ended, room, read)

    def _ended(self, outcome: ChatPage | Failure, room: str, read: _Read) -> None:
        self._busy.discard(room)
        waiters, read.waiters = read.waiters, []
        for waiter in waiters:
            if isinstance(outcome, Failure):
                error = outcome.value
                # an exception of its own for each, which holds the frames of one reader alone
                own = StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error
                waiter.errback(own)
            else:
                waiter.callback(outcome)
        self._begin()


async def _fetch(read: _Read) -> ChatPage:
    return await read.fetch()
