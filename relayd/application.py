"""The services of a process for pages, HTTP API and operator (`web.backend.Backend`).

Sits under `control` and `node`; the parts that it calls are arguments.
"""

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable

from relayd import __version__
from relayd.brokers.interface import Groups, Rooms
from relayd.cluster import Report, Seen, read_processes
from relayd.config import Config
from relayd.connection.context import Context
from relayd.edge.ports import Ports
from relayd.errors import DatabaseUnavailable
from relayd.hub import Hub
from relayd.metrics.exchange import Family
from relayd.quotas.usage import StoredRoom
from relayd.redis.shards import Redis
from relayd.relays.chat import ChatFactory
from relayd.storage.disk import DiskWatch
from relayd.storage.pool import Database
from relayd.stores.health import Trouble


class Application:
    """The services of a process for pages, HTTP API and operator.

    Args:
        process: its unique id.
        worker: its number among those of one parent; None for a process without a parent.
        context: the configuration and the connections.
        ports: the ports of the process.
        hub: the groups of the process.
        database: its health is reported.
        disk: its free space is reported.
        redis: its health is reported; None for one process alone.
        groups: publish payloads.
        chat: posts messages in rooms.
        rooms: what they keep.
        figures: returns the metrics of all processes of this relayd. Raises Refusal.
    """

    def __init__(
        self,
        *,
        process: str,
        worker: int | None,
        context: Context,
        ports: Ports,
        hub: Hub,
        database: Database,
        disk: DiskWatch,
        redis: Redis | None,
        groups: Groups,
        chat: ChatFactory,
        rooms: Rooms,
        figures: Callable[[], Awaitable[list[Family]]],
    ) -> None:
        self._process = process
        self._worker = worker
        self._started = time.time()
        self._context = context
        self._ports = ports
        self._hub = hub
        self._database = database
        self._disk = disk
        self._redis = redis
        self._groups = groups
        self._chat = chat
        self._rooms = rooms
        self._figures = figures

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._context.current.config

    @property
    def draining(self) -> bool:
        """Whether no new clients are admitted, for a while or for good."""
        return self._context.admission.draining or self.stopping

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end."""
        return self._context.admission.stopping

    def connection_counts(self) -> dict[str, int]:
        """Open WebSocket connections by kind of path."""
        return self._context.connections.counts()

    def publish(self, group: str, payload: bytes) -> int:
        """Publishes to a group; returns the number of clients of this process that got it."""
        return self._groups.publish(group, payload)

    async def post(self, room: str, message: str, tag: str = "") -> bytes:
        """Posts a message in a room; returns its JSON object, as `brokers.interface.Rooms.post`."""
        return (await self._chat.post(room, message, tag=tag)).body

    async def stored_rooms(self, limit: int) -> tuple[int, list[StoredRoom]]:
        """How many chat rooms keep messages, and the largest of them.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        found = await self._rooms.largest(limit)
        return self._rooms.tally.usage.rooms, found

    async def delete_room(self, room: str) -> bool:
        """Deletes a room's messages; whether it kept any. Raises StoreUnavailable."""
        return await self._rooms.delete(room)

    async def figures(self) -> list[Family]:
        """The figures of all processes of this relayd."""
        return await self._figures()

    async def database_trouble(self) -> Trouble | None:
        """The state of the database, which is asked now; None if it is OK."""
        with contextlib.suppress(DatabaseUnavailable):  # its health notes it
            await self._database.check_schema()
        return self._database.health.trouble("database")

    def check_disk(self) -> None:
        """Checks the space for the database. Raises DiskFull with the reason."""
        self._disk.check()

    def check_address(self, client: str) -> None:
        """Checks that an address is not banned. Raises Refusal: 403."""
        self._context.admission.check_address(client)

    def check_request(self, client: str) -> None:
        """Counts an HTTP request of an address. Raises Refusal: 429."""
        self._context.seats.addresses.check_request(client)

    def check_attempt(self, client: str) -> None:
        """Whether an address may show a key. Raises Refusal: 429."""
        self._context.seats.addresses.check_attempt(client)

    def attempt_failed(self, client: str) -> None:
        """A key that an address has shown is wrong."""
        self._context.seats.addresses.failed(client)

    def redis_trouble(self) -> Trouble | None:
        """The state of Redis; None if it is OK, or not configured."""
        return None if self._redis is None else self._redis.trouble

    async def processes(self) -> list[Seen]:
        """All processes that share Redis. Raises RedisUnavailable, RedisRefused."""
        if self._redis is None:
            return []
        return await read_processes(self._redis, self.config.redis.prefix)

    def report(self) -> Report:
        """The report of this process to the cluster."""
        trips = [server.round_trip for server in self._redis.servers] if self._redis else []
        return Report(
            id=self._process,
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            worker=self._worker,
            started=self._started,
            listen=self._ports.places(),
            connections=self._context.connections.counts(),
            groups=len(self._hub),
            delivered=self._hub.delivered,
            drops=self._context.drops.counts(),
            redis_round_trip=max((trip for trip in trips if trip is not None), default=None),
            draining=self.draining,
            clock=time.time(),
        )
