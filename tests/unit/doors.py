"""Shared by the tests of the front door: one with two relays and the pages behind it; callers."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from relayd.brokers.memory import MemoryGroups
from relayd.config import Api, Config, Echo, Keepalive, Limits
from relayd.connection.websocket import RelayFactory
from relayd.edge.frontdoor import FrontDoorFactory
from relayd.hub import Hub
from relayd.metrics.exchange import Family
from relayd.metrics.totals import describe_workers
from relayd.native.batching import Batching
from relayd.relays.camera import CameraFactory
from relayd.relays.echo import EchoFactory
from relayd.relays.unknown import UnknownFactory
from relayd.web.site import build_site
from tests.unit.fakes import Transport, World, make_world, mask_frame

HEAD_SIZE = 1000
CONFIG = Config(
    echo=Echo(enabled=True),
    api=Api(key="a key"),
    limits=Limits(max_head_size=HEAD_SIZE),
    keepalive=Keepalive(handshake_timeout=10, close_timeout=5),
)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
# key and answer of RFC 6455 section 1.3
UPGRADE = (
    b"GET /ws/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class FakeBackend:
    """What the pages need; what is said in a room waits until the test answers."""

    config = CONFIG
    draining = stopping = False

    def __init__(self) -> None:
        self.saying: list[Deferred[bytes]] = []

    def connection_counts(self) -> dict[str, int]:
        return {}

    def publish(self, group: str, payload: bytes) -> int:
        return 0

    async def post(self, room: str, message: str, tag: str = "") -> bytes:
        self.saying.append(Deferred())
        return await self.saying[-1]

    async def figures(self) -> list[Family]:
        return describe_workers(1, 1, 0, 0)

    def check_address(self, client: str) -> None:
        pass

    def check_request(self, client: str) -> None:
        pass

    def check_attempt(self, client: str) -> None:
        pass

    def attempt_failed(self, client: str) -> None:
        pass

    def redis_trouble(self) -> None:
        pass

    def check_disk(self) -> None:
        pass

    async def database_trouble(self) -> None:
        pass


class House:
    """A front door with relays and the pages behind it.

    Attributes:
        relays: two of them, by their kind; a test may add others.
    """

    def __init__(self, world: World, failures: list[LogEvent]) -> None:
        self.world = world
        self.failures = failures
        self.callers: list[Caller] = []
        self.backend = FakeBackend()
        self.hub = Hub(Batching(world.clock, 0))
        self.relays: dict[str, RelayFactory] = {
            "echo": EchoFactory(world.context),
            "camera": CameraFactory(world.context, MemoryGroups(self.hub)),
        }
        self.factory = FrontDoorFactory(
            world.current,
            world.clock,
            world.context.seats,
            self.relays,
            UnknownFactory(world.context),
            build_site(self.backend, world.clock),
            world.context.tally,
        )

    def call(self, *pieces: bytes, factory: Any = None) -> "Caller":
        """A TCP connection on which these segments come."""
        caller = Caller(self.world, factory or self.factory)
        self.callers.append(caller)
        for piece in pieces:
            caller.send(piece)
        return caller


class Caller:
    """A TCP connection whose bytes the test writes and reads itself."""

    def __init__(self, world: World, factory: Any) -> None:
        self._world = world
        self.transport = Transport(world.clock)
        self.transport.protocol = factory.buildProtocol(self.transport.getPeer())
        self.transport.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.transport.deliver(data)
        self._world.clock.advance(0)

    def pass_time(self, seconds: float) -> None:
        self._world.clock.pump([0.5] * round(seconds / 0.5))

    @property
    def answer(self) -> bytes:
        """Everything that came, but for the time of day."""
        return re.sub(rb"\r\nDate: [^\r]*", b"", self.transport.arrived)

    @property
    def statuses(self) -> list[int]:
        """The statuses of the answers."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.answer)]

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code of the one answer, whose form is checked here."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        [status] = self.statuses
        assert b"\r\nContent-Type: application/json; charset=utf-8\r\n" in head
        assert b"\r\nContent-Length: %d" % len(body) in head
        error = json.loads(body)
        assert set(error) == {"error", "message"}
        return status, error["error"]

    def end(self, reason: Exception | None = None) -> None:
        self.transport.end(reason)


@contextmanager
def make_house() -> Iterator[House]:
    """A house whose callers leave at the end."""
    with make_world(CONFIG) as (world, failures):
        house = House(world, failures)
        yield house
        for caller in house.callers:
            caller.end()


SEQUENCES: dict[str, bytes] = {
    "a handshake and a message": UPGRADE + mask_frame(1, b"hello"),
    "a handshake behind empty lines": b"\r\n\r\n" + UPGRADE,
    "a refused handshake": UPGRADE.replace(b"/ws/echo", b"/ws/none"),
    "a handshake with a wrong method": UPGRADE.replace(b"GET", b"PUT"),
    "a handshake that is none": UPGRADE.replace(b"Key: ", b"Key: ?"),
    "a request": HEALTH,
    "a request behind empty lines": b"\r\n" + HEALTH,
    "two requests": HEALTH + HEALTH,
    "requests and a handshake": HEALTH + HEALTH + UPGRADE + mask_frame(1, b"hello"),
    "a request with a body and a handshake": (
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n"
        b"\r\nUpgrade: websocket" + UPGRADE
    ),
    "a request in chunks and a handshake": (
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\n" + UPGRADE
    ),
    "a request that ends its connection": HEALTH.replace(b"Host", b"Connection: close\r\nHost"),
    "nonsense": b"nonsense\r\n\r\n",
    "a head of the largest size": HEALTH[:-2] + b"X: " + b"x" * (HEAD_SIZE - 41) + b"\r\n\r\n",
    "a head that is one byte too long": (
        HEALTH[:-2] + b"X: " + b"x" * (HEAD_SIZE - 40) + b"\r\n\r\n"
    ),
    "a head without end": b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_SIZE,
}
