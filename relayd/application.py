"""What the pages, the HTTP API and the operator may ask of the process (`web.backend.Backend`).

Sits under `node` and `tap`, which puts it together.
"""

from collections.abc import Awaitable, Callable

from relayd.brokers.interface import Groups
from relayd.config import Config
from relayd.connection.context import Context
from relayd.errors import RedisUnavailable
from relayd.metrics.exchange import Family
from relayd.redis.shards import Redis
from relayd.relays.chat import ChatFactory
from relayd.storage.pool import Database


class Application:
    """What the pages and the HTTP API may ask of the process (`web.backend.Backend`)."""

    def __init__(
        self,
        context: Context,
        database: Database,
        redis: Redis | None,
        groups: Groups,
        chat: ChatFactory,
        figures: Callable[[], Awaitable[list[Family]]],
    ) -> None:
        self._context = context
        self._database = database
        self._redis = redis
        self._groups = groups
        self._chat = chat
        self._figures = figures

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._context.config

    @property
    def draining(self) -> bool:
        """Whether nobody is to come in any more, for a while or for good."""
        return self._context.admission.draining or self.stopping

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end."""
        return self._context.admission.stopping

    def connection_counts(self) -> dict[str, int]:
        """Open WebSocket connections by kind of path."""
        return self._context.connections.counts()

    def publish(self, group: str, payload: bytes) -> int:
        """Publishes to a group; returns how many clients of this process got it."""
        return self._groups.publish(group, payload)

    async def say(self, room: str, message: str) -> bytes:
        """Says something in a room. Raises StoreUnavailable."""
        return (await self._chat.say(room, message)).body

    async def figures(self) -> list[Family]:
        """The figures of all processes of this relayd."""
        return await self._figures()

    async def check_database(self) -> None:
        """Raises DatabaseUnavailable with the reason."""
        await self._database.check_schema()

    def check_redis(self) -> None:
        """Raises RedisUnavailable with the reason, if there is a Redis to be reached."""
        if self._redis is not None and not self._redis.available:
            raise RedisUnavailable("a Redis is away")
