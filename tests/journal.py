"""A journal that a test reads: a socket that takes what systemd's journal takes."""

import array
import contextlib
import fcntl
import os
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class FakeJournal:
    """Receives the datagrams of the native protocol and takes them apart.

    Args:
        path: where its socket is to be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)
        self._collected: queue.Queue[dict[str, str]] = queue.Queue()

    def collect(self) -> None:
        """Takes entries from now on, as the journal does; a socket alone holds few."""
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        self._socket.settimeout(None)
        with contextlib.suppress(OSError):
            while True:
                self._collected.put(self.receive())

    def receive(self) -> dict[str, str]:
        """The fields of the next entry; waits for it."""
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, passed in ancillary:
            descriptors = array.array("i")
            descriptors.frombytes(passed)
            assert data == b""
            with open(descriptors[0], "rb") as memory:
                assert fcntl.fcntl(memory, fcntl.F_GET_SEALS) == _ALL_SEALS
                data = os.pread(memory.fileno(), 1 << 24, 0)
        return parse(data)

    def until(self, words: str) -> list[dict[str, str]]:
        """The entries that were collected, up to the next whose MESSAGE has these words."""
        found = [self._collected.get(timeout=20)]
        while words not in found[-1]["MESSAGE"]:
            found.append(self._collected.get(timeout=20))
        return found

    def close(self) -> None:
        """Closes it, as when the journal is started again."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink()


def parse(data: bytes) -> dict[str, str]:
    """An entry as the journal reads it (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""
    fields: dict[str, str] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(data[:8], "little")
            value, end, data = (
                data[8 : 8 + length],
                data[8 + length : 9 + length],
                data[9 + length :],
            )
            assert end == b"\n"
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FakeJournal]:
    """A journal of this test."""
    found = FakeJournal(tmp_path / "journal")
    yield found
    if found.path.exists():
        found.close()
