"""The settings of the connections to Redis, and their defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Bounds and times of all connections to Redis.

    Attributes:
        ca_file: PEM file with the authorities that may have signed the servers' certificates; the
            system's, if empty.
        verify: whether the servers' certificates are verified.
        prefix: how the channel begins that `server` uses for itself, as `[redis] prefix` says.
        deadline: seconds that a command, a subscription, a greeting or a ping may take.
        ping_interval: seconds between two pings of a connection.
        max_pending: commands that may be unanswered on one connection.
        max_pending_bytes: how long these may be together.
        first_delay: seconds until the first new attempt after a connection was lost.
        longest_delay: the most seconds between two attempts.
        sentinel_interval: seconds between two questions to the sentinels where the master is.
    """

    ca_file: str = ""
    verify: bool = True
    prefix: str = "relayd"
    deadline: float = 2.0
    ping_interval: float = 2.0
    max_pending: int = 10_000
    max_pending_bytes: int = 8 * 1024 * 1024
    first_delay: float = 0.05
    longest_delay: float = 2.0
    sentinel_interval: float = 1.0
