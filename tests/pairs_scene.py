"""Shared by the tests of `RedisPairs`: processes side by side, and gates between them and Redis.

A process that is stopped or cut off does not see what Redis tells it: a gate keeps that from it.
"""

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.brokers.foreign import Foreign
from relayd.brokers.over_redis.pairs import RedisPairs
from relayd.drops import Drops
from relayd.redis import urls
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis as Shards
from tests.broker_scene import UUID, Inbox
from tests.redis_scene import PATIENCE, Watch
from tests.redis_servers import Redis
from tests.unit.fakes import logged_failures

T = TypeVar("T")
Told = list[object]

PREFIX = "test"
LEASE = f"{PREFIX}:{{pair/{UUID}}}:unity"
QUICK: dict[str, Any] = {"deadline": 0.5, "ping_interval": 0.1, "longest_delay": 0.2}
"""For tests that stop Redis."""
SHORT: dict[str, Any] = {"ttl": 3.0, "renewal": 0.5}
"""For tests that wait for a lease to end, and on a slow machine not before."""


def begin(coroutine: Coroutine[Any, Any, T]) -> "Deferred[T]":
    return Deferred.fromCoroutine(coroutine)


async def failures(calls: "list[Coroutine[Any, Any, Any]]") -> list[type]:
    """Starts them all, and waits; the types of what they raise, which all of them must."""
    outcomes: list[Any] = await DeferredList([begin(call) for call in calls], consumeErrors=True)
    assert not any(success for success, _ in outcomes), outcomes
    return [failure.type for _, failure in outcomes]


async def pause(seconds: float = 0.0) -> None:
    from twisted.internet import reactor

    await deferLater(reactor, seconds)


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        await pause(0.005)


class Node:
    """One process: its own connections to Redis, and its pairs."""

    def __init__(self, name: str, *addresses: str, **options: Any) -> None:
        from twisted.internet import reactor

        settings = {key: options.pop(key) for key in list(options) if key in QUICK}
        self.name = name
        self.redis = Shards(urls.parse_all(addresses), reactor, Settings(**settings))
        self.watches = [Watch(server) for server in self.redis.servers]
        self.drops = Drops()
        foreign = Foreign(reactor, self.drops, 1024 * 1024)
        self.pairs = RedisPairs(self.redis, reactor, name, PREFIX, foreign, **options)
        self.redis.start()
        self.pairs.start()

    async def until(self, available: bool) -> None:
        for watch in self.watches:
            await watch.until(available)

    async def stop(self) -> None:
        await self.pairs.stop()
        await self.redis.stop()

    @property
    def empty(self) -> bool:
        """Whether it remembers nobody."""
        deliveries = self.pairs._deliveries
        return not (list(self.pairs._leases) or deliveries._requests or deliveries.offers)


@contextlib.asynccontextmanager
async def nodes(*addresses: str, count: int = 2, **options: Any) -> AsyncIterator[tuple[Node, ...]]:
    """Processes that are connected; at the end they have let go of everything."""
    made = tuple(Node(f"process{number}", *addresses, **options) for number in range(count))
    try:
        for node in made:
            await node.until(True)
        yield made
    finally:
        for node in made:
            await node.stop()
    assert all(node.empty for node in made)


@contextlib.contextmanager
def quiet_log() -> Iterator[list[str]]:
    """What relayd logs meanwhile; errors must be expected ones (`logged`)."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("relayd."):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    with logged_failures() as failures:
        yield lines
    globalLogPublisher.removeObserver(observe)
    assert [event for event in failures if event not in _expected] == []


_expected: list[LogEvent] = []


@contextlib.contextmanager
def logged(kind: type[Exception]) -> Iterator[None]:
    """An error of this kind, and no other, is logged meanwhile."""
    with logged_failures() as failures:
        yield
    [event] = failures
    assert event["log_failure"].check(kind)
    _expected.append(event)


def address(redis: Redis) -> str:
    return f"unix://{redis.socket}"


def keys(redis: Redis) -> set[bytes]:
    found: list[bytes] = redis.tell("KEYS", f"{PREFIX}:*")
    return set(found)


def holder(redis: Redis, side: str = "unity") -> str:
    """Who holds a side of the pair; empty for nobody."""
    value: bytes | None = redis.tell("GET", f"{PREFIX}:{{pair/{UUID}}}:{side}")
    return value.decode() if value else ""


async def told(inbox: Inbox) -> Told:
    """What came so far."""
    return await inbox.take(0)


class Gate(Factory):
    """A way to Redis that can be closed for what comes back from it.

    Attributes:
        closes: bytes at which it closes before they pass.
        alone: whether only the connection with these bytes is closed.
        closed: whether nothing comes back, or, with `alone`, something does not.
        delay: makes up how many seconds each piece takes, in both directions.
    """

    noisy = False

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.closes = b""
        self.alone = False
        self.closed = False
        self.delay: Callable[[], float] | None = None
        self.ways: list[Way] = []
        self.url = ""

    def buildProtocol(self, addr: object) -> Protocol:
        return Entrance(self)

    def open(self) -> None:
        self.closed, self.alone, self.closes = False, False, b""
        for way in self.ways:
            way.closed = False
            way.flow()


class Way:
    """One direction of one connection through a gate; keeps the order."""

    def __init__(self, gate: Gate, *, is_back: bool) -> None:
        self._gate = gate
        self._is_back = is_back
        self._under_way: deque[bytes] = deque()
        self._waiting: deque[bytes] = deque()
        self._due = 0.0  # when the last piece arrives
        self.closed = False
        self.transport: Any = None
        gate.ways.append(self)

    def pass_on(self, data: bytes) -> None:
        from twisted.internet import reactor

        self._under_way.append(data)
        if self._gate.delay is None and not self._due:
            self._arrived()
            return
        now = time.monotonic()
        self._due = max(self._due, now + (self._gate.delay() if self._gate.delay else 0))
        reactor.callLater(self._due - now, self._arrived)

    def _arrived(self) -> None:
        self._waiting.append(self._under_way.popleft())
        self.flow()

    def flow(self) -> None:
        while self._waiting and self.transport is not None:
            gate = self._gate
            if self._is_back and gate.closes and gate.closes in self._waiting[0]:
                gate.closed = self.closed = True
            if self._is_back and (self.closed if gate.alone else gate.closed):
                return
            self.transport.write(self._waiting.popleft())


class Entrance(Protocol):
    transport: Any

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.to_redis, self.back = Way(gate, is_back=False), Way(gate, is_back=True)
        self.exit: Exit | None = None

    def connectionMade(self) -> None:
        from twisted.internet import reactor

        self.back.transport = self.transport
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._gate.redis.port)
        connectProtocol(endpoint, Exit(self)).addCallbacks(self._connected, lambda _: None)

    def _connected(self, exit: "Exit") -> None:
        self.exit = exit
        self.to_redis.transport = exit.transport
        self.to_redis.flow()

    def dataReceived(self, data: bytes) -> None:
        self.to_redis.pass_on(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.exit is not None:
            self.exit.transport.loseConnection()


class Exit(Protocol):
    transport: Any

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    def dataReceived(self, data: bytes) -> None:
        self._entrance.back.pass_on(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._entrance.transport.loseConnection()


@contextlib.asynccontextmanager
async def gated(redis: Redis) -> AsyncIterator[Gate]:
    from twisted.internet import reactor

    gate = Gate(redis)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(gate)
    gate.url = f"redis://127.0.0.1:{port.getHost().port}"
    try:
        yield gate
    finally:
        gate.open()
        await port.stopListening()
