"""Counts that only the metrics need: refusals, errors, close codes, times in buckets. Pure.

All counts are plain integers, because some are updated for each frame. `metrics` reads them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from relayd.close_codes import CloseCode
from relayd.errors import ErrorCode, Where

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0),
)  # fmt: skip
"""Bounds for times: from a frame among neighbours to a database that hangs."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Bounds for how much is done at once."""

REFUSALS = tuple(sorted(code for code in ErrorCode if Where.HANDSHAKE in code.where))
"""The codes of refused handshakes, which the metrics list from the start; others appear later."""

FAULTS = tuple(
    sorted(code for code in ErrorCode if Where.FRAME in code.where and (code.status or 0) >= 500)
)
"""The codes of error frames for which the server is at fault.

The metrics list them from the start: a counter that appears with its first error has not increased
for Prometheus.
"""

NO_CODE, OTHER_CODE = "none", "other"
# RFC 6455 section 7.4 and its registry at IANA; 4000 + the status of a refusal (`?refuse=close`)
_CODES = {
    *CloseCode,
    *range(1000, 1004),
    *range(1007, 1015),
    *(3000, 3003, 3008),
    *(4000 + code.status for code in REFUSALS if code.status is not None),
}


class Buckets:
    """Counts of values by size, for a Prometheus histogram.

    Args:
        bounds: upper bounds, inclusive, ascending.

    Attributes:
        bounds: as given.
        counts: how many values fell between two bounds; the last one, above all of them.
        total: the values' sum.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts a value. One below zero, of a clock that was set back, counts as zero."""
        self.counts[bisect_left(self.bounds, value)] += 1
        if value > 0:
            self.total += value


class Tally:
    """The outcomes of the handshakes and connections of this process.

    Attributes:
        refused: handshakes by the code they were refused with.
        errors: error frames by the kind of path and the code.
        closes_sent: ended connections by the close code that relayd sent.
        closes_received: ended connections by the close code that the client sent.
    """

    def __init__(self) -> None:
        self.refused = Counter[ErrorCode](dict.fromkeys(REFUSALS, 0))
        self.errors = Counter[tuple[str, ErrorCode]]()
        ours = dict.fromkeys(map(str, map(int, CloseCode)), 0) | {NO_CODE: 0}
        self.closes_sent = Counter[str](ours)
        self.closes_received = Counter[str]({"1000": 0, "1001": 0, NO_CODE: 0, OTHER_CODE: 0})

    def told(self, kind: str, code: ErrorCode) -> None:
        """A client on this kind of path gets an error frame."""
        self.errors[kind, code] += 1

    def ended(self, sent: int | None, received: int | None) -> None:
        """A connection has ended, after these close codes; None for a side that sent none."""
        self.closes_sent[_label(sent)] += 1
        self.closes_received[_label(received)] += 1


def _label(code: int | None) -> str:
    """A code as a label: clients may send any of thousands, so only known ones have their own."""
    if code is None:
        return NO_CODE
    return str(int(code)) if code in _CODES else OTHER_CODE
