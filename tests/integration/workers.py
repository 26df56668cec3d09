"""Helpers for the workers of a relayd: their processes, whether they serve, their clients."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.clients import settle
from tests.integration.waiting import eventually, stopped


def wait_for_workers(daemon: Daemon, starts: int = 2) -> None:
    """Returns when so many workers, in all, have begun to serve and have Redis."""
    assert daemon.process is not None
    process = daemon.process

    def ready() -> bool:
        if process.poll() is not None:
            pytest.fail(f"relayd ended with {process.returncode}:\n{daemon.log}")
        return daemon.log.count("serves\n") == daemon.log.count(" is connected\n") == starts

    try:
        eventually(ready, 60)  # three processes start
    except AssertionError:
        pytest.fail(daemon.log)


def pids(daemon: Daemon) -> dict[int, int]:
    """The newest process of each worker, by the worker's number."""
    found = re.findall(r"worker (\d+) is process (\d+)\n", daemon.log)
    return {int(number): int(pid) for number, pid in found}


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only what is left until somebody asks for its status."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


def sockets(pid: int) -> list[str]:
    """The sockets of a process, as its descriptors show them: `socket:[INODE]` (proc(5))."""
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(entry.path))
    return [link for link in found if link.startswith("socket:")]


def accepted(pid: int, port: int) -> int:
    """How many connections a process has that came through a TCP port of 127.0.0.1 (proc(5))."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = f"0100007F:{port:04X}"
    established = {f"socket:[{each[9]}]" for each in lines if (each[1], each[3]) == (local, "01")}
    return sum(link in established for link in sockets(pid))


def clients_of(
    daemon: Daemon, connect: Callable[..., ClientConnection], number: int, **options: Any
) -> list[ClientConnection]:
    """Two clients of one worker, which has them open: the answer to a handshake comes before."""
    (other,) = [pid for each, pid in pids(daemon).items() if each != number]
    with stopped(other):
        clients = [connect(daemon, "/ws/camera/g", **options) for _ in range(2)]
        settle(*clients)
        return clients
