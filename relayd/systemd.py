"""The two ways between systemd and a service: passed sockets, and notifications.

At the ground: imports nothing of ours. Sockets that systemd has opened (sd_listen_fds(3)) are
described as Twisted endpoints, so that they replace `[server] listen` wherever that is read.
sd_notify(3) reports to systemd that relayd serves, its number of clients, and its heartbeats.
"""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

STATUS_INTERVAL = 5.0
"""Seconds between two updates of the line in `systemctl status`."""

FOR_TLS = "tls"
"""The `FileDescriptorName=` of sockets for `[tls]`."""

_RETRY_DELAY = 0.1
"""Seconds until a notification is sent again for which systemd's queue had no room."""

_NO_REACTOR: Any = None


class Condition(NamedTuple):
    """The condition that a process reports every few seconds.

    Attributes:
        connections: the number of open WebSockets.
        sentence: the same in words, and whether the process serves, drains or stops.
        troubles: what its stores refuse, in words, such as "database is away".
    """

    connections: int
    sentence: str
    troubles: tuple[str, ...] = ()


class Lifecycle(Protocol):
    """Reports the state of a process: `Notifier` to systemd, `Heartbeat` to a worker's parent."""

    def serving(self, condition: Callable[[], Condition]) -> None:
        """Clients are admitted from now on; `condition` may be called at any time."""

    def stopping(self) -> None:
        """The process has begun to end."""


class Systemd:
    """The sockets and variables that systemd passed; empty without systemd.

    Attributes:
        sockets: descriptors of listening sockets, those for TLS excepted.
        tls_sockets: descriptors of the sockets for TLS: `FileDescriptorName=tls` in their unit.
        watchdog: seconds within which systemd expects a heartbeat; 0 if it expects none.
    """

    def __init__(
        self,
        *,
        sockets: tuple[int, ...] = (),
        tls_sockets: tuple[int, ...] = (),
        notify_socket: str = "",
        watchdog: float = 0.0,
    ) -> None:
        self.sockets = sockets
        self.tls_sockets = tls_sockets
        self.watchdog = watchdog
        self._notify_socket = notify_socket
        self._descriptions: dict[tuple[int, ...], tuple[str, ...]] = {}

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> "Systemd":
        """Reads the environment and removes the variables, so that no child claims them, too.

        Raises:
            SystemExit: a descriptor is not a listening stream socket.
        """
        sockets = tuple(_inherited_sockets(environ))
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        encrypted = {each for each, name in zip(sockets, names, strict=False) if name == FOR_TLS}
        microseconds = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        found = cls(
            sockets=tuple(each for each in sockets if each not in encrypted),
            tls_sockets=tuple(each for each in sockets if each in encrypted),
            notify_socket=environ.get("NOTIFY_SOCKET", ""),
            watchdog=int(microseconds) / 1e6 if ours and microseconds.isdecimal() else 0.0,
        )
        for name in ("LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            environ.pop(name, None)
        for descriptor in sockets:
            found._check(descriptor)
            os.set_blocking(descriptor, False)
            os.set_inheritable(descriptor, False)
        return found

    @staticmethod
    def _check(descriptor: int) -> None:
        try:
            opened = socket.socket(fileno=os.dup(descriptor))
        except OSError as error:
            raise SystemExit(
                f"relayd: systemd passed descriptor {descriptor}, which is no socket: "
                f"{error.strerror}"
            ) from error
        with opened:
            listens = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if opened.type != socket.SOCK_STREAM or not listens:
            raise SystemExit(
                f"relayd: systemd passed descriptor {descriptor}, which accepts no connections: "
                "the socket unit needs ListenStream= and Accept=no"
            )

    def endpoints(self) -> tuple[str, ...]:
        """The sockets as endpoint descriptions, in the form of `[server] listen`."""
        return self._described(self.sockets)

    def tls_endpoints(self) -> tuple[str, ...]:
        """The sockets for TLS, in the form of `[tls] listen`."""
        return self._described(self.tls_sockets)

    def _described(self, sockets: tuple[int, ...]) -> tuple[str, ...]:
        """Describes sockets at the first call: later, this process may have closed its own."""
        if sockets not in self._descriptions:
            self._descriptions[sockets] = tuple(map(_endpoint, sockets))
        return self._descriptions[sockets]

    def notify(self, *lines: str) -> bool:
        """Sends assignments, such as READY=1; no effect without systemd.

        Returns:
            False if the queue of systemd's socket is full (unix(7), and max_dgram_qlen in its
            sysctls): the caller sends them again later.
        """
        if not self._notify_socket:
            return True
        address = self._notify_socket
        if address.startswith("@"):
            address = "\0" + address[1:]
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            # a systemd that does not read must not block the relay
            line.setblocking(False)
            try:
                line.sendto("\n".join(lines).encode(), address)
            except BlockingIOError:
                return False
        return True


def _inherited_sockets(environ: Mapping[str, str]) -> Iterator[int]:
    """The descriptors of sd_listen_fds(3); Twisted removes their variables from the environment."""
    if "LISTEN_FDNAMES" not in environ:  # since version 227 systemd names what it passes
        return
    with contextlib.suppress(IndexError):
        for index in itertools.count():
            # Twisted uses the domain only when it listens
            described: Any = serverFromString(_NO_REACTOR, f"systemd:domain=UNIX:index={index}")
            yield described.fileno


def _endpoint(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as opened:
        family, name = opened.family, opened.getsockname()
    if family == socket.AF_UNIX:
        # an abstract name is bytes and begins with a zero
        return f"unix:{quoteStringArgument(os.fsdecode(name))}"
    host, port = name[:2]
    kind = "tcp6" if family == socket.AF_INET6 else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(host)}"


class Notifier:
    """Notifies systemd of the state of this process, and retries while its queue is full.

    Args:
        reactor: provides IReactorTime, which times the heartbeats: none is sent while it hangs.
        systemd: sends the notifications.
    """

    def __init__(self, reactor: Any, systemd: Systemd) -> None:
        self._systemd = systemd
        self._reactor = reactor
        self._condition: Callable[[], Condition] | None = None  # None until it serves
        self._status_sent = ""
        self._unsent: list[tuple[str, ...]] = []  # at most 3: a reload is skipped if others wait
        self._retry: IDelayedCall | None = None
        self._loop = LoopingCall(self._heartbeat)
        self._loop.clock = reactor

    def serving(self, condition: Callable[[], Condition]) -> None:
        """Notifies that the process serves, and of its condition from now on (`Lifecycle`)."""
        if self._loop.running:
            return
        self._condition = condition
        self._enqueue("READY=1")
        self._loop.start(min(STATUS_INTERVAL, self._systemd.watchdog / 2 or STATUS_INTERVAL))

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Notifies of a reload that lasts until the end of the `with`, whether it fails or not."""
        if not self._unsent:
            # systemd 253 and newer needs the time, to distinguish this reload from an earlier one
            self._enqueue("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if self._unsent[-1:] != [("READY=1",)]:
                self._enqueue("READY=1")

    def stopping(self) -> None:
        """Notifies of the end; heartbeats go on, because a drain takes time (`Lifecycle`)."""
        self._enqueue("STOPPING=1")
        if self._loop.running:
            self._heartbeat()

    def _enqueue(self, *lines: str) -> None:
        """Sends assignments that change systemd's state of the unit: in order, none is lost."""
        self._unsent.append(lines)
        self._flush()

    def _flush(self) -> None:
        while self._unsent and self._systemd.notify(*self._unsent[0]):
            del self._unsent[0]
        if self._unsent:
            self._retry_later()

    def _heartbeat(self) -> None:
        if self._condition is None:
            return
        lines = ["WATCHDOG=1"] if self._systemd.watchdog else []
        status = self._condition().sentence
        if status != self._status_sent:
            lines.append(f"STATUS={status}")
        if not lines:
            return
        if self._systemd.notify(*lines):
            self._status_sent = status
        else:
            self._retry_later()

    def _retry_later(self) -> None:
        if self._retry is None or not self._retry.active():
            self._retry = self._reactor.callLater(_RETRY_DELAY, self._try_again)

    def _try_again(self) -> None:
        self._flush()
        self._heartbeat()
