"""Shared by the tests of relayd.redis: views of its state, and a misbehaving proxy before Redis."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.redis import urls
from relayd.redis.server import RedisServer
from relayd.redis.settings import Settings
from tests.redis_servers import Redis

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which what must come is given up."""


class Watch:
    """Notes what a server tells its watchers, and waits for it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.changes: list[bool] = []
        self._waiting: list[Deferred[None]] = []
        server.watch(self._changed)

    async def until(self, available: bool) -> None:
        """Until the server is available, or away; goes on when all watchers know."""
        from twisted.internet import reactor

        while self.server.available != available:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting.addTimeout(PATIENCE, reactor)
            await deferLater(reactor, 0)

    def _changed(self, available: bool) -> None:
        assert self.server.available == available
        self.changes.append(available)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)


class Inbox:
    """Receives messages; a test waits for them."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._waiting: list[Deferred[None]] = []

    def __call__(self, message: bytes) -> None:
        self.messages.append(message)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def take(self, count: int = 1) -> list[bytes]:
        """Waits until there are so many; takes all there are."""
        from twisted.internet import reactor

        while len(self.messages) < count:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting.addTimeout(PATIENCE, reactor)
        taken, self.messages = self.messages, []
        return taken


@implementer(ILogObserver)
class Log:
    """What relayd.redis logs, as text; a context manager, inside which it listens."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._waiting: list[tuple[str, Deferred[str]]] = []

    def __enter__(self) -> "Log":
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *error: object) -> None:
        globalLogPublisher.removeObserver(self)

    async def wait_for(self, part: str) -> str:
        """The first line with this in it, now or later."""
        from twisted.internet import reactor

        for line in self.lines:
            if part in line:
                return line
        waiting: Deferred[str] = Deferred()
        self._waiting.append((part, waiting))
        return await waiting.addTimeout(PATIENCE, reactor)

    def __call__(self, event: LogEvent) -> None:
        if not event.get("log_namespace", "").startswith("relayd.redis"):
            return
        line = formatEvent(event)
        self.lines.append(line)
        for part, deferred in list(self._waiting):
            if part in line and not deferred.called:
                deferred.callback(line)


@contextlib.asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[tuple[RedisServer, Watch]]:
    """A started server, which is available, and its watch; stopped at the end."""
    async with started(url, **settings) as (server, watch):
        await watch.until(True)
        yield server, watch


@contextlib.asynccontextmanager
async def started(url: str, **settings: Any) -> AsyncIterator[tuple[RedisServer, Watch]]:
    """A started server, and its watch; stopped at the end."""
    from twisted.internet import reactor

    server = RedisServer(urls.parse(url), reactor, Settings(**settings))
    watch = Watch(server)
    server.start()
    try:
        yield server, watch
    finally:
        await server.stop()


def begin(coroutine: Coroutine[Any, Any, T]) -> "Deferred[T]":
    """Starts what an `async def` of ours does."""
    return Deferred.fromCoroutine(coroutine)


async def turn() -> None:
    """The reactor looks at its sockets once."""
    from twisted.internet import reactor

    await deferLater(reactor, 0)


async def until(condition: Callable[[], bool]) -> None:
    """What has no event to wait for is looked at again and again."""
    from twisted.internet import reactor

    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        await deferLater(reactor, 0.01)


def stat(redis: Redis, name: str) -> int:
    """A number of its INFO."""
    found = re.search(rf"^{name}:(\d+)", redis.tell("INFO").decode(), re.M)
    assert found is not None
    return int(found[1])


async def failures(deferreds: "list[Deferred[Any]]") -> set[type]:
    """The types of the failures; all of them must fail."""
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    assert not any(success for success, _ in outcomes), outcomes
    return {failure.type for _, failure in outcomes}


async def serves(server: RedisServer) -> None:
    """Commands, publishing and subscriptions work."""
    inbox = Inbox()
    await server.subscribe("serves", inbox)
    assert await server.call("SET", "serves", b"\x00\xff 007") == b"OK"
    assert await server.call("GET", "serves") == b"\x00\xff 007"
    assert server.publish(b"serves", b"\r\n\xff")
    assert server.publish(b"serves", b"7")
    assert await inbox.take(2) == [b"\r\n\xff", b"7"]
    server.unsubscribe("serves")


def stat_of_command(redis: Redis, name: str) -> int:
    text = redis.tell("INFO", "commandstats").decode()
    found = re.search(rf"^cmdstat_{name}:calls=(\d+)", text, re.M)
    return int(found[1]) if found else 0


class Front(Factory):
    """Stands in front of a Redis, and may misbehave.

    Attributes:
        port: of the Redis that new connections are led to.
        greeting: what is said to a client instead of leading it anywhere.
        hang_ups: how many more connections are closed when AUTH comes.
        accepted: how many connections there were.
    """

    noisy = False

    def __init__(self, port: int) -> None:
        self.port = port
        self.greeting = b""
        self.hang_ups = 0
        self.accepted = 0
        self.url = ""

    def buildProtocol(self, addr: object) -> Protocol:
        self.accepted += 1
        return FrontProtocol(self)


class FrontProtocol(Protocol):
    transport: Any

    def __init__(self, front: Front) -> None:
        self._front = front
        self._redis: BackProtocol | None = None
        self._waiting = b""

    def connectionMade(self) -> None:
        from twisted.internet import reactor

        if self._front.greeting:
            self.transport.write(self._front.greeting)
            return
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._front.port)
        connectProtocol(endpoint, BackProtocol(self)).addCallbacks(
            self._connected, lambda _: self.transport.abortConnection()
        )

    def dataReceived(self, data: bytes) -> None:
        if b"AUTH" in data and self._front.hang_ups:
            self._front.hang_ups -= 1
            self.transport.loseConnection()
        elif self._redis is None:
            self._waiting += data
        else:
            self._redis.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._redis is not None:
            self._redis.transport.loseConnection()

    def _connected(self, redis: "BackProtocol") -> None:
        self._redis = redis
        redis.transport.write(self._waiting)
        if not self.connected:
            redis.transport.loseConnection()


class BackProtocol(Protocol):
    transport: Any

    def __init__(self, front: FrontProtocol) -> None:
        self._front = front

    def dataReceived(self, data: bytes) -> None:
        self._front.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._front.transport.loseConnection()


@contextlib.asynccontextmanager
async def fronted(redis: Redis) -> AsyncIterator[Front]:
    """A proxy in front of a Redis, listening."""
    from twisted.internet import reactor

    front = Front(redis.port)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(front)
    front.url = f"redis://127.0.0.1:{port.getHost().port}"
    try:
        yield front
    finally:
        await port.stopListening()
