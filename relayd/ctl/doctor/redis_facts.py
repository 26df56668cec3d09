"""The answers of the Redis servers about themselves and relayd's processes, queried once.

Under the checks of `doctor` in `redis`, on `ctl.redis`, which connects in the same way as the
daemon: with TLS, access lists and Sentinel.
"""

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from relayd.brokers.over_redis.probe import needs
from relayd.cluster import Seen, read_processes
from relayd.config import Config
from relayd.ctl.redis import run_with_redis
from relayd.errors import ConfigError, RedisUnavailable
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis
from relayd.urls.masking import mask_urls

_SETTINGS = (
    "maxmemory",
    "maxmemory-policy",
    "maxclients",
    "client-output-buffer-limit",
    "appendonly",
    "save",
)


@dataclass
class ServerFacts:
    """One server.

    Attributes:
        name: of the server.
        away: the reason why it did not answer; "" if it did.
        refuses: its words if it answers, but refuses something that relayd needs; else "".
        info: the lines of INFO.
        settings: from CONFIG GET, as far as the user may read them.
        offset: seconds by which its clock is ahead of this machine's.
        uncertain: the uncertainty of this, half a round trip, in seconds.
    """

    name: str
    away: str = ""
    refuses: str = ""
    info: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    offset: float = 0.0
    uncertain: float = 0.0

    def number(self, name: str) -> int:
        """A number from INFO or the settings; 0 if it is in neither."""
        text = self.info.get(name) or self.settings.get(name) or "0"
        return int(text) if text.isdigit() else 0

    @property
    def version(self) -> tuple[int, ...]:
        """Such as (7, 0, 15)."""
        return tuple(map(int, re.findall(r"\d+", self.info.get("redis_version", ""))[:3]))


@dataclass
class RedisFacts:
    """All servers, and the processes that are registered.

    Attributes:
        servers: those of `[redis] url`, in its order.
        processes: the entries of the register.
    """

    servers: list[ServerFacts] = field(default_factory=list)
    processes: list[Seen] = field(default_factory=list)


def query(config: Config) -> RedisFacts:
    """Queries all servers."""
    if not config.redis.url:
        return RedisFacts()
    key = f"{config.redis.prefix}:processes"

    async def work(redis: Redis, reactor: Any) -> RedisFacts:
        found = RedisFacts()
        for server in redis.servers:
            found.servers.append(await _query(server, config, reactor))
        with contextlib.suppress(RedisUnavailable, RedisRefused):
            found.processes = await read_processes(redis, config.redis.prefix)
        return found

    try:
        return run_with_redis(config, key, work)
    except (RedisUnavailable, RedisRefused) as error:
        name = str(error).removeprefix("Redis ").partition(" cannot")[0]
        return RedisFacts([ServerFacts(name, away=str(error))])
    except ConfigError as error:
        return RedisFacts([ServerFacts(mask_urls(config.redis.url), away=str(error))])


async def _query(server: RedisServer, config: Config, reactor: Any) -> ServerFacts:
    facts = ServerFacts(server.name)
    try:
        await _reach(server, config.redis.deadline, reactor)
        before = time.time()
        seconds, microseconds = await server.call("TIME")
        after = time.time()
        facts.offset = int(seconds) + int(microseconds) / 1e6 - (before + after) / 2
        facts.uncertain = (after - before) / 2
        facts.info = _lines(await server.call("INFO"))
    except (RedisUnavailable, RedisRefused) as error:
        facts.away = str(error)
        return facts
    try:
        await needs(server, config.redis.prefix)()
    except (RedisUnavailable, RedisRefused) as error:
        facts.refuses = str(error)
    for name in _SETTINGS:
        try:
            answer = await server.call("CONFIG", "GET", name)
        except RedisRefused:
            break
        facts.settings.update(
            {answer[0].decode(): answer[1].decode(errors="replace")} if len(answer) > 1 else {}
        )
    return facts


async def _reach(server: RedisServer, timeout: float, reactor: Any) -> None:
    """Waits for a server. Raises RedisUnavailable after the timeout, in seconds."""
    ready: Deferred[None] = Deferred()

    def changed(available: bool) -> None:
        if available and not ready.called:
            ready.callback(None)

    server.watch(changed)
    if server.available:
        changed(True)
    try:
        await ready.addTimeout(timeout, reactor)
    except Exception:
        raise RedisUnavailable(f"{server.name}: no answer in {timeout:g} s") from None


def _lines(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}
