"""The parent of workers: accepts nobody, keeps them running and passes signals on.

Sits above `roster`, which keeps what is known of them, and `control`; `assembly` makes it. What a
worker is given, and what it does with it, is in `worker`.
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
from relayd.signals import pass_on_rotation
from relayd.storage.preparation import Preparation
from relayd.systemd import Condition, Lifecycle
from relayd.workers import VARIABLE
from relayd.workers.folder import Folder
from relayd.workers.roster import Entry, Roster
from relayd.workers.worker import BEAT, FIRST_SOCKET, FROM_PARENT, HANDOVER, TO_PARENT

MARGIN = 5.0
"""Seconds that a worker may take to end, beyond what its configuration allows it for."""


class Supervisor(Service):
    """The service that twistd runs in the parent.

    Args:
        reactor: provides IReactorCore, IReactorProcess and IReactorTime.
        current: holds the configuration, which the workers are handed, also after each reload.
        roster: the workers.
        command: the command line of a worker, by its number.
        end: ends the parent.
        lifecycle: is told when the first worker serves, and when all of them are to end.
        ports: are opened here and shared by the workers.
        preparation: prepares the database, if it is an embedded one.
        figures: sums what the metrics show of the workers.
        control: answers the operator.
        control_socket: where the operator asks.
        silence: seconds after which a worker that gives no sign of life is killed, to be started
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
        silence: float = 0.0,
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
        self._silence = silence
        self._failed: dict[int, int] = {}  # exit statuses before any worker ever served
        self._any_served = False
        self._stopping = False
        self._folder: Folder | None = None
        self._place_of_handover: dict[str, str] = {}
        self._waiting: list[Deferred[None]] = []
        self._listening = LoopingCall(self._kill_the_silent)
        self._listening.clock = reactor
        current.watch(self._pass_on_configuration)

    def privilegedStartService(self) -> None:
        """Opens the ports, while the process may still be root.

        Raises:
            SystemExit: a port cannot be opened, or not be shared; the text says which and why.
        """
        super().privilegedStartService()
        for description in self._current.config.server.listen:
            if description.partition(":")[0] not in ("tcp", "tcp6", "unix", "ssl"):
                raise SystemExit(
                    f"relayd: [server] workers cannot share {description}: that works with tcp:, "
                    "tcp6:, unix: and ssl: endpoints"
                )
        self._ports.open(_Nobody())

    def startService(self) -> None:
        """Prepares the embedded database, then starts the workers.

        Raises:
            SystemExit: the embedded database cannot be used; the text says why.
        """
        super().startService()
        self._preparation.prepare_embedded()
        if self._current.config.server.spread == "groups":
            try:
                self._folder = Folder.make(len(self._roster), os.environ)
            except OSError as error:
                self._log.warn(CANNOT, why=f"{error.filename}: {error.strerror}")
            else:
                self._place_of_handover = {HANDOVER: f"{len(self._roster)}:{self._folder.path}"}
        self._control_socket.open()
        self._figures.start()
        self._log.info(
            "relayd {version}: {count} workers share {places}",
            version=__version__,
            count=len(self._roster),
            places=", ".join(self._ports.places()),
        )
        pass_on_rotation(lambda number: self._signal(number, serving=True))
        for worker in self._roster:
            self._start(worker)
        if self._silence:
            self._listening.start(BEAT, now=False)

    def condition(self) -> Condition:
        """How many workers serve how many clients, and whether more are let in."""
        serving = len(self._roster.running(serving=True))
        connections = self._roster.connections()
        what = "Draining" if self._control.draining else "Serving"
        what = "Stopping" if self._stopping else what
        workers = f"{serving} of {len(self._roster)} workers"
        return Condition(connections, f"{what}: {connections} connections, {workers}")

    def stopService(self) -> "Deferred[None]":
        """Has all workers drain; fires when they have ended, killed if they take too long."""
        super().stopService()
        self._stopping = True
        self._lifecycle.stopping()
        return Deferred.fromCoroutine(self._stop())

    def _configuration(self) -> bytes:
        """The configuration as a worker reads it: one line."""
        return msgspec.json.encode(self._current.config) + b"\n"

    def _pass_on_configuration(self) -> None:
        for worker in self._roster.running():
            with contextlib.suppress(KeyError):  # it is ending, its pipe closed
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
            worker.runs(process)
            self._log.info(
                "worker {number} is process {pid}", number=worker.number, pid=process.pid
            )

    def heard(self, worker: Entry, connections: int) -> None:
        """A worker serves, and has so many connections."""
        if not worker.gave_sign(self._reactor.seconds(), connections):
            return
        self._log.info("worker {number} serves", number=worker.number)
        self._control.served(worker.number)
        if not self._any_served:
            self._any_served = True
            self._lifecycle.serving(self.condition)

    def _kill_the_silent(self) -> None:
        """A worker whose reactor hangs serves nobody, but is not dead by itself."""
        now = self._reactor.seconds()
        for worker in self._roster:
            if worker.is_silent(now, self._silence):
                self._log.error(
                    "worker {number} gave no sign of life for {silent:.0f} s, so it is killed",
                    number=worker.number,
                    silent=now - worker.heard,
                )
                worker.process.signalProcess(signal.SIGKILL)

    def exited(self, worker: Entry, reason: Any) -> None:
        """The process of a worker has ended (twisted.internet.error.ProcessTerminated or Done)."""
        how = f"exit status {reason.exitCode}"
        if reason.signal is not None:
            how = f"killed by {signal.Signals(reason.signal).name}"
        self._ended(worker, how, 1 if reason.exitCode is None else reason.exitCode)

    def _ended(self, worker: Entry, how: str, status: int) -> None:
        now = self._reactor.seconds()
        wait = worker.ended(now)
        if self._stopping:
            self._note_gone()
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
        worker.waits_for(self._reactor.callLater(wait, self._start, worker))

    def _give_up(self, how: str) -> None:
        """No worker could be started at all."""
        self._log.critical("no worker can be started, so relayd ends; the last one: {how}", how=how)
        statuses = set(self._failed.values())
        status = statuses.pop() if len(statuses) == 1 else 1
        # twistd ends with 0 whatever happened to a service; an exit handler has the last word
        atexit.register(os._exit, status or 1)
        self._end()

    async def _stop(self) -> None:
        if self._listening.running:
            self._listening.stop()
        for worker in self._roster:
            worker.cancel_retry()
        self._signal(signal.SIGTERM)
        await self._ports.close()
        # what a worker's drain takes at the most: its clients, then its database
        config = self._current.config
        patience = config.server.drain_timeout + config.database.deadline + MARGIN
        try:
            await self._all_gone().addTimeout(patience, self._reactor)
        except Exception:
            self._log.warn(
                "killed, for not ending in {patience:g} s: workers {numbers}",
                patience=patience,
                numbers=", ".join(str(worker.number) for worker in self._roster.running()),
            )
            self._signal(signal.SIGKILL)
            await self._all_gone()
        self._figures.stop()
        await self._control_socket.close()
        if self._folder is not None:
            self._folder.remove()
        self._log.info("all workers have ended")

    def _signal(self, number: int, *, serving: bool = False) -> None:
        for worker in self._roster.running(serving=serving):
            # not reaped yet, so the id is still its own
            worker.process.signalProcess(number)

    def _all_gone(self) -> "Deferred[None]":
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        self._note_gone()
        return gone

    def _note_gone(self) -> None:
        if not self._roster.running():
            waiting, self._waiting = self._waiting, []
            for gone in waiting:
                gone.callback(None)


class _Nobody(Factory):
    """Behind the parent's ports, which accept nobody."""

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
        if newest := [line for line in data.split(b"\n") if line.isdigit()]:
            self._supervisor.heard(self._worker, int(newest[-1]))

    def processExited(self, reason: Failure) -> None:
        self._supervisor.exited(self._worker, reason.value)
