"""One of the processes of `[server] workers`: what it has inherited from its parent.

A worker is a `twistd relayd` like any other. Sits under `tap`; its parent (`workers`) gives it

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
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.config import Config
from relayd.edge.handover import CANNOT, Handover
from relayd.edge.ports import Inherited
from relayd.logs import Logger
from relayd.logs.lines import TextLines
from relayd.relays.paths import KINDS

VARIABLE, HANDOVER = "_RELAYD_WORKER", "_RELAYD_HANDOVER"
FROM_PARENT, TO_PARENT, FIRST_SOCKET = 3, 4, 5  # file descriptors
BEAT = 5.0
"""Seconds between two signs of life of a worker."""


class Worker:
    """The worker's side: what it has inherited.

    Attributes:
        number: from 1.
        config: the parent's, so that all workers have the same.
        place: what HANDOVER says, or nothing.
    """

    _log = Logger()

    def __init__(self, number: int, config: Config, rest: bytes = b"", place: str = "") -> None:
        self.number = number
        self.config = config
        self.place = place
        self._rest = rest  # what came behind the first line

    @classmethod
    def inherited(cls, environ: Mapping[str, str]) -> "Worker | None":
        """What this process has inherited if it is a worker, else None.

        Raises:
            SystemExit: the parent is gone already.
        """
        if VARIABLE not in environ:
            return None
        data = b""
        while b"\n" not in data:
            more = os.read(FROM_PARENT, 65536)
            if not more:
                raise SystemExit("relayd: the parent of this worker is gone")
            data += more
        line, _, rest = data.partition(b"\n")
        config = msgspec.json.decode(line, type=Config)
        return cls(int(environ[VARIABLE]), config, rest, environ.get(HANDOVER, ""))

    def handover(self, reactor: Any) -> Handover | None:
        """The way to the other workers, if they hand connections to each other."""
        if not self.place:
            return None
        workers, _, folder = self.place.partition(":")
        try:
            group = partial(KINDS.meeting, config=self.config)
            return Handover(reactor, Path(folder), self.number, int(workers), group)
        except OSError as error:  # somebody has cleaned up
            self._log.warn(CANNOT, why=f"{error.filename}: {error.strerror}")
            return None

    def listener(self, reactor: Any) -> Inherited:
        """Where the endpoints are to listen."""
        last = FIRST_SOCKET + len(self.config.server.listen)
        return Inherited(reactor, range(FIRST_SOCKET, last))

    def watch(self, reactor: Any, end: Callable[[], bool], take: Callable[[Config], None]) -> None:
        """Has the process end when the parent has, and work with what it reads at a reload.

        Args:
            reactor: the reactor.
            end: ends it; returns False if it is ending already.
            take: has the process work with another configuration.
        """

        def gone() -> None:
            reactor.removeReader(line)
            if end():
                self._log.warn("the parent process is gone, so this one ends, too")

        def came(text: bytes) -> None:
            try:
                take(msgspec.json.decode(text, type=Config))
            except Exception:
                self._log.failure("the parent's new configuration could not be taken")

        line = _Line(gone, came)
        line.add(self._rest)
        reactor.addReader(line)

    def serving(self, reactor: Any, connections: Callable[[], int]) -> None:
        """Tells the parent so, from now on again and again, with how many connections."""
        os.set_blocking(TO_PARENT, False)
        beat = LoopingCall(self._sign_of_life, connections)
        beat.clock = reactor
        beat.start(BEAT)

    def _sign_of_life(self, connections: Callable[[], int]) -> None:
        # a parent that does not read, or is gone, must not stop the relay
        with contextlib.suppress(OSError):
            os.write(TO_PARENT, b"%d\n" % connections())


@implementer(IReadDescriptor)
class _Line:
    """The pipe from the parent: configurations, a line each, and its end."""

    def __init__(self, ended: Callable[[], None], came: Callable[[bytes], None]) -> None:
        self._ended = ended
        self._came = came
        self._data = b""

    def add(self, data: bytes) -> None:
        """Passes on the lines that are whole."""
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            self._came(line)

    def fileno(self) -> int:
        return FROM_PARENT

    def doRead(self) -> None:
        data = os.read(FROM_PARENT, 65536)
        if data:
            self.add(data)
        else:
            self._ended()

    def connectionLost(self, reason: Failure) -> None:
        self._ended()

    def logPrefix(self) -> str:
        return "relayd"


def log_observer() -> ILogObserver:
    """The log of a worker whose parent was told to log to stdout (twistd --logger)."""
    return TextLines(sys.stdout, int(os.environ.get(VARIABLE, "0")))
