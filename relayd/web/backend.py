"""The interface of the rest of relayd to the HTTP side. The lowest module of `web`."""

from typing import Protocol

from relayd.config import Config
from relayd.metrics.exchange import Family


class Backend(Protocol):
    """Implemented by the one who wires things; the tests have a stand-in.

    Attributes:
        config: the whole configuration.
        draining: whether relayd takes no new clients, for a while or for good.
        stopping: whether it is going down.
    """

    @property
    def config(self) -> Config: ...

    @property
    def draining(self) -> bool: ...

    @property
    def stopping(self) -> bool: ...

    def connection_counts(self) -> dict[str, int]:
        """Open WebSocket connections by the name of their kind."""

    def publish(self, group: str, payload: bytes) -> int:
        """Sends a payload to a group; returns the number of clients of this process it went to."""

    async def post(self, room: str, message: str) -> bytes:
        """Says something in a room.

        Returns:
            The JSON object that the clients see.

        Raises:
            StoreUnavailable: it could not be kept, so nobody was shown it.
        """

    async def check_database(self) -> None:
        """Raises DatabaseUnavailable, whose text says why and holds no password."""

    async def figures(self) -> list[Family]:
        """The figures of all processes of this relayd, for `/metrics`. Raises Refusal."""

    def check_redis(self) -> None:
        """Raises RedisUnavailable if Redis is configured and away."""
