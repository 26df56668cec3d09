"""A queue that takes from its sources in turn, so that a flood fills its own share only. Pure.

`batches` stands on it, and `lane` in `brokers.over_redis`: messages wait by room and then by
sender, draws by pair. Each source keeps the order of its items.
"""

from collections import deque
from collections.abc import Container, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of many places, each of which has items of several sources.

    Whoever takes the items of `next_place` goes round the places, and at each place round its
    sources. A place may have no more waiting than is free in the whole queue, so there is always
    room for another one.

    Args:
        most: how many items may wait.
        heaviest: their weight together.
    """

    def __init__(self, most: int, heaviest: int) -> None:
        self._most = most
        self._heaviest = heaviest
        # dicts keep the order in which their keys came: whoever was served comes again as the last
        self._places: dict[Hashable, dict[Hashable, deque[tuple[Item, int]]]] = {}
        self._shares: dict[Hashable, tuple[int, int]] = {}
        self._count = self._weight = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: Item, weight: int, place: Hashable, source: Hashable) -> bool:
        """Adds an item behind those of its source; False if there is no room for it."""
        count, heavy = self._shares.get(place, (0, 0))
        if (
            self._count >= self._most
            or self._weight + weight > self._heaviest
            or count > self._most - self._count
            or heavy > self._heaviest - self._weight
        ):
            return False
        self._shares[place] = (count + 1, heavy + weight)
        self._count += 1
        self._weight += weight
        sources = self._places.setdefault(place, {})
        sources.setdefault(source, deque()).append((item, weight))
        return True

    def next_place(self, busy: Container[Hashable] = ()) -> Hashable:
        """The next place that has items and is not busy. Raises StopIteration without one."""
        return next(place for place in self._places if place not in busy)

    def next_weight(self, place: Hashable) -> int | None:
        """The weight of the item of a place that `take` returns next; None without one."""
        if place not in self._places:
            return None
        return next(iter(self._places[place].values()))[0][1]

    def take(self, place: Hashable) -> Item:
        """Removes the next item of a place that has items; the place is the last one then."""
        sources = self._places.pop(place)
        source = next(iter(sources))
        items = sources.pop(source)
        item, weight = items.popleft()
        if items:
            sources[source] = items
        if sources:
            self._places[place] = sources
            count, heavy = self._shares[place]
            self._shares[place] = (count - 1, heavy - weight)
        else:
            del self._shares[place]
        self._count -= 1
        self._weight -= weight
        return item
