"""One of the processes of `[server] workers`: what it has inherited from its parent.

A worker is a `twistd relayd` like any other. `tap` asks what it has inherited, `assembly` wires it.
Its parent (`supervisor`) gives it

    VARIABLE           its number, in the environment
    HANDOVER           how many workers there are, a colon, and the folder of `handover`, in the
                       environment; not there if they do not hand connections to each other
    FROM_PARENT        a pipe: the configuration (JSON, one line), another after each reload
    TO_PARENT          a pipe: as soon as it serves, and every 5 seconds from then on, it writes a
                       line there: how many connections it has
    FIRST_SOCKET ...   the listening sockets, in the order of [server] listen

A worker without a parent, whatever became of it, drains and ends.
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
from relayd.systemd import Condition
from relayd.workers import VARIABLE

HANDOVER = "_RELAYD_HANDOVER"
FROM_PARENT, TO_PARENT, FIRST_SOCKET = 3, 4, 5  # file descriptors
BEAT = 5.0
"""Seconds between two signs of life of a worker."""

_log = Logger()


class Worker(msgspec.Struct, frozen=True):
    """The inheritance of a worker from its parent.

    Attributes:
        number: from 1.
        config: the parent's, so that all workers have the same.
        rest: what came through the pipe behind it.
        workers: how many there are that hand connections to each other; 0 if they do not.
        folder: where they do so.
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
            SystemExit: the parent is gone already.
        """
        data = b""
        while b"\n" not in data:
            more = os.read(FROM_PARENT, 65536)
            if not more:
                raise SystemExit("relayd: the parent of this worker is gone")
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
        """Where the endpoints are to listen."""
        last = FIRST_SOCKET + len(self.config.server.listen)
        return Inherited(reactor, range(FIRST_SOCKET, last))

    def handover(self, reactor: Any, ports: Ports, current: Current) -> Handover | None:
        """The way to the other workers, if they hand connections to each other.

        Args:
            reactor: the reactor.
            ports: where this process listens.
            current: has the names of groups that paths leave out.
        """
        if not self.workers:
            return None

        def find_group(head: bytes) -> str | None:
            return KINDS.meeting(head, current.config)

        try:
            folder = Path(self.folder)
            return Handover(reactor, ports, folder, self.number, self.workers, find_group)
        except OSError as error:  # somebody has cleaned up
            _log.warn(CANNOT, why=f"{error.filename}: {error.strerror}")
            return None


class SignsOfLife:
    """Tells the parent that this worker serves, again and again (`systemd.Lifecycle`).

    Args:
        reactor: provides IReactorTime: if it hangs, there are no signs of life.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def serving(self, condition: Callable[[], Condition]) -> None:
        """It serves; from now on the parent is told, each time with how many connections."""
        os.set_blocking(TO_PARENT, False)
        beat = LoopingCall(self._give_one, condition)
        beat.clock = self._reactor
        beat.start(BEAT)

    def _give_one(self, condition: Callable[[], Condition]) -> None:
        # a parent that does not read, or is gone, must not stop the relay
        with contextlib.suppress(OSError):
            os.write(TO_PARENT, b"%d\n" % condition().connections)

    def stopping(self) -> None:
        """Nothing: the parent has said so, or sees the process end."""


@implementer(IReadDescriptor)
class FromParent:
    """The pipe from the parent: a configuration a line, after each reload; its end is the parent's.

    Args:
        reactor: provides IReactorFDSet.
        current: gets the configurations.
        end: ends the process; returns False if it is ending already.
        rest: what has been read of the pipe already.
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
        """Something has come, or the end (`IReadDescriptor`)."""
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
            _log.warn("the parent process is gone, so this one ends, too")

    def fileno(self) -> int:
        """The pipe's (`IReadDescriptor`)."""
        return FROM_PARENT

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found the pipe broken, or has ended (`IReadDescriptor`)."""
        self._ended()

    def logPrefix(self) -> str:
        """The name in the reactor's log."""
        return "relayd"


def log_observer() -> ILogObserver:
    """The log of a worker whose parent was told to log to stdout (twistd --logger)."""
    return TextLines(sys.stdout, int(os.environ.get(VARIABLE, "0")))
