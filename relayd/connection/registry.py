"""The open connections of this process: counts them and closes them all. Pure.

The WebSocket adapter updates it; the pages, the control socket and a drain read it. Handshakes
that were refused with `?refuse=close` are kept apart, so that they never count as clients.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from twisted.internet.defer import Deferred

from relayd.access.identity import Identity
from relayd.close_codes import CloseCode
from relayd.errors import ErrorCode

REFUSED = 32
"""Refused handshakes that may wait for their close at the same time; further ones get a status."""
REFUSED_TIME = 1.0
"""Seconds that a refused handshake has to answer its close."""


class Connection(Protocol):
    """An open connection as the registry sees it."""

    @property
    def kind(self) -> str:
        """The kind of its path, by name."""

    @property
    def identity(self) -> Identity:
        """The bearer of its token."""

    @property
    def address(self) -> str:
        """The client's own IP address, or `unix:`."""

    def close(
        self,
        code: int,
        reason: str | None = None,
        error: ErrorCode | None = None,
        message: str | None = None,
    ) -> None:
        """Begins the closing handshake, for a code from 4000 on after an error frame."""

    def abort(self) -> None:
        """Drops the TCP connection at once."""


class Connections:
    """Every connection from its answered handshake to the end of its TCP connection."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._refused: set[Connection] = set()
        self._empty: list[Deferred[None]] = []
        self._arriving = 0
        self._arrived: list[Deferred[None]] = []

    def arrives(self, admission: "Deferred[None]") -> None:
        """Counts a handshake that waits for its admission, until that fires."""
        self._arriving += 1

        def decided(result: object) -> object:
            self._arriving -= 1
            self._report_if_all_arrived()
            return result

        admission.addBoth(decided)

    def all_arrived(self) -> "Deferred[None]":
        """Fires when no handshake waits for its admission; the answer to the last follows."""
        arrived: Deferred[None] = Deferred()
        self._arrived.append(arrived)
        self._report_if_all_arrived()
        return arrived

    def _report_if_all_arrived(self) -> None:
        if not self._arriving:
            waiting, self._arrived = self._arrived, []
            for arrived in waiting:
                arrived.callback(None)

    def add(self, connection: Connection) -> None:
        """Counts a connection whose handshake was answered."""
        self._open.add(connection)

    def add_refused(self, connection: Connection) -> None:
        """Keeps a refused connection, which has begun to close; it counts nowhere."""
        self._refused.add(connection)

    def time_to_close(self, connection: Connection, timeout: float) -> float:
        """Seconds that a connection has to end after its close: `timeout`, or less if refused."""
        return min(timeout, REFUSED_TIME) if connection in self._refused else timeout

    @property
    def refused(self) -> int:
        """The number of refused connections that have not answered their close yet."""
        return len(self._refused)

    @property
    def arriving(self) -> int:
        """The number of handshakes that wait for their admission."""
        return self._arriving

    @property
    def may_refuse_with_close(self) -> bool:
        """Whether another refused connection may be kept."""
        return len(self._refused) < REFUSED

    def remove(self, connection: Connection) -> None:
        """Its TCP connection has ended; no effect if it was never added."""
        self._open.discard(connection)
        self._refused.discard(connection)
        if not self._open and not self._refused:
            waiting, self._empty = self._empty, []
            for deferred in waiting:
                deferred.callback(None)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def counts(self) -> dict[str, int]:
        """The number of open connections, by the kind of path."""
        return dict(Counter(connection.kind for connection in self._open))

    def close_all(self, code: CloseCode) -> None:
        """Begins to close every connection."""
        for connection in tuple(self._open):
            connection.close(code)

    def abort_all(self) -> None:
        """Drops every connection that is still open."""
        for connection in (*self._open, *self._refused):
            connection.abort()

    def all_gone(self) -> "Deferred[None]":
        """Fires when no connection is left; at once if there is none."""
        deferred: Deferred[None] = Deferred()
        if self._open or self._refused:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred
