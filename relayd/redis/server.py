"""One Redis, as relayd sees it: commands, publishing, subscriptions, availability.

Stands on `link`, `subscriptions` and `access`; `shards` has one for each URL. A server has two
connections to one process of Redis: one with subscriptions may do little else. Access lists must
allow, besides the commands and channels that relayd uses: PING, TIME, SUBSCRIBE, UNSUBSCRIBE. They
should allow ROLE, INFO and CLIENT SETNAME: without ROLE, a replica is detected only when it refuses
to write; without INFO, one address of two servers is not detected.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from relayd.errors import RedisUnanswered, RedisUnavailable
from relayd.logs import Logger
from relayd.redis.access import Access
from relayd.redis.commands import Script, Word, encoded, pack, pack_publish
from relayd.redis.connection import Connection, SubscriberConnection
from relayd.redis.evaluation import evaluate
from relayd.redis.greeting import log_in_anew
from relayd.redis.link import Link, Stats
from relayd.redis.renewal import renew
from relayd.redis.replies import RedisRefused, state_of
from relayd.redis.settings import Settings
from relayd.redis.store_clock import LATE
from relayd.redis.subscriptions import Receive, Subscriptions
from relayd.redis.urls import TCP, Target
from relayd.stores import states
from relayd.stores.health import Health
from relayd.stores.logins import Logins
from relayd.stores.states import State, Store
from relayd.tally import Buckets


class RedisServer:
    """One Redis.

    Nothing is queued for later: while Redis is unavailable, commands fail, publications are dropped
    and subscriptions are refused, all of them at once.

    Args:
        target: its address, from `urls.parse`.
        reactor: provides IReactorTCP, IReactorUNIX, IReactorTime and name resolution.
        settings: bounds and times.

    Attributes:
        name: distinguishes this shard from others.
        health: the state of the server.

    Raises:
        ConfigError: hiredis is missing, or the file with the authorities is wrong.
    """

    log = Logger()

    def __init__(self, target: Target, reactor: Any, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.name = target.name
        label = f"Redis {self.name}"
        self.health = Health(Store.REDIS, label, reactor, self.log, probe=self._probe)
        self._needs: Callable[[], Awaitable[None]] | None = None
        self._logins = Logins(label, reactor)
        self._clock = reactor
        self._settings = settings
        self._access = Access(target, reactor, settings, self._moved)
        self._stats, subscriber_stats = Stats(), Stats()
        self._both_stats = (self._stats, subscriber_stats)
        self._subscriptions = Subscriptions(self.name)
        self._commands = Link(
            self.dial, reactor, settings,
            up=lambda: self._link_up(self._commands, self._subscriber),
            down=self._link_down, stats=self._stats,
        )  # fmt: skip
        self._subscriber = Link(
            self._connect_subscriber, reactor, settings,
            up=lambda: self._link_up(self._subscriber, self._commands),
            down=self._subscriber_down, stats=subscriber_stats,
        )  # fmt: skip
        self._watchers: list[Callable[[bool], None]] = []
        self._waiters: list[Deferred[None]] = []
        self._available = False
        self._news: list[bool] = []
        self._stopping = False

    @property
    def available(self) -> bool:
        """Whether both connections are up and all wanted channels are subscribed."""
        return self._available

    @property
    def run_id(self) -> str | None:
        """The run id of the Redis process; None while it is away, or does not say."""
        connection = self._commands.connection
        known = connection is not None and connection.process != connection.label
        return connection.process if connection is not None and known else None

    @property
    def lineage(self) -> str:
        """Which history the data belongs to: run id and replication id; empty if unknown.

        A Redis that was restarted has another run id, and a promoted replica another replication
        id: each may have lost what its predecessor has confirmed.
        """
        run, connection = self.run_id, self._commands.connection
        if run is None or connection is None or not connection.replication:
            return ""
        return f"{run[:16]}:{connection.replication[:16]}"

    @property
    def round_trip(self) -> float | None:
        """Seconds the last ping of the connection for commands took; None before the first."""
        return self._stats.round_trip

    @property
    def round_trips(self) -> Buckets:
        """Seconds that the pings of the connection for commands took so far."""
        return self._stats.round_trips

    @property
    def reconnects(self) -> int:
        """How often a lost connection was made again, of both together."""
        return sum(stats.reconnects for stats in self._both_stats)

    def probe_with(self, needs: Callable[[], Awaitable[None]]) -> None:
        """Has `health` try what relayd needs, whenever that may have become possible again.

        Args:
            needs: does it; raises RedisUnavailable or RedisRefused.
        """
        self._needs = needs

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Registers a callback for each change of `available`.

        The callback gets False once for each outage, before any pending command fails, and True
        once for each recovery, when all wanted channels are subscribed again. All callbacks are
        notified of one change before any is notified of the next. Their exceptions are logged.
        """
        self._watchers.append(callback)

    def when_available(self) -> "Deferred[None]":
        """Fires when it is available, at once if it is now; may be cancelled."""
        waiter: Deferred[None] = Deferred(lambda waiter: self._waiters.remove(waiter))
        if self._available:
            waiter.callback(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def start(self) -> None:
        """Begins to connect; once only."""
        self._access.start()
        self._commands.start()
        self._subscriber.start()

    def log_in_anew(self, target: Target) -> None:
        """Uses another user or password for the same server, as soon as that takes them.

        Until then all goes on as before; an attempt that fails is made again.

        Args:
            target: as in the constructor, but for the credentials.
        """

        async def attempt() -> None:
            (await self.dial("relayd-login", target)).abort("it was tried")
            if self._subscriber.connection is not None:  # it takes no AUTH while it is subscribed
                links = (self._subscriber, self._commands, self._subscriptions)
                await renew(
                    await self._dial_subscriber(target), *links, self._settings, self._clock
                )

        def adopt() -> None:
            self._access.target = target
            if self._commands.connection is not None:
                log_in_anew(self._commands.connection, target.credentials)

        self._access.ask_sentinels_as(target)
        if target != self._access.target:
            self._logins.change(attempt, adopt)
        else:
            self._logins.stop()

    def stop(self) -> "Deferred[None]":
        """Ends it. The Deferred fires when both connections are closed."""
        self._stopping = True
        self.health.stop()
        self._logins.stop()
        self._access.stop()
        both = gatherResults([self._commands.stop(), self._subscriber.stop()])
        return both.addCallback(lambda _: None)

    async def call(self, *words: Word) -> Any:
        """Runs a command, such as `call("GET", key)`; not one that blocks or subscribes.

        Args:
            *words: the command and its arguments; text is UTF-8.

        Returns:
            The reply: bytes, int, None or a list of these.

        Raises:
            RedisUnavailable: Redis is unavailable or did not answer within the deadline, or too
                many commands are unanswered. Only if it is a RedisUnanswered, the command may have
                been executed.
            RedisRefused: Redis answered with an error.
        """
        connection = self._commands.connection
        if connection is None:
            raise RedisUnavailable(f"{self.name} is away")
        return await connection.call(pack(words))

    async def run(
        self, script: Script, keys: Iterable[Word] = (), args: Iterable[Word] = ()
    ) -> Any:
        """Runs a script; sends its text only if Redis does not have it.

        Args:
            script: what to run.
            keys: KEYS in the script.
            args: ARGV in the script.

        Returns:
            What the script returned, as `call`.

        Raises:
            RedisUnavailable: as `call`.
            RedisRefused: as `call`.
        """
        connection = self._commands.connection
        if connection is None:
            raise RedisUnavailable(f"{self.name} is away")
        return await evaluate(connection, script, tuple(keys), tuple(args))

    async def run_timely(
        self, script: Script, keys: Iterable[Word], args: Iterable[Word], seconds: float
    ) -> Any:
        """Runs a script that does nothing once its deadline has passed (`store_clock`).

        Args:
            script: made by `store_clock.timely`.
            keys: KEYS in the script.
            args: ARGV in the script, before the two of the window.
            seconds: until the deadline.

        Returns:
            What the script returned, as `call`.

        Raises:
            RedisUnanswered: the script was sent, and the connection or the time ended before the
                answer. It may have been carried out before its deadline, and will not be after it;
                `end` is that deadline.
            RedisUnavailable: as `call`, or the script came too late. Nothing was done.
            RedisRefused: as `call`.
        """
        keys, args, until = tuple(keys), tuple(args), self._clock.seconds() + seconds
        connection = self._commands.connection
        if connection is None:
            raise RedisUnavailable(f"{self.name} is away")
        for again in (True, False):
            now = self._clock.seconds()
            window = connection.store_clock.window(now, until - now)
            try:
                answer = await evaluate(connection, script, keys, (*args, *window))
            except RedisUnanswered as error:
                error.end = window[1]
                raise
            if answer != LATE:
                return answer
            if again and self._clock.seconds() < until:
                # its clock was set
                await connection.learn_time()
        raise RedisUnavailable(f"{self.name} carried the script out too late, so it did nothing")

    def publish(self, channel: bytes, payload: bytes) -> bool:
        """Publishes to a channel, without waiting for the reply.

        Returns:
            False if the payload was dropped, because Redis is unavailable or too many commands are
            unanswered.
        """
        connection = self._commands.connection
        return connection is not None and connection.send_unawaited(pack_publish(channel, payload))

    def subscribe(self, channel: str | bytes, receive: Receive) -> "Deferred[None]":
        """Calls `receive` with each message of a channel, until `unsubscribe`.

        The last call for a channel holds. A subscription is restored after an outage; messages
        published meanwhile are lost. Exceptions of `receive` are logged.

        Returns:
            A Deferred that fires when Redis has confirmed; messages come after that. It fails with
            RedisUnavailable if Redis is unavailable, full or too slow, and with RedisRefused if
            Redis refuses the channel; the channel then has no receiver. It fails with
            CancelledError if `unsubscribe` or another `subscribe` for the channel came first.
            Cancelling the Deferred unsubscribes.
        """
        return self._subscriptions.subscribe(encoded(channel), receive)

    def subscribe_later(self, channel: str | bytes, receive: Receive) -> None:
        """As `subscribe`, without waiting: messages come as soon as Redis is available."""
        self._subscriptions.subscribe_later(encoded(channel), receive)

    def unsubscribe(self, channel: str | bytes) -> None:
        """Ends the subscription of a channel, and removes its receiver."""
        self._subscriptions.unsubscribe(encoded(channel))

    async def dial(self, name: str = "relayd-commands", target: Target | None = None) -> Connection:
        """A connection for commands that its caller ends. Raises RedisUnavailable.

        Args:
            name: of the connection in CLIENT LIST.
            target: the credentials to use; those of this server if None.
        """
        address = await self._access.find()
        connection = Connection(str(address), self._clock, self._settings, self._refused)
        with self._access.abort_unless_ready(connection):
            await self._access.open(address, connection, name, target)
            await connection.learn_time()
        return connection

    async def _connect_subscriber(self) -> Connection:
        connection = await self._dial_subscriber()
        with self._access.abort_unless_ready(connection):
            await self._subscriptions.restore(connection)
        return connection

    async def _dial_subscriber(self, target: Target | None = None) -> SubscriberConnection:
        address = await self._access.find()
        receivers, own = self._subscriptions.receivers, (self._clock, self._settings)
        connection = SubscriberConnection(str(address), *own, receivers, self._refused)
        with self._access.abort_unless_ready(connection):
            await self._access.open(address, connection, "relayd-subscriber", target)
        return connection

    def _link_up(self, link: Link, other: Link) -> None:
        mine, theirs = link.connection, other.connection
        if mine is not None and theirs is not None and mine.process != theirs.process:
            theirs.abort("another Redis answers at its address now")
        self._update()

    def _link_down(self, reason: str) -> None:
        if not self._stopping:
            self.health.refused(states.find(Store.REDIS, None, reason) or State.AWAY, reason)
        self._update()

    def _refused(self, text: str) -> bool:
        """Notes an error reply; returns whether it is of the server's state."""
        state = state_of(text)
        if state is not None:
            self.health.refused(state, text)
        return state is not None

    async def _probe(self) -> bool:
        if not self._available:
            return False
        try:
            if self._needs is not None:
                await self._needs()
        except (RedisUnavailable, RedisRefused):
            return False  # `_refused` or `_link_down` has noted it
        return self._available

    def _subscriber_down(self, reason: str) -> None:
        self._subscriptions.lost()
        self._link_down(reason)

    def _moved(self, address: TCP) -> None:
        """The sentinels' watch has found a new master."""
        for link in (self._commands, self._subscriber):
            if link.connection is None or link.connection.label != str(address):
                link.redial(f"the master is {address} now")

    def _update(self) -> None:
        links = (self._commands, self._subscriber)
        available = all(link.connection is not None for link in links)
        if available == self._available:
            return
        self._available = available
        if available:
            if self.health.state is State.OK:
                self.log.info("Redis {name} is connected", name=self.name)
            self.health.ask_soon()
        self._news.append(available)
        if len(self._news) > 1:  # a callback caused it; the loop below, further up, goes on
            return
        while self._news:
            for callback in self._watchers:
                try:
                    callback(self._news[0])
                except Exception:
                    self.log.failure("Redis {name}: a callback failed", name=self.name)
            del self._news[0]
        if self._available:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)
