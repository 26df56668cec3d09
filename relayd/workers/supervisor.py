"""`[server] workers`: a parent that opens the ports, and worker processes that share them.

The parent's side: it accepts nobody, keeps the workers running and passes signals on. Sits under
`tap`. What a worker is given, and what it does with it, is in `worker`.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from relayd import __version__, logs
from relayd.config import Config
from relayd.config.reload import Reloader
from relayd.control import address
from relayd.control.listener import ControlSocket
from relayd.control.parent import Parent
from relayd.control.site import ControlSite
from relayd.control.worker_metrics import WorkerFigures, Workers, ask_through
from relayd.edge.handover import CANNOT
from relayd.edge.ports import describe, open_ports
from relayd.logs import Logger
from relayd.node import prepare_file
from relayd.workers.folder import Folder
from relayd.workers.worker import BEAT, FIRST_SOCKET, FROM_PARENT, HANDOVER, TO_PARENT, VARIABLE

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a worker that keeps dying is started for the third time, and at the most."""
STEADY = 10.0
"""Seconds that a worker has to serve until its next death counts as its first."""
MARGIN = 5.0
"""Seconds that a worker may take to end, beyond what its configuration allows it for."""


def count(workers: int | str) -> int:
    """How many `[server] workers` are: "auto" is one for each core that we may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)


class _Worker:
    """What the parent knows of one worker."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Any = None  # IProcessTransport while it runs
        self.started = 0.0
        self.serving: float | None = None  # since when
        self.heard = 0.0  # when it gave its last sign of life
        self.connections = 0  # what it said then
        self.starts = 0
        self.delay = 0.0
        self.retry: IDelayedCall | None = None


class Supervisor(Service):
    """The service that twistd runs in the parent.

    Args:
        reactor: provides IReactorCore, IReactorProcess, IReactorTime and whatever the endpoints
            need.
        config: handed to the workers.
        command: the command line of a worker, by its number.
        end: ends the parent.

    Attributes:
        listener: where the endpoints listen: the reactor, or who has inherited their sockets.
        first_serves: called when the first worker serves.
        silence: seconds after which a worker that gives no sign of life is killed, to be started
            again; 0 for never.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: Config,
        command: Callable[[int], list[str]],
        end: Callable[[], object],
    ) -> None:
        self.listener = reactor
        self.first_serves: Callable[[], object] = lambda: None
        self.silence = 0.0
        self._reactor = reactor
        self._config = config
        self._command = command
        self._end = end
        self._workers = [_Worker(number) for number in range(1, count(config.server.workers) + 1)]
        self._ports: list[IListeningPort] = []
        self._failed: dict[int, int] = {}  # exit statuses before any worker ever served
        self._any_served = False
        self._stopping = False
        self._place = address.find_place(config, os.environ)
        paths: dict[int, Path] = {}
        if self._place is not None:
            for worker in self._workers:
                paths[worker.number] = address.of_worker(self._place, worker.number).path
        self._figures = WorkerFigures(reactor, ask_through(reactor, paths), self._count_workers)
        self._control = Parent(reactor, paths, self._figures)
        self._control_socket = ControlSocket(
            reactor, self._place, ControlSite(self._control, reactor), beside=paths.values()
        )
        self._folder: Folder | None = None
        self._place_of_handover: dict[str, str] = {}
        self._waiting: list[Deferred[None]] = []
        self._listening = LoopingCall(self._kill_the_silent)
        self._listening.clock = reactor

    def privilegedStartService(self) -> None:
        """Opens the ports, while the process may still be root.

        Raises:
            SystemExit: a port cannot be opened, or not be shared; the text says which and why.
        """
        super().privilegedStartService()
        descriptions = self._config.server.listen
        for description in descriptions:
            if description.partition(":")[0] not in ("tcp", "tcp6", "unix", "ssl"):
                raise SystemExit(
                    f"relayd: [server] workers cannot share {description}: that works with tcp:, "
                    "tcp6:, unix: and ssl: endpoints"
                )
        for port in open_ports(self.listener, descriptions, _Nobody()):
            port.stopReading()  # type: ignore[attr-defined]
            # it would end the socket for the workers, too, before they say goodbye
            port._shouldShutdown = False  # type: ignore[attr-defined]
            self._ports.append(port)

    def startService(self) -> None:
        """Prepares the embedded database, then starts the workers.

        Raises:
            SystemExit: the embedded database cannot be used; the text says why.
        """
        super().startService()
        prepare_file(self._config)
        if self._config.server.spread == "groups":
            try:
                self._folder = Folder.make(len(self._workers), os.environ)
            except OSError as error:
                self._log.warn(CANNOT, why=f"{error.filename}: {error.strerror}")
            else:
                self._place_of_handover = {HANDOVER: f"{len(self._workers)}:{self._folder.path}"}
        self._control_socket.open()
        self._figures.start()
        self._log.info(
            "relayd {version}: {count} workers share {places}",
            version=__version__,
            count=len(self._workers),
            places=", ".join(map(describe, self._ports)),
        )
        self._pass_on_rotation()
        for worker in self._workers:
            self._start(worker)
        if self.silence:
            self._listening.start(BEAT, now=False)

    def reload_with(self, reloader: Reloader) -> None:
        """Offers the operator to have the configuration read again, for all workers."""
        self._control.reloader = reloader

    def take(self, config: Config) -> None:
        """Has all workers work with another configuration (`reload`), also those yet to come."""
        if config.log.level != self._config.log.level:
            logs.set_level(config.log.level)
        self._config = config
        for worker in self._workers:
            if worker.process is not None:
                with contextlib.suppress(KeyError):  # it is ending, its pipe closed
                    worker.process.writeToChild(FROM_PARENT, msgspec.json.encode(config) + b"\n")

    def status(self) -> str:
        """One sentence: how many serve whom."""
        serving = [worker for worker in self._workers if worker.serving is not None]
        connections = sum(worker.connections for worker in serving)
        what = "Draining" if self._control.draining else "Serving"
        what = "Stopping" if self._stopping else what
        workers = f"{len(serving)} of {len(self._workers)} workers"
        return f"{what}: {connections} connections, {workers}"

    def _count_workers(self) -> Workers:
        return Workers(
            configured=len(self._workers),
            serving={each.number for each in self._workers if each.serving is not None},
            restarts=sum(max(0, worker.starts - 1) for worker in self._workers),
        )

    def stopService(self) -> "Deferred[None]":
        """Has all workers drain; fires when they have ended, killed if they take too long."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def _start(self, worker: _Worker) -> None:
        worker.retry = None
        worker.starts += 1
        worker.started = self._reactor.seconds()
        sockets: dict[int, Any] = {
            descriptor: port.fileno()  # type: ignore[attr-defined]
            for descriptor, port in enumerate(self._ports, FIRST_SOCKET)
        }
        try:
            worker.process = self._reactor.spawnProcess(
                _Child(self, worker, msgspec.json.encode(self._config) + b"\n"),
                sys.executable,
                [sys.executable, *self._command(worker.number)],
                env={**os.environ, **self._place_of_handover, VARIABLE: str(worker.number)},
                childFDs={0: 0, 1: 1, 2: 2, FROM_PARENT: "w", TO_PARENT: "r", **sockets},
            )
        except OSError as error:
            self._ended(worker, f"it could not be started: {error.strerror}", os.EX_OSERR)
        else:
            pid = worker.process.pid
            self._log.info("worker {number} is process {pid}", number=worker.number, pid=pid)

    def heard(self, worker: _Worker, connections: int) -> None:
        """A worker serves, and has so many connections."""
        worker.heard = self._reactor.seconds()
        worker.connections = connections
        if worker.serving is not None:
            return
        worker.serving = worker.heard
        self._log.info("worker {number} serves", number=worker.number)
        self._control.served(worker.number)
        if not self._any_served:
            self._any_served = True
            self.first_serves()

    def _kill_the_silent(self) -> None:
        """A worker whose reactor hangs serves nobody, but is not dead by itself."""
        for worker in self._workers:
            silent = self._reactor.seconds() - worker.heard
            if worker.process is not None and worker.serving is not None and silent > self.silence:
                self._log.error(
                    "worker {number} gave no sign of life for {silent:.0f} s, so it is killed",
                    number=worker.number,
                    silent=silent,
                )
                worker.process.signalProcess(signal.SIGKILL)

    def exited(self, worker: _Worker, reason: Any) -> None:
        """The process of a worker has ended (twisted.internet.error.ProcessTerminated or Done)."""
        how = f"exit status {reason.exitCode}"
        if reason.signal is not None:
            how = f"killed by {signal.Signals(reason.signal).name}"
        self._ended(worker, how, 1 if reason.exitCode is None else reason.exitCode)

    def _ended(self, worker: _Worker, how: str, status: int) -> None:
        worker.process = None
        if self._stopping:
            self._note_gone()
            return
        now = self._reactor.seconds()
        if worker.serving is not None and now - worker.serving >= STEADY:
            worker.delay = 0.0
        worker.serving = None
        wait, worker.delay = worker.delay, min(2 * worker.delay or FIRST_DELAY, LONGEST_DELAY)
        self._log.error(
            "worker {number} ended after {lived:.1f} s: {how}; starts again {when}",
            number=worker.number,
            lived=now - worker.started,
            how=how,
            when=f"in {wait:g} s" if wait else "at once",
        )
        if not self._any_served:
            self._failed[worker.number] = status
            if len(self._failed) == len(self._workers):
                self._give_up(how)
                return
        worker.retry = self._reactor.callLater(wait, self._start, worker)

    def _give_up(self, how: str) -> None:
        """No worker could be started at all."""
        self._log.critical("no worker can be started, so relayd ends; the last one: {how}", how=how)
        statuses = set(self._failed.values())
        status = statuses.pop() if len(statuses) == 1 else 1
        # twistd ends with 0 whatever happened to a service; an exit handler has the last word
        atexit.register(os._exit, status or 1)
        self._end()

    async def _stop(self) -> None:
        self._stopping = True
        if self._listening.running:
            self._listening.stop()
        for worker in self._workers:
            if worker.retry is not None:
                worker.retry.cancel()
                worker.retry = None
        self._signal(signal.SIGTERM)
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self._ports.clear()
        # what a worker's drain takes at the most: its clients, then its database
        patience = self._config.server.drain_timeout + self._config.database.deadline + MARGIN
        try:
            await self._all_gone().addTimeout(patience, self._reactor)
        except Exception:
            left = [worker for worker in self._workers if worker.process is not None]
            self._log.warn(
                "killed, for not ending in {patience:g} s: workers {numbers}",
                patience=patience,
                numbers=", ".join(str(worker.number) for worker in left),
            )
            self._signal(signal.SIGKILL)
            await self._all_gone()
        self._figures.stop()
        await self._control_socket.close()
        if self._folder is not None:
            self._folder.remove()
        self._log.info("all workers have ended")

    def _signal(self, number: int, *, serving: bool = False) -> None:
        for worker in self._workers:
            if worker.process is not None and (not serving or worker.serving is not None):
                # not reaped yet, so the id is still its own
                worker.process.signalProcess(number)

    def _all_gone(self) -> "Deferred[None]":
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        self._note_gone()
        return gone

    def _note_gone(self) -> None:
        if all(worker.process is None for worker in self._workers):
            waiting, self._waiting = self._waiting, []
            for gone in waiting:
                gone.callback(None)

    def _pass_on_rotation(self) -> None:
        """Has the workers begin new log files when twistd does, at SIGUSR1."""
        rotate = signal.getsignal(signal.SIGUSR1)
        if not callable(rotate):
            return

        def rotate_all(number: int, frame: Any) -> None:
            rotate(number, frame)
            self._signal(number, serving=True)

        signal.signal(signal.SIGUSR1, rotate_all)


class _Nobody(Factory):
    """Behind the parent's ports, which accept nobody."""

    noisy = False

    def logPrefix(self) -> str:
        return "relayd"


class _Child(ProcessProtocol):
    """What comes from a worker."""

    transport: Any

    def __init__(self, supervisor: Supervisor, worker: _Worker, config: bytes) -> None:
        self._supervisor = supervisor
        self._worker = worker
        self._config = config

    def connectionMade(self) -> None:
        self.transport.writeToChild(FROM_PARENT, self._config)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if newest := [line for line in data.split(b"\n") if line.isdigit()]:
            self._supervisor.heard(self._worker, int(newest[-1]))

    def processExited(self, reason: Failure) -> None:
        self._supervisor.exited(self._worker, reason.value)
