"""Latencies counted in buckets, as `bench.streams` counts every delivery: what is their percentile?

A bucket for each microsecond below 2,048 of them; from there on 1,024 for each doubling, so that a
figure is wrong by one part in a thousand at most.
"""

import math
from collections.abc import Sequence

_EXACT, _EACH = 2048, 1024


def microseconds(bucket: int) -> float:
    """The middle of what falls into a bucket."""
    if bucket < _EXACT:
        return float(bucket)
    doubling, place = divmod(bucket - _EXACT, _EACH)
    width: int = 2 << doubling
    return (_EACH + place) * width + (width - 1) / 2


def percentile(buckets: Sequence[int], share: float, missing: int = 0) -> float:
    """The smallest latency that at least `share` of the deliveries do not exceed.

    Args:
        buckets: how many deliveries fell into each.
        share: 0 to 1.
        missing: deliveries that never came: these took for ever.

    Returns:
        Seconds; 0 of no delivery at all.
    """
    total = sum(buckets) + missing
    if not total:
        return 0.0
    wanted = max(1, math.ceil(total * share))
    for bucket, count in enumerate(buckets):
        wanted -= count
        if wanted <= 0:
            return microseconds(bucket) / 1e6
    return math.inf
