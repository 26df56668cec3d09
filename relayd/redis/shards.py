"""All Redis servers of an installation; finds the server of a key.

Top of the package.
"""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from relayd.redis.ring import Ring
from relayd.redis.server import RedisServer
from relayd.redis.settings import Settings
from relayd.redis.urls import Target, parse_all
from relayd.stores.health import Trouble, first_trouble


class Redis:
    """One or more servers; each holds its share of the keys.

    All processes must get the same targets, spelled in the same way, in any order.

    Args:
        targets: from `urls.parse_all`.
        reactor: as for `RedisServer`.
        settings: bounds and times, for each server.

    Attributes:
        servers: in the order of the targets.

    Raises:
        ConfigError: hiredis is missing, or the file with the authorities is wrong.
        ValueError: there is no target, or one of them twice.
    """

    def __init__(
        self, targets: Sequence[Target], reactor: Any, settings: Settings | None = None
    ) -> None:
        self._ring = Ring(target.name for target in targets)
        self.servers = tuple(RedisServer(target, reactor, settings) for target in targets)

    @property
    def available(self) -> bool:
        """Whether all servers are available."""
        return all(server.available for server in self.servers)

    @property
    def trouble(self) -> Trouble | None:
        """The state of the first server that is not OK; None if all are."""
        return first_trouble("Redis", *(server.health for server in self.servers))

    def when_available(self) -> "Deferred[None]":
        """Fires when all servers are available for the first time; may be cancelled."""
        there: Deferred[None] = Deferred()

        def look(_: bool) -> None:
            if self.available and not there.called:
                there.callback(None)

        for server in self.servers:
            server.watch(look)
        look(True)
        return there

    def find(self, key: str | bytes) -> RedisServer:
        """The server that a key belongs to."""
        if len(self.servers) == 1:
            return self.servers[0]
        return self.servers[self._ring.find(key)]

    def log_in_anew(self, url: str) -> None:
        """Uses other users or passwords for the same servers (`RedisServer.log_in_anew`).

        Args:
            url: `[redis] url`.
        """
        for server, target in zip(self.servers, parse_all(url.split()), strict=True):
            server.log_in_anew(target)

    def start(self) -> None:
        """Begins to connect to all of them; once only."""
        for server in self.servers:
            server.start()

    def stop(self) -> "Deferred[None]":
        """Ends all connections. The Deferred fires when they are closed."""
        stopped = gatherResults([server.stop() for server in self.servers])
        return stopped.addCallback(lambda _: None)
