"""What one measurement says: the load generator prints it as JSON, the runner reads it."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

_MAY_BE_FOR_EVER = ("p50", "p99", "beside_p50", "beside_p99", "last")


@dataclass
class Measured:
    """One load on one server, once. Times are in seconds, sizes in bytes.

    Attributes:
        load: name of the load.
        seconds: length of the measured window.
        deliveries: messages that all members of all groups together got in the window, the
            senders' echoes included; of `pairs` the acknowledged requests.
        cpu: CPU time of the server's processes in the window.
        sent: messages sent in all, outside the window too.
        expected: deliveries that these should have led to: messages times members of the group.
        lost: those of `expected` that had not come when the grace period was over, summed over the
            members; of `pairs` the acknowledged requests whose frame the headset did not get.
        extra: messages that came beyond what was expected.
        reordered: messages that came after a later one of the same sender (raw sockets only).
        errors: of `pairs`, the answers that were no receipt; on raw sockets, frames that no
            sender sent.
        disconnected: connections that the server ended.
        p50, p99: from sending to receiving, over the sampled members; what was lost took for ever.
        samples: how many latencies that are.
        generator: share of its core that the generator used in the window, 0 to 1.
        late: the longest that it was late for a pose (raw sockets only).
        connections: how many were open.
        beside_p50, beside_p99: of the busy group of `neighbour`.
        opened: clients of `storm` that got in.
        last: from the first client of `storm` to the last that got in; for ever if one did not.
        rss, pss: memory of the server's processes per connection (`idle` only).
        series: a row now and then in a long run: seconds since the start, RSS, PSS, deliveries.
    """

    load: str
    seconds: float = 0.0
    deliveries: int = 0
    cpu: float = 0.0
    sent: int = 0
    expected: int = 0
    lost: int = 0
    extra: int = 0
    reordered: int = 0
    errors: int = 0
    disconnected: int = 0
    p50: float = 0.0
    p99: float = 0.0
    samples: int = 0
    generator: float = 0.0
    late: float = 0.0
    connections: int = 0
    beside_p50: float = 0.0
    beside_p99: float = 0.0
    opened: int = 0
    last: float = 0.0
    rss: float = 0.0
    pss: float = 0.0
    series: list[list[float]] = field(default_factory=list)

    @property
    def per_cpu(self) -> float:
        """Deliveries per CPU second of the server."""
        return self.deliveries / self.cpu if self.cpu else 0.0

    @property
    def per_second(self) -> float:
        """Deliveries per second."""
        return self.deliveries / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float:
        """Share of a core that the server used."""
        return self.cpu / self.seconds if self.seconds else 0.0

    def to_json(self) -> str:
        """One line of JSON; what took for ever is null there."""
        values = asdict(self)
        for name in _MAY_BE_FOR_EVER:
            if math.isinf(values[name]):
                values[name] = None
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Measured":
        """The opposite of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        for name in _MAY_BE_FOR_EVER:
            if values[name] is None:
                values[name] = math.inf
        return cls(**values)


def percentile(sorted_values: list[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; 0 of none."""
    if not sorted_values:
        return 0.0
    rank = -(-len(sorted_values) * share // 1)
    return sorted_values[max(0, int(rank) - 1)]
