"""The interface of the rest of relayd to the HTTP side. The lowest module of `web`."""

from typing import Protocol

from relayd.config import Config
from relayd.metrics.exchange import Family
from relayd.stores.health import Trouble


class Backend(Protocol):
    """The rest of relayd, as the HTTP side uses it; `application.Application` implements it.

    Attributes:
        config: the whole configuration.
        draining: whether relayd admits no new clients, for a while or for good.
        stopping: whether it is about to end.
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
        """Publishes a payload to a group; returns the number of clients of this process."""

    async def post(self, room: str, message: str, tag: str = "") -> bytes:
        """Posts a message in a room, unless it is there with this tag.

        Returns:
            The JSON object that the clients get.

        Raises:
            StoreUnavailable: the message is not kept.
            OutcomeUnknown: it may be.
        """

    async def database_trouble(self) -> Trouble | None:
        """The state of the database, which is asked now; None if it is OK."""

    def check_disk(self) -> None:
        """Checks the space for the database. Raises DiskFull."""

    async def figures(self) -> list[Family]:
        """The figures of all processes of this relayd, for `/metrics`. Raises Refusal."""

    def check_address(self, client: str) -> None:
        """Checks that an address is not banned. Raises Refusal: 403."""

    def check_request(self, client: str) -> None:
        """Counts an HTTP request of an address. Raises Refusal: 429."""

    def check_attempt(self, client: str) -> None:
        """Whether an address may show a key. Raises Refusal: 429."""

    def attempt_failed(self, client: str) -> None:
        """A key that an address has shown is wrong."""

    def redis_trouble(self) -> Trouble | None:
        """The state of Redis; None if it is OK, or not configured."""
