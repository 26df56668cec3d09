"""One running relayd: its parts in the order in which they start and stop.

Sits under `tap`, which makes the parts; above everything else. The service that twistd runs:
prepare the database, listen, and at the end drain: no new clients, 1012 to everyone, then the
stores.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from relayd import __version__, logs
from relayd.application import Application
from relayd.brokers.interface import Brokers
from relayd.cluster import Membership, Report
from relayd.config import Config
from relayd.config.reload import Reloader
from relayd.connection.context import Context
from relayd.connection.websocket import RelayFactory
from relayd.control import address
from relayd.control.listener import FOR_ITS_PARENT, ControlSocket
from relayd.control.process import ProcessControl
from relayd.control.site import ControlSite
from relayd.edge.frontdoor import FrontDoorFactory
from relayd.edge.handover import Handover
from relayd.edge.ports import describe, open_ports
from relayd.errors import CloseCode, DatabaseUnavailable
from relayd.hub import Hub
from relayd.logs import Logger
from relayd.metrics.registry import ProcessFigures
from relayd.redis.shards import Redis
from relayd.sockets.poller import Poller
from relayd.storage import samples, schema
from relayd.storage.pool import Database

_RETRY = 2.0
_GRACE = 0.5
"""Seconds that those who were accepted already have to say what they want, when relayd stops."""


class Node(Service):
    """The service that twistd runs.

    Args:
        reactor: where to listen.
        context: the configuration and what is known of the connections.
        database: closed last.
        door: the factory behind every listening port.
        brokers: what connects the clients, here and in other processes.
        poller: reads all connections.
        hub: whose groups are reported to the cluster.
        figures: for the metrics.
        redis: where the process is registered; None for one process alone.
        process: its unique id.
        worker: its number among those of one parent, or None.
        publisher: what the pages and the operator may ask for.
        relays: the factories of all connections.

    Attributes:
        listener: where the endpoints listen: the reactor, or who has inherited their sockets.
        handover: the way to the other workers of the same parent, if there is one.
        serving: called as soon as clients are let in.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        context: Context,
        database: Database,
        door: FrontDoorFactory,
        brokers: Brokers,
        *,
        poller: Poller,
        hub: Hub,
        figures: ProcessFigures,
        publisher: Application,
        relays: Iterable[RelayFactory],
        redis: Redis | None = None,
        process: str = "",
        worker: int | None = None,
    ) -> None:
        self.listener = reactor
        self.serving: Callable[[], object] = lambda: None
        self._reactor = reactor
        self._context = context
        self._publisher = publisher
        self._database = database
        self._door = door
        self._brokers = brokers
        self._hub = hub
        self._figures = figures
        self._redis = redis
        self._process = process
        self._worker = worker
        self._started = time.time()
        self._membership: Membership | None = None
        if redis is not None:
            prefix = context.config.redis.prefix
            self._membership = Membership(redis, reactor, prefix, self.report, process)
        self.handover: Handover | None = None
        self._poller = poller
        self._control = ProcessControl(
            context, hub, brokers.groups, publisher, relays, self.report, figures
        )
        self._control_socket = self._make_control_socket()
        self._ports: list[IListeningPort] = []
        self._preparing: Deferred[None] | None = None

    @property
    def _config(self) -> Config:
        return self._context.config

    def reload_with(self, reloader: Reloader) -> None:
        """Offers the operator to have the configuration read again."""
        self._control.reloader = reloader

    def take(self, config: Config) -> None:
        """Works with another configuration from now on; `reload` says which settings may change."""
        context = self._context
        if config.log.level != context.config.log.level:
            logs.set_level(config.log.level)
        context.config = context.admission.config = config
        context.keepalive.change(
            interval=config.keepalive.ping_interval, timeout=config.keepalive.pong_timeout
        )
        self._door.take(config)

    def privilegedStartService(self) -> None:
        """Opens the ports, while the process may still be root; nobody is accepted yet.

        Raises:
            SystemExit: a port cannot be opened; the text says which and why.
        """
        super().privilegedStartService()
        for port in open_ports(self.listener, self._config.server.listen, self._door):
            self._poller.watch(port)
            port.stopReading()  # type: ignore[attr-defined]
            self._ports.append(port)

    def startService(self) -> None:
        """Prepares the database and says where to go.

        An embedded database is ready before the first client, and so is Redis, if it answers
        within its deadline. A server that is away is waited for in the background, while what
        does not need it works.

        Raises:
            SystemExit: the embedded database cannot be used; the text says why.
        """
        super().startService()
        self._context.keepalive.start()
        self._figures.start()
        self._poller.start()
        self._brokers.start()
        prepare_file(self._config)
        if self._config.database.migrate and self._database.dialect != "sqlite":
            self._preparing = Deferred.fromCoroutine(self._prepare_until_done())
        if self._membership is not None:
            self._membership.start()
        self._announce()
        self._control.start()
        self._control_socket.open()
        self._control.place = str(self._control_socket.path or "")
        self._reactor.callWhenRunning(Deferred.fromCoroutine, self._let_in())

    async def _let_in(self) -> None:
        """Accepts clients: who comes while Redis is being connected waits, and is not refused."""
        if self._redis is not None:
            with contextlib.suppress(defer.TimeoutError):
                await self._redis.when_available().addTimeout(
                    self._config.redis.deadline, self._context.clock
                )
        if self.running:
            if self.handover is not None:
                self.handover.start(self._ports)
                self._door.give = self.handover.give
            for port in self._ports:
                port.startReading()  # type: ignore[attr-defined]
            self.serving()

    def stopService(self) -> "Deferred[None]":
        """Drains; fires when every client is gone, or after `drain_timeout`, and all is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        context = self._context
        context.admission.stopping = True
        self._log.info("stopping: {count} connections to close", count=len(context.connections))
        if self._preparing is not None:
            self._preparing.cancel()
        if self._membership is not None:
            self._membership.tell()
        if self.handover is not None:
            self.handover.stop()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self._ports.clear()
        # a client that was accepted a moment ago is let in and told to come again, not refused
        with contextlib.suppress(defer.TimeoutError):
            await Deferred.fromCoroutine(self._settle()).addTimeout(_GRACE, context.clock)
        context.admission.draining = True
        context.connections.close_all(CloseCode.RESTART)
        gone = context.connections.all_gone()
        gone.addTimeout(self._config.server.drain_timeout, context.clock)
        try:
            await gone
        except Exception:
            self._log.warn("{count} did not go, dropped", count=len(context.connections))
            context.connections.abort_all()
        context.keepalive.stop()
        self._figures.stop()
        if self._membership is not None:
            await self._membership.stop()
        await self._brokers.stop()
        await self._database.close()
        self._control.stop()
        await self._control_socket.close()
        # answers to requests that waited for the database are written now
        await deferLater(context.clock, 0)
        self._poller.stop()

    async def _settle(self) -> None:
        await self._door.settled()
        await self._context.connections.all_arrived()
        await deferLater(self._context.clock, 0)  # the last answer is on its way then

    def connections(self) -> int:
        """How many WebSockets are open."""
        return len(self._context.connections)

    def status(self) -> str:
        """One sentence: how many are served."""
        what = "Draining" if self._publisher.draining else "Serving"
        what = what if self.running else "Stopping"
        return f"{what}: {self.connections()} connections"

    def _make_control_socket(self) -> ControlSocket:
        place = address.find_place(self._config, os.environ)
        worker = self._worker
        site = ControlSite(self._control, self._reactor, logs=worker is None)
        if place is None or worker is None:
            return ControlSocket(self._reactor, place, site)
        # only its parent asks a worker, and the place is the worker's, whoever was there before
        place = address.of_worker(place, worker)
        return ControlSocket(self._reactor, place, site, mode=FOR_ITS_PARENT, takes_over=True)

    def report(self) -> Report:
        """What the cluster is told of this process now."""
        trips = [server.round_trip for server in self._redis.servers] if self._redis else []
        return Report(
            id=self._process,
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            worker=self._worker,
            started=self._started,
            listen=[describe(port) for port in self._ports],
            connections=self._context.connections.counts(),
            groups=len(self._hub),
            delivered=self._hub.delivered,
            drops=self._context.drops.counts(),
            redis_round_trip=max((trip for trip in trips if trip is not None), default=None),
            draining=self._publisher.draining,
            clock=time.time(),
        )

    def _in_thread(self, work: Callable[[], None]) -> "Deferred[None]":
        """Runs something in a thread that does not keep the process, however long it hangs."""
        done: Deferred[None] = Deferred()

        def run() -> None:
            try:
                work()
            except BaseException:
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, None)

        threading.Thread(target=run, name="schema", daemon=True).start()
        return done

    async def _prepare_until_done(self) -> None:
        said = ""
        while True:
            try:
                await self._in_thread(lambda: _prepare(self._config))
            except CancelledError:
                return
            except DatabaseUnavailable as error:
                if str(error) != said:  # each reason once, not at each attempt
                    said = str(error)
                    self._log.warn("the database is away: {why}; trying again", why=said)
            except schema.SchemaError as error:
                self._log.error("the schema could not be brought up to date: {why}", why=str(error))
                return
            except Exception:
                self._log.failure("bringing the schema up to date failed")
                return
            else:
                return
            try:
                await deferLater(self._context.clock, _RETRY)
            except CancelledError:
                return

    def _announce(self) -> None:
        places = [describe(port) for port in self._ports]
        self._log.info(
            "relayd {version} listens on {places}", version=__version__, places=", ".join(places)
        )
        pages = [place for place in places if place.startswith("http")]
        if pages:
            self._log.info("open {page}/ in a browser", page=pages[0])
        config = self._config
        self._log.info(
            "database: {dialect}; Redis: {redis}; echo: {echo}; HTTP API: {api}; tokens: {tokens}",
            dialect=self._database.dialect,
            redis="on" if config.redis.url else "off",
            echo="on" if config.echo.enabled else "off",
            api="on" if config.api.key else "off",
            tokens="required" if config.auth.required else "known" if config.auth.secret else "off",
        )


def prepare_file(config: Config) -> None:
    """Makes the embedded database ready, if there is one. Blocks.

    Raises:
        SystemExit: it cannot be used; the text says why.
    """
    if not config.database.migrate or config.database.url.startswith("postgres"):
        return
    try:
        _prepare(config)
    except (DatabaseUnavailable, schema.SchemaError) as error:
        raise SystemExit(f"relayd: {error}") from error


def _prepare(config: Config) -> None:
    """Brings the schema up to date, with samples if the database is ours and empty. Blocks."""
    applied = schema.migrate(config.database.url)
    for name in applied:
        Node._log.info("migrated the database: {name}", name=name)
    newer = [step.id for step in schema.status(config.database.url) if not step.known]
    if newer:
        Node._log.warn(
            "the database was migrated by a newer relayd: {names}; `relayctl db rollback` of that "
            "one takes it back",
            names=", ".join(newer),
        )
    ours = not config.database.url
    if ours and config.database.samples and samples.add_samples(""):
        Node._log.info("the database was empty; it has sample quizzes and actions now")
