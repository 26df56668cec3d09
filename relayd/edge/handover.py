"""Workers of one parent hand fresh connections to each other, so that a group is in one of them.

Sits under `node`, which starts it; the front door calls it for every WebSocket. Any worker may
accept a connection, but messages between clients of two workers go through Redis. So each group,
room, topic and pair belongs to one worker, by a hash of its name. Its connections are handed over
to that worker, socket and first bytes, over unix datagram sockets in a folder of the parent
(`workers.folder`):

    <folder>/w<number>     the socket on which worker <number> receives connections: a byte for the
                           listening port, then the bytes read so far, with the socket (SCM_RIGHTS)
    <folder>/beats         a double for each worker: when its reactor ran last

The hand-over only saves work. A connection stays with the worker that accepted it, and is served
there, if its own worker hangs, restarts, has a full queue or few free descriptors, or if TLS ends
in this process.
"""

import array
import errno
import mmap
import os
import resource
import socket
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.edge.ports import peer_of
from relayd.logs import Logger
from relayd.sockets.entrance import Entrance
from relayd.sockets.poller import PolledTransport

BEAT, FRESH = 0.5, 2.0
"""Seconds between two beats of a worker, and how old its last one may be."""
LARGEST = 32 * 1024
"""The most bytes that are handed over with a connection; a socket's limits are far higher."""
SPARE = 128
"""Descriptors that a worker reserves for its own; with fewer free, no connection is handed over."""

CANNOT = "connections stay with the worker that accepts them, which costs CPU time: {why}"

_STAYS = (errno.EAGAIN, errno.ECONNREFUSED, errno.ENOENT, errno.ENOBUFS, errno.EPIPE)


def owner(group: str, workers: int) -> int:
    """The number of the worker that a group belongs to, from 1.

    Args:
        group: the name of a group or pair, in its canonical form.
        workers: the number of workers.
    """
    return zlib.crc32(group.encode()) % workers + 1


@implementer(IReadDescriptor)
class Handover:
    """One worker's side.

    Args:
        reactor: provides IReactorTime.
        entrance: where connections are received.
        ports: the listening ports, the same in every worker and in the same order; read only after
            `start`.
        folder: shared by all workers, and closed to other users.
        number: of this worker, from 1.
        workers: the number of workers.
        group: finds the group or pair of a request head; returns None if it has none.
        now: seconds, by the same clock in every worker.

    Raises:
        OSError: the folder is missing.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        entrance: Entrance,
        ports: Sequence[IListeningPort],
        folder: Path,
        number: int,
        workers: int,
        group: Callable[[bytes], str | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entrance = entrance
        self._now = now
        self._ports: Sequence[Any] = ports
        self._folder = folder
        self._number = number
        self._workers = workers
        self._group = group
        self._socket: socket.socket | None = None
        self._loop = LoopingCall(self._beat)
        self._loop.clock = reactor
        with open(folder / "beats", "r+b") as file:
            self._beats = mmap.mmap(file.fileno(), 8 * workers)

    def start(self) -> None:
        """Begins to receive connections, and to publish heartbeats."""
        path = self._folder / f"w{self._number}"
        path.unlink(missing_ok=True)  # left by an earlier process of this worker
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            opened.bind(str(path))
        except OSError as error:
            opened.close()
            self._log.warn(CANNOT, why=f"{path}: {error.strerror}")
            return
        self._socket = opened
        self._entrance.add(self)
        self._loop.start(BEAT)

    def stop(self) -> None:
        """Receives the connections that are in the queue already, then no more."""
        if self._socket is None:
            return
        self._loop.stop()
        (self._folder / f"w{self._number}").unlink(missing_ok=True)
        # a worker that has looked the path up before gets EPIPE from now on: the queue is final
        self._socket.shutdown(socket.SHUT_RD)
        while self._receive():
            pass
        self._entrance.remove(self)
        self._socket.close()
        self._socket = None

    def hand_over(self, transport: object, data: bytes) -> bool:
        """Hands a connection over to the worker that its group belongs to, if that is another one.

        Args:
            transport: of the connection.
            data: the bytes that were read and not answered: a request head, maybe more.

        Returns:
            Whether it was handed over; then the transport is dead.
        """
        if self._socket is None or len(data) > LARGEST:
            return False
        group = self._group(data)
        to = self._number if group is None else owner(group, self._workers)
        if to == self._number:
            return False
        if not isinstance(transport, PolledTransport) or not transport.movable:
            return False
        if self._now() - self._last_beat(to) > FRESH:
            return False
        port = self._ports.index(transport.port)
        descriptor = transport.inlet.descriptor
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            self._socket.sendmsg([bytes([port]), data], [rights], 0, str(self._folder / f"w{to}"))
        except OSError as error:
            if error.errno not in _STAYS:
                self._log.warn("a connection stays: worker {to} {why}", to=to, why=error.strerror)
            return False
        transport.detach()
        return True

    def doRead(self) -> None:
        """Receives the first connection in the queue (`IReadDescriptor`)."""
        self._receive()

    def _receive(self) -> bool:
        """Receives one connection and adopts it; False if the queue is empty."""
        assert self._socket is not None
        size = socket.CMSG_SPACE(array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(LARGEST + 1, size, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        if not data:  # our end is shut down, and the queue is empty
            return False
        descriptors = array.array("i")
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(rights)
        if not descriptors:
            self._log.error("a connection that was handed over is lost: no descriptor is free")
        for descriptor in descriptors:
            if self._is_full(descriptor):
                self._write_beat(0.0)
            try:
                adopt(self._ports[data[0]], socket.socket(fileno=descriptor), data[1:])
            except Exception:
                self._log.failure("a connection that was handed over is lost")
        return True

    def _beat(self) -> None:
        try:
            lowest = os.dup(self.fileno())
        except OSError:
            self._write_beat(0.0)
            return
        os.close(lowest)
        self._write_beat(0.0 if self._is_full(lowest) else self._now())

    def _is_full(self, descriptor: int) -> bool:
        """Whether few descriptors are free, if this one was the lowest free one a moment ago."""
        return descriptor >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE

    def _write_beat(self, beat: float) -> None:
        """Publishes when this worker was last ready to receive connections; 0 if it is not."""
        struct.pack_into("d", self._beats, 8 * (self._number - 1), beat)

    def _last_beat(self, number: int) -> float:
        return float(struct.unpack_from("d", self._beats, 8 * (number - 1))[0])

    def fileno(self) -> int:
        """The socket's (`IReadDescriptor`)."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """The name in the reactor's log."""
        return "relayd"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended (`IReadDescriptor`)."""


def adopt(port: Any, sock: socket.socket, data: bytes) -> None:
    """Serves a connection as if a listening port had just accepted it (`tcp.Port.doRead`).

    Args:
        port: the port of this process for the endpoint at which another process accepted it.
        sock: its socket.
        data: the bytes that were read from it.

    Raises:
        Exception: raised by its protocol; the connection has ended then.
    """
    sock.setblocking(False)
    try:
        peer = peer_of(sock)
        address = sock.getpeername()
    except OSError:  # the peer has disconnected
        sock.close()
        return
    protocol = port.factory.buildProtocol(peer)
    session, port.sessionno = port.sessionno, port.sessionno + 1
    transport = port.transport(sock, protocol, address, port, session, port.reactor)
    transport.arrive()
    try:
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
    except Exception:
        transport.connectionLost(Failure())
        raise
