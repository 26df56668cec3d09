"""How one Redis is reached: where its master is, and with which login.

Stands on `dial`, `greeting` and `sentinel`; a `server` has one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from relayd.redis.connection import Connection
from relayd.redis.dial import Dialer
from relayd.redis.greeting import greet
from relayd.redis.sentinel import Masters
from relayd.redis.settings import Settings
from relayd.redis.urls import TCP, Address, Sentinels, Target

_SENTINEL_DEADLINE = 1.0  # seconds for one sentinel; another may know the master


class Access:
    """The way to a server.

    Args:
        target: its address, from `urls.parse`.
        reactor: as for `server.RedisServer`.
        settings: bounds and times.
        moved: called with the address when the sentinels name another master.

    Attributes:
        target: with the login of new connections.

    Raises:
        ConfigError: hiredis is missing, or the file with the authorities is wrong.
    """

    def __init__(
        self, target: Target, reactor: Any, settings: Settings, moved: Callable[[TCP], None]
    ) -> None:
        self.target = target
        self._dialer = Dialer(reactor, settings)
        self._masters: Masters | None = None
        if isinstance(target, Sentinels):
            short = replace(settings, deadline=min(settings.deadline, _SENTINEL_DEADLINE))
            self._masters = Masters(target, Dialer(reactor, short), reactor, short, moved)

    def start(self) -> None:
        """Begins to watch the sentinels, if there are any; once only."""
        if self._masters is not None:
            self._masters.start()

    def stop(self) -> None:
        """Ends the watch."""
        if self._masters is not None:
            self._masters.stop()

    def ask_sentinels_as(self, target: Target) -> None:
        """Uses the login of `target` for new connections to the sentinels."""
        if self._masters is not None:
            assert isinstance(target, Sentinels)
            self._masters.log_in_anew(target)

    async def find(self) -> Address:
        """The address of the server. Raises RedisUnavailable: no sentinel names one."""
        if isinstance(self.target, Sentinels):
            assert self._masters is not None
            return await self._masters.find()
        return self.target.address

    async def open(
        self, address: Address, connection: Connection, name: str, target: Target | None = None
    ) -> None:
        """Connects, and makes the connection ready for commands.

        Args:
            address: of the server.
            connection: is connected to it.
            name: of the connection in CLIENT LIST.
            target: has the login to use; None for the present one.

        Raises:
            RedisUnavailable: the server cannot be reached, is no master, or refuses the login.
        """
        target = target or self.target
        await self._dialer.connect(address, connection)
        await greet(connection, target.credentials, target.db, name)

    @contextmanager
    def abort_unless_ready(self, connection: Connection) -> Iterator[None]:
        """Ends the connection if the block raises; then asks another sentinel next time."""
        try:
            yield
        except BaseException:
            connection.abort("it could not be made ready")
            if self._masters is not None:
                self._masters.doubt()
            raise
