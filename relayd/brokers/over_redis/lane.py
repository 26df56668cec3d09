"""What rooms send to one server, in turn: a flood into some rooms makes no other one wait long.

Under `outgoing`. The server carries out one script after the other, and the connection to it bounds
what is unanswered, for all that relayd does there. So few scripts are under way at a time, one of a
room, and what is left of the connection is for everything else.
"""

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from relayd.storage.fair import FairQueue

Item = TypeVar("Item")

MOST_WAITING = 10_000
MOST_BYTES_WAITING = 32 * 1024 * 1024
_BATCH = 500
_BATCH_BYTES = 256 * 1024
_UNDER_WAY = 8
_BYTES_UNDER_WAY = 2 * 1024 * 1024


class Lane(Generic[Item]):
    """The items of all rooms on their way to one server.

    Args:
        carry: sends items of one room in their order; raises nothing.
    """

    def __init__(self, carry: Callable[[str, list[Item]], Coroutine[Any, Any, None]]) -> None:
        self._carry = carry
        self._queue: FairQueue[Item] = FairQueue(MOST_WAITING, MOST_BYTES_WAITING)
        self._busy: dict[Hashable, int] = {}
        self._going = False

    def add(self, room: str, item: Item, size: int, source: Hashable) -> bool:
        """Sends an item in its turn; at once, if there is nothing to wait for.

        Args:
            room: where to; items of one room under way go together.
            item: what to send.
            size: its bytes.
            source: the sender; the senders of a room have their turns, too.

        Returns:
            False if there is no room for it.
        """
        if not self._queue.add(item, size, room, source):
            return False
        self._go()
        return True

    def _go(self) -> None:
        """Sends what may be under way now."""
        if self._going:  # the loop below goes on
            return
        self._going = True
        while len(self._busy) < _UNDER_WAY and sum(self._busy.values()) < _BYTES_UNDER_WAY:
            try:
                room = self._queue.next_place(self._busy)
            except StopIteration:
                break
            batch, size = self._take_batch(room)
            self._busy[room] = size
            carried = Deferred.fromCoroutine(self._carry(str(room), batch))
            carried.addBoth(self._carried, room)
        self._going = False

    def _take_batch(self, room: Hashable) -> tuple[list[Item], int]:
        """The next items of a room, and their bytes."""
        batch: list[Item] = []
        size = 0
        while len(batch) < _BATCH:
            weight = self._queue.next_weight(room)
            if weight is None or (batch and size + weight > _BATCH_BYTES):
                break
            size += weight
            batch.append(self._queue.take(room))
        return batch, size

    def _carried(self, outcome: object, room: Hashable) -> object:
        del self._busy[room]
        self._go()
        return outcome
