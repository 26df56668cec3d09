"""Finds the master: queries the sentinels in turn, and detects a failover.

Stands on `dial` and `greeting`; a server whose URL is `sentinel://` has one. Each attempt of a link
to connect queries a sentinel. One more connection queries every second, so a new master is found
even if the old one still answers; its own ROLE must confirm that it is a master.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from relayd.errors import RedisUnavailable
from relayd.logs import Logger
from relayd.redis.commands import pack
from relayd.redis.connection import Connection
from relayd.redis.dial import Dialer
from relayd.redis.greeting import greet, greet_sentinel
from relayd.redis.replies import RedisRefused
from relayd.redis.settings import Settings
from relayd.redis.urls import TCP, Sentinels

_NAME = "relayd-sentinel"


class Masters:
    """The master of one service.

    Args:
        target: the service and its sentinels.
        dialer: makes connections.
        clock: provides IReactorTime.
        settings: for the connections; the interval of the queries.
        moved: called with the address when another server has become the master.
    """

    log = Logger()

    def __init__(
        self,
        target: Sentinels,
        dialer: Dialer,
        clock: Any,
        settings: Settings,
        moved: Callable[[TCP], None],
    ) -> None:
        self._target = target
        self._dialer = dialer
        self._clock = clock
        self._settings = settings
        self._moved = moved
        self._question = pack(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.service))
        self._first = 0  # the sentinel that is asked first
        self._answered = 0  # the one that answered last
        self._found: TCP | None = None  # where the links were sent
        self._failures = 0  # of the watch, one after the other
        self._stopping = False
        self._watching: Deferred[None] | None = None

    def start(self) -> None:
        """Begins to watch; once only."""
        self._watching = Deferred.fromCoroutine(self._watch())

    def stop(self) -> None:
        """Ends the watch."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()

    def log_in_anew(self, target: Sentinels) -> None:
        """Uses the credentials of `target` for new connections."""
        self._target = target

    async def find(self) -> TCP:
        """Queries the sentinels until one names the master.

        Raises:
            RedisUnavailable: none of them does.
        """
        first, reason = self._first, ""
        for step in range(len(self._target.sentinels)):
            number = (first + step) % len(self._target.sentinels)
            try:
                connection = await self._open(number)
                try:
                    address = await self._ask(connection)
                finally:
                    connection.abort("it was asked")
            except RedisUnavailable as error:
                reason = str(error)
                continue
            self._first = self._answered = number
            self._found = address
            return address
        raise RedisUnavailable(reason)

    def doubt(self) -> None:
        """The last answer led to no usable master: queries another sentinel first next time."""
        if self._first == self._answered:
            self._first = (self._first + 1) % len(self._target.sentinels)

    async def _open(self, number: int) -> Connection:
        address = self._target.sentinels[number]
        connection = Connection(f"sentinel {address}", self._clock, self._settings)
        await self._dialer.connect(address, connection)
        try:
            await greet_sentinel(connection, self._target.sentinel_credentials, _NAME)
        except BaseException:
            connection.abort("it was of no use")
            raise
        return connection

    async def _ask(self, connection: Connection) -> TCP:
        try:
            answer = await connection.call(self._question)
        except RedisRefused as error:
            raise RedisUnavailable(f"{connection.label}: {error}") from error
        if answer is None:
            raise RedisUnavailable(f"{connection.label}: it knows no {self._target.service}")
        host, port = answer
        return TCP(host.decode(), int(port), self._target.tls, self._target.tls_name)

    async def _watch(self) -> None:
        number = 0
        while not self._stopping:
            try:
                await self._keep_asking(number)
            except CancelledError:
                return
            except Exception as error:
                if not isinstance(error, RedisUnavailable):
                    self.log.failure("watching {name} failed", name=self._target.name)
                self._note_failure(str(error))
            number = (number + 1) % len(self._target.sentinels)
            with contextlib.suppress(CancelledError):
                await deferLater(self._clock, self._settings.sentinel_interval)

    async def _keep_asking(self, number: int) -> None:
        """Queries one sentinel until it fails to answer. Raises RedisUnavailable then."""
        connection = await self._open(number)
        try:
            while True:
                address = await self._ask(connection)
                self._note_answer()
                if self._found not in (None, address) and await self._is_master(address):
                    self._first = self._answered = number
                    self._found = address
                    self._moved(address)
                await deferLater(self._clock, self._settings.sentinel_interval)
        finally:
            connection.abort("it is asked no more")

    async def _is_master(self, address: TCP) -> bool:
        connection = Connection(str(address), self._clock, self._settings)
        try:
            await self._dialer.connect(address, connection)
            await greet(connection, self._target.credentials, self._target.db, _NAME)
        except RedisUnavailable:
            return False
        finally:
            connection.abort("it was asked")
        return True

    def _note_failure(self, reason: str) -> None:
        self._failures += 1
        if self._failures == len(self._target.sentinels):
            self.log.warn(
                "no sentinel of {name} answers: {reason}", name=self._target.name, reason=reason
            )

    def _note_answer(self) -> None:
        if self._failures >= len(self._target.sentinels):
            self.log.info("the sentinels of {name} answer again", name=self._target.name)
        self._failures = 0
