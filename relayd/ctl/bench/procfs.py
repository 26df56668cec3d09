"""The server's processes on this machine, found by their sockets, and their CPU time.

Read from /proc (Linux), see proc(5). Users other than root see only the sockets of their own
processes.
"""

import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from relayd.ctl.bench.target import Target

_PROC = Path("/proc")
_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp
_ACCEPTS = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


def find(target: Target) -> list[int]:
    """The processes that listen at the target; none if it is remote, or of another user."""
    try:
        inodes = _unix_sockets(target.unix) if target.unix else _tcp_sockets(target)
        found = sorted(set(_holders(inodes))) if inodes else []
    except OSError:
        return []
    # systemd keeps the sockets that it has passed
    return found[1:] if len(found) > 1 and found[0] == 1 else found


def tree(root: int) -> list[int]:
    """The process and all its descendants; none if there is no such process."""
    children: dict[int, list[int]] = {}
    there = False
    for pid in _processes():
        try:
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        there = there or pid == root
        children.setdefault(int(fields[1]), []).append(pid)
    found = [root] if there else []
    for pid in found:  # grows while we walk
        found += children.get(pid, [])
    return found


def name(pid: int) -> str:
    """The process's short name, such as `twistd`."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def cpu(pids: Iterable[int]) -> float | None:
    """CPU seconds that all threads of the processes have used; None if one has ended."""
    try:
        return sum(_cpu_of(pid) for pid in pids)
    except OSError:
        return None


def waited() -> float:
    """Seconds for which this process was runnable without a CPU; 0 if unknown."""
    try:
        return int((_PROC / "self" / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _cpu_of(pid: int) -> float:
    """CPU seconds from `schedstat`, in nanoseconds; else from `stat`, in ticks of 10 ms."""
    folder = _PROC / str(pid)
    threads = sorted((folder / "task").iterdir())
    try:
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
    except (OSError, IndexError):  # the kernel does not keep it, or a thread has ended
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _holders(inodes: set[int]) -> Iterator[int]:
    """The processes that have one of the sockets open, as far as this user may see them."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in _processes():
        try:
            with os.scandir(_PROC / str(pid) / "fd") as descriptors:
                if any(_link(each) in wanted for each in descriptors):
                    yield pid
        except OSError:  # it has ended, or belongs to another user
            continue


def _link(descriptor: "os.DirEntry[str]") -> str:
    try:
        return os.readlink(descriptor.path)
    except OSError:
        return ""


def _tcp_sockets(target: Target) -> set[int]:
    """The inodes of the sockets that accept connections to the target's address."""
    exact: set[int] = set()
    wild: set[int] = set()
    ours = {
        str(address[4][0])
        for address in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        if _is_here(address[0], str(address[4][0]))
    }
    for file in ("tcp", "tcp6") if ours else ():
        for line in (_PROC / "net" / file).read_text().splitlines()[1:]:
            fields = line.split()
            local, _, port = fields[1].partition(":")
            if fields[3] != _LISTENS or int(port, 16) != target.port:
                continue
            address = _address(local)
            if address in ours:
                exact.add(int(fields[9]))
            elif address in ("0.0.0.0", "::"):
                wild.add(int(fields[9]))
    return exact or wild


def _is_here(family: int, address: str) -> bool:
    """Whether an address belongs to this machine: only then it can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _address(text: str) -> str:
    """Parses an address of /proc/net/tcp: words of 32 bits in the machine's byte order."""
    words = [int(word, 16) for word in re.findall("." * 8, text)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    shown = socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)
    return shown.removeprefix("::ffff:") if "." in shown else shown


def _unix_sockets(path: str) -> set[int]:
    found = set()
    for line in (_PROC / "net" / "unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTS and _same(fields[7], path):
            found.add(int(fields[6]))
    return found


def _same(bound: str, path: str) -> bool:
    """Whether two paths are one socket; the folder of a relative bound path is unknown."""
    return bound == path or (bound.startswith("/") and bound == os.path.realpath(path))
