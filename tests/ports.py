"""TCP ports for the servers that a test starts."""

import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

FIRST = 10_000
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _in_turn() -> Iterator[int]:
    """Every port from FIRST to where those of outgoing connections begin, round and round.

    Of several pytest processes that share a run (PYTEST_XDIST_WORKER, `gw0`, `gw1`...) each has its
    own; those of another run are met by chance, so it begins anywhere.
    """
    outgoing = int(RANGE.read_text().split()[0])
    if outgoing < 2 * FIRST:
        raise RuntimeError(f"{RANGE}: the tests need the ports from {FIRST} to {2 * FIRST}")
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(FIRST + number, outgoing, count)
    begin = random.randrange(len(ports))
    return itertools.cycle((*ports[begin:], *ports[:begin]))


_PORTS = _in_turn()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and nobody else in this run is given.

    Not one that the system chooses (bind to port 0): it may give the same to an outgoing
    connection, or to the next who asks, before the server that shall have it has started.
    """
    return next(port for port in _PORTS if _is_free(port))
