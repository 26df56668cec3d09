"""The parent of workers: accepts no clients, keeps the workers running, and forwards signals.

Sits above `roster`, which holds their states, and `control`; `assembly` builds it. `worker` lists
the descriptors and variables that a worker inherits.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from relayd import __version__
from relayd.config.current import Current
from relayd.control.listener import ControlSocket
from relayd.control.parent import Parent
from relayd.control.worker_metrics import WorkerFigures
from relayd.edge.handover import CANNOT
from relayd.edge.ports import Ports
from relayd.logs import Logger
from relayd.signals import forward_rotation
from relayd.storage.preparation import Preparation
from relayd.systemd import Condition, Lifecycle
from relayd.workers import VARIABLE
from relayd.workers.folder import Folder
from relayd.workers.roster import Entry, Roster
from relayd.workers.worker import (
    FIRST_SOCKET,
    FROM_PARENT,
    HANDOVER,
    HEARTBEAT_INTERVAL,
    TO_PARENT,
)

MARGIN = 5.0
"""Seconds that a worker may take to end, beyond the timeouts of its configuration."""


class Supervisor(Service):
    """The service that twistd runs in the parent.

    Args:
        reactor: provides IReactorCore, IReactorProcess and IReactorTime.
        current: holds the configuration, which the workers get at their start and after a reload.
        roster: the workers.
        command: returns the command line of a worker, by its number.
        end: ends the parent.
        lifecycle: is notified when the first worker serves, and when relayd stops.
        ports: are opened here and shared by the workers.
        preparation: prepares the database, if it is an embedded one.
        figures: sums the metrics of the workers.
        control: answers the operator's requests.
        control_socket: accepts the operator's connections.
        heartbeat_timeout: seconds without a heartbeat after which a worker is killed and started
            again; 0 for never.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        current: Current,
        roster: Roster,
        *,
        command: Callable[[int], list[str]],
        end: Callable[[], object],
        lifecycle: Lifecycle,
        ports: Ports,
        preparation: Preparation,
        figures: WorkerFigures,
        control: Parent,
        control_socket: ControlSocket,
        heartbeat_timeout: float = 0.0,
    ) -> None:
        self._reactor = reactor
        self._current = current
        self._roster = roster
        self._command = command
        self._end = end
        self._lifecycle = lifecycle
        self._ports = ports
        self._preparation = preparation
        self._figures = figures
        self._control = control
        self._control_socket = control_socket
        self._heartbeat_timeout = heartbeat_timeout
        self._failed: dict[int, int] = {}  # exit statuses, until a worker serves
        self._any_served = False
        self._stopping = False
        self._folder: Folder | None = None
        self._place_of_handover: dict[str, str] = {}
        self._waiting: list[Deferred[None]] = []
        self._watchdog = LoopingCall(self._kill_hung_workers)
        self._watchdog.clock = reactor
        current.watch_reloads(self._pass_on_configuration)

    def privilegedStartService(self) -> None:
        """Opens the ports, while the process may still be root.

        Raises:
            SystemExit: a port cannot be opened or shared; the text says which and why.
        """
        super().privilegedStartService()
        for description in self._current.config.endpoints:
            if description.partition(":")[0] not in ("tcp", "tcp6", "unix", "ssl"):
                raise SystemExit(
                    f"relayd: [server] workers cannot share {description}: they can share tcp:, "
                    "tcp6:, unix: and ssl: endpoints"
                )
        self._ports.open(_NoClients())

    def startService(self) -> None:
        """Prepares the embedded database, then starts the workers.

        Raises:
            SystemExit: the embedded database cannot be used; the text says why.
        """
        super().startService()
        self._preparation.prepare_embedded()
        if self._current.config.server.spread == "groups":
            try:
                self._folder = Folder.create(len(self._roster), os.environ)
            except OSError as error:
                self._log.warn(CANNOT, why=f"{error.filename}: {error.strerror}")
            else:
                self._place_of_handover = {HANDOVER: f"{len(self._roster)}:{self._folder.path}"}
        self._control_socket.open()
        self._figures.start()
        self._control.start()
        self._log.info(
            "relayd {version}: {count} workers share {places}",
            version=__version__,
            count=len(self._roster),
            places=", ".join(self._ports.places()),
        )
        forward_rotation(lambda number: self._signal(number, serving=True))
        for worker in self._roster:
            self._start(worker)
        if self._heartbeat_timeout:
            self._watchdog.start(HEARTBEAT_INTERVAL, now=False)

    def condition(self) -> Condition:
        """The number of connections and of serving workers, and the state of the service."""
        serving = len(self._roster.running(serving=True))
        connections = self._roster.connections()
        what = "Draining" if self._control.draining else "Serving"
        what = "Stopping" if self._stopping else what
        troubles = tuple(self._roster.troubles())
        what = ", ".join([what, *troubles])
        workers = f"{serving} of {len(self._roster)} workers"
        return Condition(connections, f"{what}: {connections} connections, {workers}", troubles)

    def stopService(self) -> "Deferred[None]":
        """Drains all workers; fires when all have ended, by a kill after the timeout."""
        super().stopService()
        self._stopping = True
        self._lifecycle.stopping()
        return Deferred.fromCoroutine(self._stop())

    def _configuration(self) -> bytes:
        """The configuration as a worker reads it: one line of JSON."""
        return msgspec.json.encode(self._current.config) + b"\n"

    def _pass_on_configuration(self) -> None:
        for worker in self._roster.running():
            with contextlib.suppress(KeyError):  # the worker is ending and its pipe is closed
                worker.process.writeToChild(FROM_PARENT, self._configuration())

    def _start(self, worker: Entry) -> None:
        worker.starting(self._reactor.seconds())
        sockets: dict[int, Any] = {
            descriptor: port.fileno()  # type: ignore[attr-defined]
            for descriptor, port in enumerate(self._ports, FIRST_SOCKET)
        }
        try:
            process = self._reactor.spawnProcess(
                _Child(self, worker, self._configuration()),
                sys.executable,
                [sys.executable, *self._command(worker.number)],
                env={**os.environ, **self._place_of_handover, VARIABLE: str(worker.number)},
                childFDs={0: 0, 1: 1, 2: 2, FROM_PARENT: "w", TO_PARENT: "r", **sockets},
            )
        except OSError as error:
            self._ended(worker, f"it could not be started: {error.strerror}", os.EX_OSERR)
        else:
            worker.started_as(process)
            self._log.info(
                "worker {number} is process {pid}", number=worker.number, pid=process.pid
            )

    def heartbeat(self, worker: Entry, connections: int, troubles: str) -> None:
        """Notes a heartbeat of a worker, with its connections and its stores' troubles."""
        if not worker.heartbeat(self._reactor.seconds(), connections, troubles):
            return
        self._log.info("worker {number} serves", number=worker.number)
        self._control.served(worker.number)
        if not self._any_served:
            self._any_served = True
            self._lifecycle.serving(self.condition)

    def _kill_hung_workers(self) -> None:
        """Kills workers whose reactor hangs: such a process serves no client and does not end."""
        now = self._reactor.seconds()
        for worker in self._roster:
            if worker.is_hung(now, self._heartbeat_timeout):
                self._log.error(
                    "worker {number} sent no heartbeat for {silent:.0f} s, so it is killed",
                    number=worker.number,
                    silent=now - worker.last_heartbeat,
                )
                worker.process.signalProcess(signal.SIGKILL)

    def exited(self, worker: Entry, reason: Any) -> None:
        """Handles the end of a worker's process.

        Args:
            worker: the worker.
            reason: `ProcessTerminated` or `ProcessDone` of twisted.internet.error.
        """
        how = f"exit status {reason.exitCode}"
        if reason.signal is not None:
            how = f"killed by {signal.Signals(reason.signal).name}"
        self._ended(worker, how, 1 if reason.exitCode is None else reason.exitCode)

    def _ended(self, worker: Entry, how: str, status: int) -> None:
        now = self._reactor.seconds()
        wait = worker.ended(now)
        if self._stopping:
            self._check_all_ended()
            return
        self._log.error(
            "worker {number} ended after {lived:.1f} s: {how}; starts again {when}",
            number=worker.number,
            lived=now - worker.started,
            how=how,
            when=f"in {wait:g} s" if wait else "at once",
        )
        if not self._any_served:
            self._failed[worker.number] = status
            if len(self._failed) == len(self._roster):
                self._give_up(how)
                return
        worker.restart_with(self._reactor.callLater(wait, self._start, worker))

    def _give_up(self, how: str) -> None:
        """Ends relayd, since no worker could be started."""
        self._log.critical("no worker can be started, so relayd ends; the last one: {how}", how=how)
        statuses = set(self._failed.values())
        status = statuses.pop() if len(statuses) == 1 else 1
        # twistd exits with 0 even if a service failed; an exit handler runs after it
        atexit.register(os._exit, status or 1)
        self._end()

    async def _stop(self) -> None:
        if self._watchdog.running:
            self._watchdog.stop()
        for worker in self._roster:
            worker.cancel_retry()
        self._signal(signal.SIGTERM)
        await self._ports.close()
        # a worker drains its clients, then waits for its database
        config = self._current.config
        timeout = config.server.drain_timeout + config.database.deadline + MARGIN
        try:
            await self._all_ended().addTimeout(timeout, self._reactor)
        except Exception:
            self._log.warn(
                "workers {numbers} did not end within {timeout:g} s, so they are killed",
                timeout=timeout,
                numbers=", ".join(str(worker.number) for worker in self._roster.running()),
            )
            self._signal(signal.SIGKILL)
            await self._all_ended()
        self._figures.stop()
        self._control.stop()
        await self._control_socket.close()
        if self._folder is not None:
            self._folder.remove()
        self._log.info("all workers have ended")

    def _signal(self, number: int, *, serving: bool = False) -> None:
        for worker in self._roster.running(serving=serving):
            # the process is not reaped yet, so its id cannot have been reused
            worker.process.signalProcess(number)

    def _all_ended(self) -> "Deferred[None]":
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        self._check_all_ended()
        return ended

    def _check_all_ended(self) -> None:
        if not self._roster.running():
            waiting, self._waiting = self._waiting, []
            for ended in waiting:
                ended.callback(None)


class _NoClients(Factory):
    """The factory of the parent's ports, which never accept a client."""

    noisy = False

    def logPrefix(self) -> str:
        return "relayd"


class _Child(ProcessProtocol):
    """The messages and the end of a worker."""

    transport: Any

    def __init__(self, supervisor: Supervisor, worker: Entry, config: bytes) -> None:
        self._supervisor = supervisor
        self._worker = worker
        self._config = config

    def connectionMade(self) -> None:
        self.transport.writeToChild(FROM_PARENT, self._config)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        parts = [line.partition(b" ") for line in data.split(b"\n")]
        if newest := [part for part in parts if part[0].isdigit()]:
            connections, _, troubles = newest[-1]
            self._supervisor.heartbeat(self._worker, int(connections), troubles.decode())

    def processExited(self, reason: Failure) -> None:
        self._supervisor.exited(self._worker, reason.value)
