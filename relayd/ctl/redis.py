"""Redis for commands: a reactor that runs for one coroutine.

Sits under `ctl.cluster`, on `relayd.redis`, whose connections retry for ever; a command instead
reports why Redis is unavailable.
"""

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from relayd.config import Config
from relayd.errors import ConfigError, RedisUnavailable
from relayd.redis import urls
from relayd.redis.server import RedisServer
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis

T = TypeVar("T")

_STEPS = 3  # each within a deadline of Redis: to find it, to connect, to log in


def run_with_redis(
    config: Config, key: str, work: Callable[[Redis, Any], Coroutine[Any, Any, T]]
) -> T:
    """Runs a coroutine in a reactor, with Redis connected. Once only in a process.

    Args:
        config: has the URL of Redis.
        key: the server of this key has to be available.
        work: called with Redis and the reactor.

    Returns:
        The result of the coroutine.

    Raises:
        ConfigError: Redis cannot be used with this configuration.
        RedisUnavailable: Redis cannot be reached, or refuses the login; the text says why.
        KeyboardInterrupt: Ctrl-C, or SIGTERM.
        Exception: the exception of the coroutine.
    """
    from twisted.internet import reactor as found

    reactor: Any = found
    settings = Settings(
        ca_file=config.redis.ca_file, verify=config.redis.verify, deadline=config.redis.deadline
    )
    try:
        redis = Redis(urls.parse_all(config.redis.url.split()), reactor, settings)
    except ValueError as error:
        raise ConfigError(f"[redis] url: {error}") from None
    results: list[T] = []
    failures: list[Failure] = []

    async def run() -> T:
        server = redis.find(key)
        outage = _outage_of(server)
        redis.start()
        try:
            await _reach(server, outage, _STEPS * settings.deadline, reactor)
            return await work(redis, reactor)
        finally:
            await redis.stop()

    def end(_: object) -> None:
        with contextlib.suppress(ReactorNotRunning):  # a signal has stopped it
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
    server: RedisServer, outage: "Deferred[str]", timeout: float, reactor: Any
) -> None:
    """Waits for the server. Raises RedisUnavailable with the reason."""

    def changed(available: bool) -> None:
        if available and not outage.called:
            outage.callback("")

    server.watch(changed)
    try:
        reason = await outage.addTimeout(timeout, reactor)
    except Exception:
        reason = f"no answer in {timeout:g} s"
    if reason:
        reason = reason.removeprefix(f"{server.name}: ")
        raise RedisUnavailable(f"Redis {server.name} cannot be used: {reason}")


def _outage_of(server: RedisServer) -> "Deferred[str]":
    """A Deferred that fires with the store's words when the server does not become available."""
    outage: Deferred[str] = Deferred()

    def changed() -> None:
        if not server.available and server.health.words and not outage.called:
            outage.callback(server.health.words)

    server.health.watch(changed)
    return outage
