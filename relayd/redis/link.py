"""Keeps one connection up: connects, pings, and reconnects with backoff after every failure.

Stands on `connection`; a server is a pair of links. Twisted's ClientService would leave a
connection open whose greeting failed, and cannot retry at once, so the loop is our own.
"""

import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from relayd.errors import RelaydError
from relayd.logs import Logger
from relayd.redis.commands import pack
from relayd.redis.connection import Connection
from relayd.redis.replies import RedisRefused, describe
from relayd.redis.settings import Settings
from relayd.tally import Buckets

Connect = Callable[[], Coroutine[Any, Any, Connection]]

_PING = pack(("PING",))


@dataclass
class Stats:
    """Counters that outlive a connection.

    Attributes:
        reconnects: how often a lost connection was made again.
        round_trip: seconds that the last ping took; None before the first.
        round_trips: seconds that all pings took.
    """

    reconnects: int = 0
    round_trip: float | None = None
    round_trips: Buckets = field(default_factory=Buckets)


class Link:
    """A connection that is restored after every failure.

    Args:
        connect: opens a connection that is ready for use. It is called again after any exception.
        clock: provides IReactorTime.
        settings: the delays and the interval of the pings.
        up: called when there is a connection.
        down: called with the reason when it is lost, and after each failed attempt.
        stats: where reconnects are counted, and round trips noted.

    Attributes:
        connection: the connection while there is one, else None.
    """

    log = Logger()

    def __init__(
        self,
        connect: Connect,
        clock: Any,
        settings: Settings,
        *,
        up: Callable[[], None],
        down: Callable[[str], None],
        stats: Stats,
    ) -> None:
        self.connection: Connection | None = None
        self._connect = connect
        self._clock = clock
        self._settings = settings
        self._up = up
        self._down = down
        self._stats = stats
        self._delay = settings.first_delay
        self._stopping = False
        self._hurry = False  # the next attempt follows at once
        self._connected_before = False
        self._waiting: Deferred[Any] | None = None  # the attempt or the pause
        self._gone: Deferred[None] = Deferred()
        self._ping_timer: Any = None

    def start(self) -> None:
        """Begins to connect; once only."""
        running: Deferred[None] = Deferred.fromCoroutine(self._run())
        running.addErrback(lambda failure: self.log.failure("a link broke", failure))

    def stop(self) -> "Deferred[None]":
        """Closes the connection after writing pending commands.

        Returns:
            A Deferred that fires when the connection is closed.
        """
        self._stopping = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self.connection is not None:
            return self.connection.close()
        closed: Deferred[None] = Deferred()
        closed.callback(None)
        return closed

    def redial(self, reason: str) -> None:
        """Ends the connection, the attempt or the pause, and connects at once."""
        if self.connection is not None:
            self._hurry = True
            self.connection.abort(reason)
        elif self._waiting is not None:
            self._hurry = True
            self._waiting.cancel()

    def succeed(self, connection: Connection) -> None:
        """Puts a connection that is up in the place of the one that is; the caller ends that."""
        self.connection = connection
        self._watch(connection)
        if self.connection is connection and self._ping_timer is None:  # the other's is under way
            self._ping()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                connection = await self._attempt()
                if connection is not None:
                    await self._serve(connection)
            except Exception:  # of a callback; the link goes on
                self.log.failure("a link failed")
            if not (self._hurry or self._stopping):
                await self._pause()
            if self._hurry:  # since before the pause, or in it
                self._hurry = False
                self._delay = self._settings.first_delay

    async def _attempt(self) -> Connection | None:
        attempt = self._waiting = Deferred.fromCoroutine(self._connect())
        try:
            connection = await attempt
            if not (self._hurry or self._stopping):
                return connection
            connection.abort("it is not wanted any more")
            return None
        except Exception as error:
            if self._hurry or self._stopping:
                return None
            if not isinstance(error, RelaydError):
                self.log.failure("connecting to Redis failed")
            reason = describe(error)
        finally:
            self._waiting = None
        self._down(reason)
        return None

    async def _serve(self, connection: Connection) -> None:
        """Returns when the connection has ended, and its successors."""
        since = self._clock.seconds()
        gone = self._gone = Deferred()
        self.connection = connection
        self._stats.reconnects += self._connected_before
        self._connected_before = True
        self._watch(connection)
        if self.connection is not None:
            self._ping()
            try:
                self._up()
            except BaseException:
                connection.abort("it could not be used")
                raise
        await gone
        # a connection that did not last counts as one more failed attempt
        if self._clock.seconds() - since > self._settings.longest_delay:
            self._delay = self._settings.first_delay

    def _watch(self, connection: Connection) -> None:
        def ended(reason: str) -> None:
            if self.connection is not connection:  # it has a successor
                return
            self.connection = None
            if self._ping_timer is not None:
                self._ping_timer.cancel()
                self._ping_timer = None
            try:
                self._down(reason)
            finally:
                self._gone.callback(None)

        # a callback: the connection may end during `up`, and `down` must follow at once
        connection.ended.addCallback(ended)

    async def _pause(self) -> None:
        delay = self._delay
        self._delay = min(2 * delay, self._settings.longest_delay)
        self._waiting = deferLater(self._clock, delay * random.uniform(0.5, 1.0))
        with contextlib.suppress(CancelledError):
            await self._waiting
        self._waiting = None

    def _ping(self) -> None:
        self._ping_timer = None
        connection = self.connection
        assert connection is not None
        sent = self._clock.seconds()

        def answered(_: object) -> None:
            self._stats.round_trip = self._clock.seconds() - sent
            self._stats.round_trips.observe(self._stats.round_trip)

        def failed(failure: Failure) -> None:
            if isinstance(failure.value, RedisRefused):
                connection.abort(str(failure.value))

        def again(_: None) -> None:
            if self.connection is connection:
                interval = self._settings.ping_interval
                self._ping_timer = self._clock.callLater(interval, self._ping)

        connection.refresh()
        connection.send(_PING).addCallbacks(answered, failed).addCallback(again)
