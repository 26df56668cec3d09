"""The loads of poses on raw sockets: rates up to 12,000 a second, a neighbour, several processes.

Sits on `bench.streams`, which sends and checks; here are the plans, the sockets and the sums. Every
delivery is looked at: nothing is sampled.
"""

import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import procstat
from bench.histogram import percentile
from bench.measured import Measured
from bench.streams import Streams, Until, pose
from bench.window import Target

_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = b"\x5a\x13\xc7\x68"
_EDGE = 0.1
"""Seconds at the end of the window whose poses are not timed: closing it would delay them."""


@dataclass(frozen=True)
class Group:
    """One group of a load.

    Attributes:
        senders: how many; they get every pose, too.
        rate: poses a second of each.
        viewers: how many members only get poses.
    """

    senders: int
    rate: float
    viewers: int = 200


LOADS = {
    "rate-20": [Group(2, 10)],
    "rate-100": [Group(10, 10)],
    "rate-300": [Group(30, 10)],
    "rate-1000": [Group(100, 10)],
    "rate-3000": [Group(100, 30)],
    "rate-12000": [Group(100, 120)],
    "neighbour": [Group(1, 10, viewers=1), Group(100, 10)],
    "across": [Group(30, 10)],
}
"""The groups of each load; the first is the one whose latency is asked for."""


def request(port: int, path: str) -> bytes:
    """The head of a handshake (RFC 6455, section 4.1)."""
    return _UPGRADE.format(path=path, port=port, key="cmVsYXlkIGJlbmNobWFyaw==").encode()


def join(port: int, path: str) -> socket.socket:
    """A connection to 127.0.0.1 with the handshake through and nothing read since.

    A server that does not serve yet is asked again for ten seconds.

    Raises:
        RuntimeError: it answers with something else than 101, and goes on doing so.
    """
    deadline = time.monotonic() + 10
    while True:
        connection = socket.create_connection(("127.0.0.1", port), 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request(port, path))
        head = b""
        while b"\r\n\r\n" not in head:
            seen = connection.recv(4096, socket.MSG_PEEK)
            if not seen:
                break
            end = seen.find(b"\r\n\r\n")
            head += connection.recv(len(seen) if end < 0 else end + 4)
        if head.startswith(b"HTTP/1.1 101 "):
            return connection
        connection.close()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} is answered with {head[:200]!r}")
        time.sleep(0.1)


def _try_out(group: Sequence[socket.socket]) -> None:
    """Sends one pose from the first of a group: everyone gets it, byte for byte.

    Raises:
        RuntimeError: somebody does not.
    """
    payload = pose(0, 0.5, 0)
    masked = bytes(byte ^ _MASK[n % 4] for n, byte in enumerate(payload))
    wanted = bytes((0x81, len(payload))) + payload
    group[0].sendall(bytes((0x81, 0x80 | len(payload))) + _MASK + masked)
    for member in group:
        got = b""
        member.settimeout(10)
        try:
            while len(got) < len(wanted) and (more := member.recv(len(wanted) - len(got))):
                got += more
        except TimeoutError:
            pass
        if got != wanted:
            raise RuntimeError(f"of the pose {wanted!r} a member got {got!r}")


def connect(streams: Streams, target: Target, groups: Sequence[Group]) -> None:
    """Connects all members, and hands them to the streams; each sender has its own moment."""
    random_ = random.Random(1)  # the same moments for every server
    for number, group in enumerate(groups):
        path = f"/ws/camera/group{number}"
        senders = [join(target.senders_port or target.port, path) for _ in range(group.senders)]
        viewers = [join(target.port, path) for _ in range(group.viewers)]
        time.sleep(0.2)  # a server may answer before it has let the client into the group
        _try_out([*senders, *viewers])
        for each in senders:
            phase, mask = random_.random() / group.rate, random_.randbytes(4)
            streams.add(each.detach(), number, phase, 1 / group.rate, mask)
        for each in viewers:
            streams.add(each.detach(), number)


def poses(load: str, target: Target) -> Measured:
    """Puts one of `LOADS` on a server."""
    groups = LOADS[load]
    size = sum(group.senders + group.viewers for group in groups)
    streams = Streams(len(groups), size)
    connect(streams, target, groups)
    result = Measured(load, connections=size)
    streams.run(target.warmup)

    cpu, own, came = procstat.cpu(target.pids), time.process_time(), streams.came()
    start = time.monotonic()
    streams.window(target.seconds - _EDGE)
    streams.run(target.seconds)
    result.seconds = time.monotonic() - start
    result.cpu = procstat.cpu(target.pids) - cpu
    result.generator = (time.process_time() - own) / result.seconds
    result.deliveries = streams.came() - came
    result.late = streams.late

    streams.stop()
    streams.run(target.grace, Until.DELIVERED)
    conclude(result, streams, groups)
    return result


def conclude(result: Measured, streams: Streams, groups: Sequence[Group]) -> None:
    """Puts what was lost, and what the poses of the window took, into the result."""
    for number, group in enumerate(groups):
        size = group.senders + group.viewers
        sent, due, came, doubled, reordered, timed = streams.counts(number)
        result.sent += sent
        result.expected += due * size
        result.lost += due * size - (came - doubled)
        result.extra += doubled
        result.reordered += reordered
        took = streams.took(number)
        p50, p99 = (percentile(took, share, timed - sum(took)) for share in (0.5, 0.99))
        if number == 0:
            result.p50, result.p99, result.samples = p50, p99, timed
        else:
            result.beside_p50, result.beside_p99 = p50, p99
    result.errors = streams.errors
    result.disconnected = streams.gone
