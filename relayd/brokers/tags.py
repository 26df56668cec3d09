"""Which tagged requests of phones were carried out in the last minutes. Pure, given a clock.

Under `memory` and `over_redis.offers`. A phone that does not know the outcome of a request sends it
again with the same tag, and gets the answer of the first one instead of another assignment.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

MEMORY = 300.0
"""Seconds for which a tag is remembered at least, if it is among the last `EACH` of its pair."""
EACH = 64
"""Tags of one pair that are remembered."""
_MOST = 100_000  # of all pairs together: some 30 MB


def mark_of(secret: str, tag: str) -> str:
    """The mark of a request: a hash of its tag and of the secret of its pair; empty without a tag.

    So it has 32 hexadecimal digits however long and whatever the tag is, and a tag of a pair with
    one secret stands for nothing in a pair with another.
    """
    if not tag:
        return ""
    return hashlib.blake2b(f"{secret}:{tag}".encode(), digest_size=16).hexdigest()


class Tags:
    """The marks of requests that were carried out, by UUID.

    Args:
        seconds: returns the time of a monotonic clock.
        most: marks that are remembered in all; the pairs that were silent for longest lose theirs.
    """

    def __init__(self, seconds: Callable[[], float], *, most: int = _MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._count = 0
        # both in the order of the last addition
        self._pairs: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def add(self, uuid: str, mark: str) -> None:
        """Remembers that a request was carried out; no effect without a mark."""
        if not mark:
            return
        now = self._seconds()
        marks = self._pairs.setdefault(uuid, OrderedDict())
        self._pairs.move_to_end(uuid)
        self._count -= marks.pop(mark, None) is not None
        marks[mark] = now + MEMORY
        self._count += 1
        if len(marks) > EACH:
            marks.popitem(last=False)
            self._count -= 1
        while self._pairs:
            oldest = next(iter(self._pairs.values()))
            if next(reversed(oldest.values())) > now and self._count <= self._most:
                break
            self._pairs.popitem(last=False)
            self._count -= len(oldest)

    def has(self, uuid: str, mark: str) -> bool:
        """Whether the request with this mark was carried out."""
        marks = self._pairs.get(uuid) if mark else None
        return marks is not None and marks.get(mark, 0.0) > self._seconds()
