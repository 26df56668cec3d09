"""The two ways between systemd and a service: passed sockets, and notifications.

At the ground: imports nothing of ours. Sockets that systemd has opened (sd_listen_fds(3)) are
described as Twisted endpoints, so that they take the place of `[server] listen` wherever that is
read. The other way goes sd_notify(3): whether relayd serves, how many it serves, that it lives.
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
"""Seconds between two looks at what `systemctl status` shows."""

_AGAIN = 0.1
"""Seconds until systemd is told again what it had no room for."""

_NO_REACTOR: Any = None


class Condition(NamedTuple):
    """The condition that a process reports every few seconds.

    Attributes:
        connections: how many WebSockets are open.
        sentence: the same in words, and whether it serves, drains or stops.
    """

    connections: int
    sentence: str


class Lifecycle(Protocol):
    """Is told where a process stands: `Notifier` tells systemd, a worker's line its parent."""

    def serving(self, condition: Callable[[], Condition]) -> None:
        """Clients are let in from now on; `condition` may be asked at any time."""

    def stopping(self) -> None:
        """The process has begun to end."""


class Systemd:
    """The sockets and variables that systemd passed; empty without systemd.

    Attributes:
        sockets: descriptors of listening sockets.
        watchdog: seconds within which systemd wants a sign of life; 0 if it wants none.
    """

    def __init__(
        self, *, sockets: tuple[int, ...] = (), notify: str = "", watchdog: float = 0.0
    ) -> None:
        self.sockets = sockets
        self.watchdog = watchdog
        self._notify = notify

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str]) -> "Systemd":
        """Reads the environment and removes the variables, so that no child claims them, too.

        Raises:
            SystemExit: a descriptor is no socket that streams are accepted from.
        """
        sockets = tuple(_inherited_sockets(environ))
        microseconds = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        found = cls(
            sockets=sockets,
            notify=environ.get("NOTIFY_SOCKET", ""),
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
                f"relayd: systemd passed descriptor {descriptor}, from which no connections can "
                "be accepted: the socket unit needs ListenStream= and Accept=no"
            )

    def endpoints(self) -> tuple[str, ...]:
        """The sockets, described as `[server] listen` would do it."""
        return tuple(map(_endpoint, self.sockets))

    def tell(self, *lines: str) -> bool:
        """Sends assignments, such as READY=1; nobody may be there to hear them.

        Returns:
            False: systemd reads so late that the kernel takes no more for it (unix(7), and
            max_dgram_qlen in its sysctls); they are to be sent again.
        """
        if not self._notify:
            return True
        address = self._notify
        if address.startswith("@"):
            address = "\0" + address[1:]
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            # systemd that does not read must not stop the relay
            line.setblocking(False)
            try:
                line.sendto("\n".join(lines).encode(), address)
            except BlockingIOError:
                return False
        return True


def _inherited_sockets(environ: Mapping[str, str]) -> Iterator[int]:
    """The descriptors of sd_listen_fds(3); Twisted takes them out of the environment."""
    if "LISTEN_FDNAMES" not in environ:  # since version 227 systemd names what it passes
        return
    with contextlib.suppress(IndexError):
        for index in itertools.count():
            # the domain is not looked at before it listens
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
    """Tells systemd how this process is doing; again, if it reads too late to have room for it.

    Args:
        reactor: provides IReactorTime, on which the signs of life are given: if it hangs, there
            are none.
        systemd: gets what is told.
    """

    def __init__(self, reactor: Any, systemd: Systemd) -> None:
        self._systemd = systemd
        self._reactor = reactor
        self._condition: Callable[[], Condition] | None = None  # None until it serves
        self._shown = ""
        self._untold: list[tuple[str, ...]] = []  # at most 3: no reload is added to others
        self._again: IDelayedCall | None = None
        self._beat = LoopingCall(self._sign_of_life)
        self._beat.clock = reactor

    def serving(self, condition: Callable[[], Condition]) -> None:
        """It serves now; from here on its condition is shown (`Lifecycle`)."""
        if self._beat.running:
            return
        self._condition = condition
        self._tell("READY=1")
        self._beat.start(min(STATUS_INTERVAL, self._systemd.watchdog / 2 or STATUS_INTERVAL))

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """It reads its configuration again, until the end of the `with`, whatever the outcome."""
        if not self._untold:
            # systemd 253 and newer wants to know when, to tell this reload from an earlier one
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if self._untold[-1:] != [("READY=1",)]:
                self._tell("READY=1")

    def stopping(self) -> None:
        """It ends; signs of life go on, for a drain takes its time (`Lifecycle`)."""
        self._tell("STOPPING=1")
        if self._beat.running:
            self._sign_of_life()

    def _tell(self, *lines: str) -> None:
        """Tells what systemd acts on; if it has no room, again until it has, in order."""
        self._untold.append(lines)
        self._tell_rest()

    def _tell_rest(self) -> None:
        while self._untold and self._systemd.tell(*self._untold[0]):
            del self._untold[0]
        if self._untold:
            self._soon_again()

    def _sign_of_life(self) -> None:
        if self._condition is None:
            return
        lines = ["WATCHDOG=1"] if self._systemd.watchdog else []
        status = self._condition().sentence
        if status != self._shown:
            lines.append(f"STATUS={status}")
        if not lines:
            return
        if self._systemd.tell(*lines):
            self._shown = status
        else:
            self._soon_again()

    def _soon_again(self) -> None:
        if self._again is None or not self._again.active():
            self._again = self._reactor.callLater(_AGAIN, self._catch_up)

    def _catch_up(self) -> None:
        self._tell_rest()
        self._sign_of_life()
