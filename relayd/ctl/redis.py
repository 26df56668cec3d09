"""Redis for commands that end: a reactor that runs as long as one coroutine does.

Sits under `ctl.cluster`. Stands on `relayd.redis`, whose connections heal themselves; a command
does not wait for that but says why Redis is away.
"""

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.config import Config
from relayd.errors import ConfigError, RedisUnavailable
from relayd.redis import urls
from relayd.redis.server import RedisServer
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis

T = TypeVar("T")

_PATIENCE = 3  # deadlines of Redis: to find it, to connect, to log in


def run_with_redis(
    config: Config, key: str, work: Callable[[Redis, Any], Coroutine[Any, Any, T]]
) -> T:
    """Runs a coroutine in a reactor, with Redis connected. Once only in a process.

    Args:
        config: says where Redis is.
        key: what the coroutine is about: the server that it belongs to must be there.
        work: called with Redis and the reactor.

    Returns:
        What the coroutine returned.

    Raises:
        ConfigError: Redis cannot be used with this configuration.
        RedisUnavailable: Redis cannot be reached, or does not let us in; the text says why.
        KeyboardInterrupt: Ctrl-C, or SIGTERM.
        Exception: whatever the coroutine raised.
    """
    from twisted.internet import reactor as found

    reactor: Any = found
    settings = Settings(ca_file=config.redis.ca_file, deadline=config.redis.deadline)
    try:
        redis = Redis(urls.parse_all(config.redis.url.split()), reactor, settings)
    except ValueError as error:
        raise ConfigError(f"[redis] url: {error}") from None
    results: list[T] = []
    failures: list[Failure] = []

    async def run() -> T:
        server = redis.find(key)
        with _outage_of(server) as outage:
            redis.start()
            try:
                await _reach(server, outage, _PATIENCE * settings.deadline, reactor)
                return await work(redis, reactor)
            finally:
                await redis.stop()

    def end(_: object) -> None:
        with contextlib.suppress(ReactorNotRunning):  # a signal has come
            reactor.stop()

    def begin() -> None:
        running = Deferred.fromCoroutine(run())
        running.addCallbacks(results.append, failures.append).addBoth(end)

    reactor.callWhenRunning(begin)
    reactor.run()
    for failure in failures:
        failure.raiseException()
    if not results:
        raise KeyboardInterrupt
    return results[0]


async def _reach(
    server: RedisServer, outage: "Deferred[str]", patience: float, reactor: Any
) -> None:
    """Returns when the server is available, or says why it is not."""

    def changed(available: bool) -> None:
        if available and not outage.called:
            outage.callback("")

    server.watch(changed)
    try:
        reason = await outage.addTimeout(patience, reactor)
    except Exception:
        reason = f"no answer in {patience:g} s"
    if reason:
        reason = reason.removeprefix(f"{server.name}: ")
        raise RedisUnavailable(f"Redis {server.name} cannot be used: {reason}")


@contextlib.contextmanager
def _outage_of(server: RedisServer) -> "Iterator[Deferred[str]]":
    """A Deferred that fires with the first reason why a server is away: that goes to its log."""
    outage: Deferred[str] = Deferred()

    @implementer(ILogObserver)
    class Observer:
        def __call__(self, event: LogEvent) -> None:
            ours = event.get("log_namespace") == server.log.namespace
            reason = event.get("reason") if ours and event.get("name") == server.name else None
            if reason is not None and not outage.called:
                outage.callback(reason)

    observer = Observer()
    globalLogPublisher.addObserver(observer)
    try:
        yield outage
    finally:
        globalLogPublisher.removeObserver(observer)
