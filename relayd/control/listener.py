"""The listening end of a control socket: opened over a dead one, never over a live one.

Sits under `node` and `workers`. The mode of the file decides which users may connect; the kernel
names the connected user (SO_PEERCRED, unix(7)).
"""

import contextlib
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort

from relayd.control.address import ControlError, Place, check_length
from relayd.edge.ports import BACKLOG, adopt_unix
from relayd.logs import Logger

FOR_THE_GROUP, FOR_ITS_PARENT = 0o660, 0o600
_PEERCRED = struct.Struct("3i")  # pid, uid, gid


class ControlSocket:
    """The control socket of one process.

    Args:
        reactor: reads it.
        place: its place; None to open no socket.
        factory: answers the requests.
        mode: of the file; its group is inherited from the process or the folder.
        beside: paths of other sockets, whose lengths are checked as well.
        takes_over: whether it replaces a socket on which another process still listens.

    Attributes:
        path: of the open socket; None while it is closed.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        place: Place | None,
        factory: Any,
        *,
        mode: int = FOR_THE_GROUP,
        beside: Iterable[Path] = (),
        takes_over: bool = False,
    ) -> None:
        self._reactor = reactor
        self._place = place
        self._factory = factory
        self._mode = mode
        self._beside = tuple(beside)
        self._takes_over = takes_over
        self._port: IListeningPort | None = None
        self._file: tuple[int, int] | None = None
        self.path: Path | None = None

    def open(self) -> None:
        """Begins to listen. relayd runs without a socket if a place that is not configured fails.

        Raises:
            SystemExit: the configured place cannot be used; the text says why.
        """
        if self._place is None:
            return
        try:
            self._listen(self._place.path)
        except ControlError as error:
            if self._place.chosen:
                raise SystemExit(f"relayd: [control] socket: {error}") from error
            self._log.warn("no control socket, so relayctl cannot connect: {why}", why=str(error))
        else:
            if not self._takes_over:  # the socket of a worker is for its parent alone
                self._log.info("relayctl connects at {path}", path=str(self._place.path))

    def close(self) -> "Deferred[None]":
        """Stops listening and removes the file, unless another process has replaced it."""
        port, self._port, path, self.path = self._port, None, self.path, None
        if port is None or path is None:
            return succeed(None)
        with contextlib.suppress(OSError):
            if _identity(path) == self._file:
                path.unlink()
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)

    def _listen(self, path: Path) -> None:
        for each in (path, *self._beside):
            check_length(each)
        try:
            path.parent.mkdir(0o750, parents=True, exist_ok=True)
            _remove_dead(path, live_too=self._takes_over)
            listening = _bind(path, self._mode)
        except OSError as error:
            raise ControlError(f"{path} cannot be created: {error.strerror or error}") from error
        self._file = _identity(path)
        self._port = adopt_unix(self._reactor, listening, self._factory)
        self.path = path


def _bind(path: Path, mode: int) -> socket.socket:
    """Returns a listening socket; its file is created with the mode."""
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~mode)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    listening.setblocking(False)
    return listening


def _remove_dead(path: Path, *, live_too: bool) -> None:
    """Removes the socket of a dead process. Raises ControlError if a process listens on it."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlError(f"{path} exists and is no socket; move it away")
    except FileNotFoundError:
        return
    if not live_too:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                pass  # no process listens on it
            except OSError as error:
                raise ControlError(f"{path} is in use: {error.strerror or error}") from error
            else:
                raise ControlError(
                    f"{path} is the socket of a running relayd, process {read_peer(probe)[0]}; "
                    "stop that one, or set another path for this one in [control] socket"
                )
    path.unlink(missing_ok=True)


def read_peer(connected: socket.socket) -> tuple[int, int]:
    """Process id and uid of the peer of a unix socket."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _ = _PEERCRED.unpack(raw)
    return pid, uid


def describe_peer(connected: socket.socket) -> str:
    """Describes the peer for the log: `uid 0 (root), process 4711`."""
    pid, uid = read_peer(connected)
    try:
        name = f" ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        name = ""
    return f"uid {uid}{name}, process {pid}"


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
