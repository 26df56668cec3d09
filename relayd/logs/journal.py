"""The log in systemd's journal, with fields: its native protocol over a datagram socket.

Sits above `events`. See https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. A journal that hangs does not
block relayd: after `TIMEOUT` seconds lines are dropped and counted until it accepts one again.
"""

import errno
import fcntl
import os
import select
import socket
from typing import Any

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from relayd import logs
from relayd.logs.events import PRIORITIES, Entry, read_event

SOCKET = "/run/systemd/journal/socket"
TIMEOUT = 0.2
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@implementer(ILogObserver)
class Journal:
    """Sends each event to the journal, without what is below the level.

    Args:
        path: the journal's socket.
        worker: the number of the process among those of one parent, or None.

    Raises:
        OSError: there is no journal.
    """

    def __init__(self, path: str = SOCKET, worker: int | None = None) -> None:
        self._path = path
        self._worker = worker
        self._lost = 0
        self._socket = self._connect()

    def __call__(self, event: LogEvent) -> None:
        """Sends one event."""
        if not logs.is_on(event.get("log_level")):
            return
        entry = read_event(event)
        if self._send(encode(self._fields(entry))) and self._lost:
            lost, self._lost = self._lost, 0
            text = f"{lost} lines of this log are lost: the journal accepted none for a while"
            fields = {"MESSAGE": text, "PRIORITY": 4, "SYSLOG_IDENTIFIER": "relayd"}
            if not self._send(encode(fields)):
                self._lost += lost

    def _fields(self, entry: Entry) -> dict[str, str | int | float]:
        # journalctl shows MESSAGE alone, so the traceback is in it
        found: dict[str, str | int | float] = {
            "MESSAGE": "\n".join(filter(None, (entry.message, entry.traceback))),
            "PRIORITY": PRIORITIES[entry.level],
            "SYSLOG_IDENTIFIER": "relayd",
            "LOGGER": entry.logger,
        }
        if entry.error is not None:
            found["ERROR"] = entry.error
        if self._worker is not None:
            found["WORKER"] = self._worker
        return found | {name.upper(): value for name, value in entry.fields.items()}

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.setblocking(False)
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        return connection

    def _send(self, data: bytes) -> bool:
        """Sends one entry; False if it is lost, which is counted."""
        for _ in range(3):
            try:
                self._put(data)
            except BlockingIOError:
                # its queue is full: wait for it once, and not while entries are being lost
                if self._lost or not select.select([], [self._socket], [], TIMEOUT)[1]:
                    break
            except OSError:
                # the journal was restarted
                self._socket.close()
                try:
                    self._socket = self._connect()
                except OSError:
                    break
            else:
                return True
        self._lost += 1
        return False

    def _put(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            file = os.memfd_create("relayd-log", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
            with open(file, "wb", buffering=0) as memory:
                memory.write(data)
                # the journal accepts only a file that is sealed against changes
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                socket.send_fds(self._socket, [b""], [file])


def encode(fields: dict[str, Any]) -> bytes:
    """One entry: `NAME=value` lines, with a length in front of values of several lines."""
    parts = []
    for name, value in fields.items():
        data = str(value).encode()
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), data))
    return b"".join(parts)
