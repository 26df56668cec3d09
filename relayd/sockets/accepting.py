"""Accepting when no open file is left: such connections are dropped at once, and counted.

Under `entrance`. accept(2) fails then, and the connection stays in the kernel's queue: its client
would wait for long, and the port would be readable at every turn. So one file is kept in reserve:
it is closed, and the connections are accepted in its place, and closed.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)
_MOST = 8
"""Connections that are dropped at a time; the others of the queue have their turn."""


class Reserve:
    """The file in reserve; one for each process.

    Args:
        dropped: called with the number of connections that were dropped.
    """

    def __init__(self, dropped: Callable[[int], object]) -> None:
        self._dropped = dropped
        self._file: int | None = None
        self.fill()

    def fill(self) -> None:
        """Opens the file, if it is closed and there is one left."""
        if self._file is None:
            with contextlib.suppress(OSError):
                self._file = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def drop(self, listening: socket.socket) -> None:
        """Drops connections that wait at a listening socket."""
        count = 0
        self.close()
        with contextlib.suppress(OSError):
            while count < _MOST:
                listening.accept()[0].close()
                count += 1
        self.fill()
        if count:
            self._dropped(count)


class Accepting:
    """A listening socket as `tcp.Port` uses it; to the port, no connection waits if files lack.

    Args:
        listening: the socket.
        reserve: drops its connections when no file is left.
    """

    def __init__(self, listening: socket.socket, reserve: Reserve) -> None:
        self._listening = listening
        self._reserve = reserve

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, and the address of its peer. Raises OSError."""
        try:
            return self._listening.accept()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
        self._reserve.drop(self._listening)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)
