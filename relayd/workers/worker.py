"""One of the processes of `[server] workers`: its inheritance and its pipes to the parent.

A worker is a `twistd relayd` like any other. `tap` reads the inheritance, `assembly` wires it.
Its parent (`supervisor`) passes

    VARIABLE           its number, in the environment
    HANDOVER           the number of workers, a colon, and the folder of `handover`, in the
                       environment; absent if workers do not hand connections to each other
    FROM_PARENT        a pipe: the configuration (JSON, one line), another after each reload
    TO_PARENT          a pipe: the heartbeats of the worker, a line every 5 seconds from the moment
                       when it serves, with the number of its connections
    FIRST_SOCKET ...   the listening sockets, in the order of [server] listen

A worker drains and ends when its parent has ended for any reason.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.config import Config
from relayd.config.current import Current
from relayd.edge.handover import CANNOT, Handover
from relayd.edge.ports import Inherited, Ports
from relayd.logs import Logger
from relayd.logs.lines import TextLines
from relayd.relays.paths import KINDS
from relayd.sockets.entrance import Entrance
from relayd.systemd import Condition
from relayd.workers import VARIABLE

HANDOVER = "_RELAYD_HANDOVER"
FROM_PARENT, TO_PARENT, FIRST_SOCKET = 3, 4, 5  # file descriptors
HEARTBEAT_INTERVAL = 5.0
"""Seconds between two heartbeats of a worker."""

_log = Logger()


class Worker(msgspec.Struct, frozen=True):
    """The inheritance of a worker from its parent.

    Attributes:
        number: from 1.
        config: the parent's, so that all workers have the same.
        rest: bytes that were read from the pipe behind the configuration.
        workers: the number of workers that hand connections to each other; 0 if they do not.
        folder: the folder of their hand-over sockets.
    """

    number: int
    config: Config
    rest: bytes = b""
    workers: int = 0
    folder: str = ""

    @classmethod
    def inherited(cls, environ: Mapping[str, str]) -> "Worker":
        """Reads the inheritance of this process, where the environment has `VARIABLE`.

        Raises:
            SystemExit: the parent has ended already.
        """
        data = b""
        while b"\n" not in data:
            more = os.read(FROM_PARENT, 65536)
            if not more:
                raise SystemExit("relayd: the parent of this worker has ended")
            data += more
        line, _, rest = data.partition(b"\n")
        workers, _, folder = environ.get(HANDOVER, "").partition(":")
        return cls(
            number=int(environ[VARIABLE]),
            config=msgspec.json.decode(line, type=Config),
            rest=rest,
            workers=int(workers or 0),
            folder=folder,
        )

    def listener(self, reactor: Any) -> Inherited:
        """The inherited sockets, on which the endpoints listen."""
        last = FIRST_SOCKET + len(self.config.endpoints)
        return Inherited(reactor, range(FIRST_SOCKET, last))

    def handover(
        self, reactor: Any, entrance: Entrance, ports: Ports, current: Current
    ) -> Handover | None:
        """Builds the hand-over to the other workers.

        Args:
            reactor: the reactor.
            entrance: where this process accepts connections.
            ports: the ports of this process.
            current: holds the default names of groups, which paths may omit.

        Returns:
            None if workers do not hand connections to each other, or if the folder is missing.
        """
        if not self.workers:
            return None

        def find_group(head: bytes) -> str | None:
            return KINDS.group_of_handshake(head, current.config)

        try:
            folder = Path(self.folder)
            return Handover(reactor, entrance, ports, folder, self.number, self.workers, find_group)
        except OSError as error:  # the folder was removed
            _log.warn(CANNOT, why=f"{error.filename}: {error.strerror}")
            return None


class Heartbeat:
    """Reports to the parent every few seconds that this worker serves (`systemd.Lifecycle`).

    Args:
        reactor: provides IReactorTime: no heartbeat is sent while it hangs.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def serving(self, condition: Callable[[], Condition]) -> None:
        """Sends heartbeats from now on, with the number of connections and the stores' troubles."""
        os.set_blocking(TO_PARENT, False)
        loop = LoopingCall(self._send, condition)
        loop.clock = self._reactor
        loop.start(HEARTBEAT_INTERVAL)

    def _send(self, condition: Callable[[], Condition]) -> None:
        # a parent that does not read, or has ended, must not stop the relay
        with contextlib.suppress(OSError):
            found = condition()
            line = f"{found.connections} {', '.join(found.troubles)}\n"
            os.write(TO_PARENT, line.encode())

    def stopping(self) -> None:
        """Does nothing: the parent has ordered the stop, or sees the process end."""


@implementer(IReadDescriptor)
class FromParent:
    """The pipe from the parent: one configuration a line, after each reload.

    The pipe is closed when the parent ends; the worker then ends, too.

    Args:
        reactor: provides IReactorFDSet.
        current: gets the configurations.
        end: ends the process; returns False if it is ending already.
        rest: bytes that were read from the pipe already.
    """

    def __init__(
        self, reactor: Any, current: Current, end: Callable[[], bool], rest: bytes = b""
    ) -> None:
        self._reactor = reactor
        self._current = current
        self._end = end
        self._data = rest

    def start(self) -> None:
        """Follows the parent from now on."""
        self._read_lines()
        self._reactor.addReader(self)

    def doRead(self) -> None:
        """Reads configurations, or the end of the pipe (`IReadDescriptor`)."""
        data = os.read(FROM_PARENT, 65536)
        if data:
            self._data += data
            self._read_lines()
        else:
            self._ended()

    def _read_lines(self) -> None:
        *lines, self._data = self._data.split(b"\n")
        for line in lines:
            try:
                config = msgspec.json.decode(line, type=Config)
            except msgspec.MsgspecError:
                _log.failure("the parent's new configuration could not be read")
            else:
                self._current.replace(config)

    def _ended(self) -> None:
        self._reactor.removeReader(self)
        if self._end():
            _log.warn("the parent process has ended, so this one ends, too")

    def fileno(self) -> int:
        """The descriptor of the pipe (`IReadDescriptor`)."""
        return FROM_PARENT

    def connectionLost(self, reason: Failure) -> None:
        """The pipe is broken, or the reactor has stopped (`IReadDescriptor`)."""
        self._ended()

    def logPrefix(self) -> str:
        """The name in the reactor's log."""
        return "relayd"


def log_observer() -> ILogObserver:
    """The log observer of a worker whose parent logs to stdout by option (twistd --logger)."""
    return TextLines(sys.stdout, int(os.environ.get(VARIABLE, "0")))
