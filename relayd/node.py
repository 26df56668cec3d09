"""The life of one process: start, listen, drain, stop.

Sits above the parts, which `assembly` builds. The service that twistd runs prepares the database,
listens, and drains at the end: it stops admission, sends 1001 to all clients, closes the stores.
"""

import contextlib
import gc
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from relayd import __version__
from relayd.brokers.interface import Brokers
from relayd.close_codes import CloseCode
from relayd.cluster import Membership
from relayd.connection.context import Context
from relayd.control.listener import ControlSocket
from relayd.control.process import ProcessControl
from relayd.edge.frontdoor import FrontDoorFactory
from relayd.edge.handover import Handover
from relayd.edge.ports import Ports
from relayd.edge.seats import count_files
from relayd.logs import Logger
from relayd.metrics.registry import ProcessFigures
from relayd.redis.shards import Redis
from relayd.sockets.poller import Poller
from relayd.storage.pool import Database
from relayd.storage.preparation import Preparation
from relayd.stores.states import State
from relayd.systemd import Condition, Lifecycle
from relayd.tls.served import Certificates

_GRACE = 0.5
"""On shutdown, how long accepted connections have to send their request head, in seconds."""


class Node(Service):
    """The service that twistd runs.

    Args:
        reactor: provides IReactorCore and IReactorTime.
        context: the configuration, admission and the registry of connections.
        lifecycle: is notified when clients are admitted, and when the process stops.
        poller: reads all connections.
        ports: are opened first.
        certificates: of the ports; their files are watched.
        door: the factory behind every port.
        handover: hands connections to the other workers of the same parent; None without them.
        preparation: prepares the database.
        database: closed last.
        brokers: connect the clients, here and in other processes.
        redis: is connected before clients are admitted; None for one process alone.
        membership: registers the process in Redis; None without Redis.
        figures: for the metrics.
        control: answers the operator's requests.
        control_socket: accepts the operator's connections.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        context: Context,
        lifecycle: Lifecycle,
        poller: Poller,
        ports: Ports,
        certificates: Certificates,
        door: FrontDoorFactory,
        handover: Handover | None,
        preparation: Preparation,
        database: Database,
        brokers: Brokers,
        redis: Redis | None,
        membership: Membership | None,
        figures: ProcessFigures,
        control: ProcessControl,
        control_socket: ControlSocket,
    ) -> None:
        self._reactor = reactor
        self._context = context
        self._lifecycle = lifecycle
        self._poller = poller
        self._ports = ports
        self._certificates = certificates
        self._door = door
        self._handover = handover
        self._preparation = preparation
        self._database = database
        self._brokers = brokers
        self._redis = redis
        self._membership = membership
        self._figures = figures
        self._control = control
        self._control_socket = control_socket

    def privilegedStartService(self) -> None:
        """Opens the ports, while the process may still be root; no client is accepted yet.

        Raises:
            SystemExit: a port cannot be opened; the text says which and why.
        """
        super().privilegedStartService()
        self._ports.open(self._door)

    def startService(self) -> None:
        """Prepares the database and starts the parts.

        An embedded database is ready before the first client, and so is Redis, if it answers
        within its deadline. An unavailable server is retried in the background; paths that do not
        need it work meanwhile.

        Raises:
            SystemExit: the embedded database cannot be used; the text says why.
        """
        super().startService()
        self._context.keepalive.start()
        self._figures.start()
        self._certificates.start()
        self._poller.start()
        self._brokers.start()
        sessions = self._context.admission.sessions
        if sessions is not None:
            sessions.start()
        self._preparation.start()
        if self._membership is not None:
            self._membership.start()
        self._log_start()
        self._control.start()
        self._control_socket.open()
        self._reactor.callWhenRunning(Deferred.fromCoroutine, self._accept())

    async def _accept(self) -> None:
        """Accepts clients once Redis is connected; earlier ones wait in the listen queue."""
        if self._redis is not None:
            deadline = self._context.current.config.redis.deadline
            with contextlib.suppress(defer.TimeoutError):
                await self._redis.when_available().addTimeout(deadline, self._reactor)
        if self.running:
            if self._handover is not None:
                self._handover.start()
            # modules and classes stay, and would make a full collection take 50 ms in a storm
            # (docs/decisions/0008-entrance.md)
            gc.collect()
            gc.freeze()
            self._context.seats.measure(*count_files())
            self._ports.accept()
            self._lifecycle.serving(self.condition)

    def stopService(self) -> "Deferred[None]":
        """Drains; fires when all connections have ended and all parts are stopped.

        Clients that are still connected after `drain_timeout` are dropped.
        """
        super().stopService()
        self._lifecycle.stopping()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        await self._stop_accepting()
        await self._close_connections()
        await self._stop_parts()

    async def _stop_accepting(self) -> None:
        """Closes the ports; connections that are already accepted get an answer."""
        context = self._context
        context.admission.stop()
        self._log.info("stopping: {count} connections to close", count=len(context.connections))
        self._preparation.stop()
        if self._membership is not None:
            self._membership.report_now()
        if self._handover is not None:
            self._handover.stop()
        await self._ports.close()
        # a client in its handshake is admitted, so that it gets 1001 (reconnect) and no refusal
        with contextlib.suppress(defer.TimeoutError):
            await Deferred.fromCoroutine(self._settle()).addTimeout(_GRACE, self._reactor)
        context.admission.drain()

    async def _settle(self) -> None:
        await self._door.settled()
        await self._context.connections.all_arrived()
        await deferLater(self._reactor, 0)  # the last answer is written by then

    async def _close_connections(self) -> None:
        """Closes all connections; drops those that are still open after `drain_timeout`."""
        connections = self._context.connections
        connections.close_all(CloseCode.RESTART)
        timeout = self._context.current.config.server.drain_timeout
        try:
            await connections.all_gone().addTimeout(timeout, self._reactor)
        except Exception:
            self._log.warn(
                "{count} connections did not close within drain_timeout, so they are dropped",
                count=len(connections),
            )
            connections.abort_all()

    async def _stop_parts(self) -> None:
        self._context.keepalive.stop()
        self._figures.stop()
        self._certificates.stop()
        if self._membership is not None:
            await self._membership.stop()
        await self._brokers.stop()
        await self._database.close()
        if (sessions := self._context.admission.sessions) is not None:
            await sessions.stop()
        self._control.stop()
        await self._control_socket.close()
        # answers to requests that waited for the database are written now
        await deferLater(self._reactor, 0)
        self._poller.stop()

    def condition(self) -> Condition:
        """The number of connections, and the state of the service."""
        count = len(self._context.connections)
        what = "Draining" if self._context.admission.draining else "Serving"
        what = what if self.running else "Stopping"
        troubles = []
        if self._database.health.state is not State.OK:
            troubles.append(f"database {self._database.health.state.words}")
        if self._redis is not None and (trouble := self._redis.trouble) is not None:
            troubles.append(f"Redis {trouble.state.words}")
        sentence = f"{', '.join([what, *troubles])}: {count} connections"
        return Condition(count, sentence, tuple(troubles))

    def _log_start(self) -> None:
        places = self._ports.places()
        self._log.info(
            "relayd {version} listens on {places}", version=__version__, places=", ".join(places)
        )
        pages = [place for place in places if place.startswith("http")]
        if pages:
            self._log.info("open {page}/ in a browser", page=pages[0])
        config = self._context.current.config
        self._log.info(
            "database: {dialect}; Redis: {redis}; echo: {echo}; HTTP API: {api}; tokens: {tokens}",
            dialect=self._database.dialect,
            redis="on" if config.redis.url else "off",
            echo="on" if config.echo.enabled else "off",
            api="on" if config.api.key else "off",
            tokens="required"
            if config.auth.required
            else "known"
            if config.auth.has_keys
            else "off",
        )
