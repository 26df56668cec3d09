"""Input and results of `relayctl bench`: profile, figures, verdict. Pure.

Every member of a group gets every pose of the group, cameras also their own; each of these counts
as a delivery.
"""

import math
from dataclasses import dataclass, field
from typing import Any

BUSY = 0.85
"""Above this share of a core, the load generator may be the limit."""
WAITING = 0.15
"""Above this share of the time without a free CPU, the machine may cause the latencies."""


@dataclass(frozen=True)
class Profile:
    """A load.

    Attributes:
        cameras, viewers: of each group.
        rate: poses per second of each camera.
        groups: the number of groups.
        group: the prefix of their names.
        seconds: length of the measurement.
        warmup: seconds of the same load before it.
        grace: seconds after the last pose until missing deliveries count as lost.
        limit: the largest p99 that fits, in seconds.
    """

    cameras: int
    viewers: int
    rate: float
    groups: int
    group: str
    seconds: float
    warmup: float
    grace: float
    limit: float

    @property
    def size(self) -> int:
        """Members of a group."""
        return self.cameras + self.viewers

    @property
    def connections(self) -> int:
        """Members of all groups."""
        return self.groups * self.size


@dataclass
class Figures:
    """The figures of one run. Times are in seconds, shares 0 to 1 of one core.

    Attributes:
        profile: the load.
        connected: connections that were opened.
        sent: all poses, including those of the warm-up.
        delivered: deliveries to all members.
        lost: deliveries that were missing after the grace period.
        extra: deliveries beyond the expected ones.
        closed: connections that the server ended, by close code.
        seconds: length of the measured window.
        sent_in_window, delivered_in_window: poses and deliveries within it.
        p50, p99, worst: from sending to receiving, over the sampled members; infinite if lost.
        samples: the number of latencies.
        server: CPU time of the server in the window, in seconds; None if unknown.
        generator: share of a core that the load generator used.
        waited: share of the window in which the load generator was runnable without a CPU.
    """

    profile: Profile
    connected: int = 0
    sent: int = 0
    delivered: int = 0
    lost: int = 0
    extra: int = 0
    closed: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    sent_in_window: int = 0
    delivered_in_window: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    samples: int = 0
    server: float | None = None
    generator: float = 0.0
    waited: float = 0.0

    @property
    def per_second(self) -> float:
        """Deliveries a second."""
        return self.delivered_in_window / self.seconds if self.seconds else 0.0

    @property
    def server_share(self) -> float | None:
        """Cores that the server used."""
        return None if self.server is None or not self.seconds else self.server / self.seconds

    @property
    def per_cpu_second(self) -> float | None:
        """Deliveries per CPU second of the server."""
        return self.delivered_in_window / self.server if self.server else None

    @property
    def complete(self) -> bool:
        """Whether no message was lost and no connection closed."""
        return not self.lost and not self.closed

    @property
    def fits(self) -> bool:
        """Whether the server carries the load: complete, and in time."""
        return self.complete and self.p99 <= self.profile.limit

    @property
    def generator_limited(self) -> bool:
        """Whether the load generator may have been the limit instead of the server."""
        return self.generator > BUSY or self.waited > WAITING

    def to_dict(self) -> dict[str, Any]:
        """The members for --json: milliseconds, null for unknown or infinite values."""
        profile = self.profile
        share, per_cpu = self.server_share, self.per_cpu_second
        return {
            "cameras": profile.cameras,
            "viewers": profile.viewers,
            "rate": profile.rate,
            "groups": profile.groups,
            "connected": self.connected,
            "sent": self.sent,
            "deliveries": self.delivered,
            "lost": self.lost,
            "extra": self.extra,
            "closed": {str(code): count for code, count in sorted(self.closed.items())},
            "seconds": round(self.seconds, 3),
            "sent_per_second": round(self.sent_in_window / self.seconds, 1) if self.seconds else 0,
            "deliveries_per_second": round(self.per_second, 1),
            "p50_ms": _milliseconds(self.p50),
            "p99_ms": _milliseconds(self.p99),
            "worst_ms": _milliseconds(self.worst),
            "server_cpu": None if share is None else round(share, 4),
            "deliveries_per_cpu_second": None if per_cpu is None else round(per_cpu),
            "generator_cpu": round(self.generator, 4),
            "generator_waited": round(self.waited, 4),
            "generator_limited": self.generator_limited,
            "fits": self.fits,
        }


def summarize(figures: Figures, took: list[float]) -> None:
    """Sets the percentiles of the latencies in the figures."""
    took.sort()
    figures.p50, figures.p99 = percentile(took, 0.5), percentile(took, 0.99)
    figures.worst = took[-1] if took else 0.0
    figures.samples = len(took)


def percentile(sorted_values: list[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed.

    Args:
        sorted_values: the values; 0 is returned without any.
        share: from 0 to 1.
    """
    if not sorted_values:
        return 0.0
    return sorted_values[max(0, math.ceil(len(sorted_values) * share) - 1)]


def _milliseconds(seconds: float) -> float | None:
    return None if math.isinf(seconds) else round(seconds * 1000, 3)
