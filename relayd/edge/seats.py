"""The seats of TCP connections: how many the open files allow, and which connection yields.

Sits under `frontdoor`, which takes a seat for every connection that a port accepts. A process may
open so many files (RLIMIT_NOFILE, setrlimit(2)); with none left, it can neither open its database
nor answer `/healthz`. So connections get the files that relayd does not need itself, and WebSockets
get those except a share. The share is for connections that have not asked for anything yet and for
plain HTTP: when no seat is free, the oldest of them yields to the next one.
"""

import os
import resource
from collections.abc import Callable
from typing import Protocol

from relayd.config import Config
from relayd.config.current import Current
from relayd.edge.addresses import Addresses, Source
from relayd.logs import Logger

DATABASE_FILES = 3
"""Files for each connection to the database: SQLite has its file, the WAL and its index."""
REDIS_FILES = 4
"""Files for each Redis server: commands, subscriptions, and one of each that is about to end."""
SHARE = 1024
"""The most seats in the share; and the least, unless there are few seats in all."""
LEAST_SHARE = 16
SITE_CONNECTIONS = 2
"""Connections to the database of a Django site; handshakes wait for one."""
FEW = 100
"""The number of WebSockets below which the limit of open files is a mistake."""
WARN_EVERY = 60.0
"""Seconds between two warnings of one kind."""
UNLIMITED = 1 << 30


class Visitor(Protocol):
    """A connection that may have to yield."""

    def drop(self) -> None:
        """Ends the connection at once."""

    def end(self) -> None:
        """Ends the connection when its answers are sent."""


class Seat:
    """The seat of one TCP connection, from its acceptance to its end."""

    __slots__ = ("_fresh", "_seats", "_source", "host", "yielded")

    def __init__(self, seats: "Seats | None", host: str, source: Source | None) -> None:
        self._seats = seats
        self._source = source
        self._fresh = True
        self.host = host
        self.yielded = False
        if source is not None:
            source.open += 1
            source.fresh += 1
        if seats is not None:
            seats.half_open += 1

    def understood(self) -> None:
        """Its request head is whole."""
        if not self._fresh:
            return
        self._fresh = False
        if self._source is not None:
            self._source.fresh -= 1
        if self._seats is not None:
            self._seats.half_open -= 1

    def check_handshake(self, host: str) -> None:
        """Counts the connection for its client, and checks a handshake.

        Args:
            host: the address of the client, behind a trusted proxy perhaps.

        Raises:
            Refusal: 429.
        """
        seats = self._seats
        if seats is None:
            return
        if host != self.host:
            self._leave_source(seats)
            self.host = host
            self._source = seats.addresses.find(host)
            if self._source is not None:
                self._source.open += 1
        if self._source is not None:
            seats.addresses.check_handshake(self._source)

    def failed(self) -> None:
        """A token, a key or a UUID that the client showed was not valid."""
        if self._seats is not None and self._source is not None:
            self._seats.addresses.failed(self.host)

    def leave(self) -> None:
        """The connection has ended; no effect the second time."""
        self.understood()
        seats, self._seats = self._seats, None
        if seats is not None:
            self._leave_source(seats)
            seats.taken -= 1
            seats.leaving -= self.yielded

    def _leave_source(self, seats: "Seats") -> None:
        if self._source is not None:
            self.understood()
            self._source.open -= 1
            seats.addresses.rest(self._source)
            self._source = None


NO_SEAT = Seat(None, "", None)
"""The seat of a connection that no front door has accepted; its methods do nothing."""


class Seats:
    """The seats of one process.

    Args:
        current: holds the configuration.
        now: seconds, by a clock that is not set.

    Attributes:
        addresses: the limits per address.
        taken: TCP connections, of any kind, that have not ended.
        leaving: those of them that have yielded, and end in this turn of the reactor.
        half_open: those of them whose first request head is not whole yet.
        fresh: the same, the oldest first; and those whose first request is about to be dispatched.
        sending: connections whose request body is not whole yet, the oldest first.
        kept: connections between two HTTP requests, the oldest first.
        yielded: how many connections had to yield so far.
        dropped: how many connections were dropped so far at once: `full`, none could yield;
            `half_open`, their address had too many without a request head; `files`, no open file
            was left for them.
    """

    _log = Logger()

    def __init__(self, current: Current, now: Callable[[], float]) -> None:
        self._current = current
        self._now = now
        self.addresses = Addresses(current, now)
        self._files = UNLIMITED
        self.taken = self.leaving = self.half_open = 0
        self.fresh: dict[Visitor, None] = {}
        self.sending: dict[Visitor, None] = {}
        self.kept: dict[Visitor, None] = {}
        self.yielded = 0
        self.dropped = {"full": 0, "half_open": 0, "files": 0}
        self._warned_at: dict[str, float] = {}
        self._compute()
        current.watch(self._compute, "limits")

    def measure(self, limit: int, opened: int) -> None:
        """Learns how many files connections may have.

        Args:
            limit: the number of files that the process may open.
            opened: the number that it has opened before the first connection.
        """
        self._files = files_for_clients(self._current.config, limit, opened)
        self._compute()
        wanted = self._current.config.limits.max_connections
        if wanted > self.websockets:
            self._log.warn(
                "[limits] max_connections is {wanted}, but the limit of {limit} open files allows "
                "{websockets}: raise LimitNOFILE in the unit, or ulimit -n",
                wanted=wanted,
                limit=limit,
                websockets=self.websockets,
            )
        elif self.websockets < FEW:
            self._log.warn(
                "the limit of {limit} open files allows only {websockets} WebSockets: raise "
                "LimitNOFILE in the unit, or ulimit -n",
                limit=limit,
                websockets=self.websockets,
            )

    def _compute(self) -> None:
        wanted = self._current.config.limits.max_connections or UNLIMITED
        share = share_of(self._files)
        self.websockets = min(wanted, self._files - share)
        """The largest number of WebSockets."""
        self.total = self.websockets + share
        """The largest number of TCP connections."""
        self._bound_by_files = self.websockets < wanted

    def take(self, host: str) -> Seat | None:
        """Takes a seat for a connection that was just accepted; the oldest visitor yields for it.

        Args:
            host: the address of the peer, or `unix:`.

        Returns:
            None if the address has too many without a request head, or if all seats are taken by
            connections that do not yield.
        """
        source = self.addresses.find(host)
        if source is not None and not self.addresses.may_connect(source):
            self.dropped["half_open"] += 1
            return None
        if self.taken - self.leaving >= self.total and not self._make_room():
            if source is not None:
                self.addresses.rest(source)
            if self._bound_by_files:
                self.out_of_files(1)
                return None
            self.dropped["full"] += 1
            if self._may_warn("full"):
                self._log.warn(
                    "all {total} seats are taken, and none of them yields: new connections are "
                    "dropped",
                    total=self.total,
                )
            return None
        self.taken += 1
        return Seat(self, host, source)

    def share(self, host: str) -> Seat:
        """A further seat for a connection that has several clients of events (HTTP/2).

        Args:
            host: the address of the peer, or `unix:`.
        """
        self.taken += 1
        seat = Seat(self, host, self.addresses.find(host))
        seat.understood()
        return seat

    def out_of_files(self, count: int) -> None:
        """Connections were dropped as soon as they were accepted: clients have no file left."""
        self.dropped["files"] += count
        if self._may_warn("files"):
            self._log.warn(
                "of {limit} open files none is left for clients: new connections are dropped "
                "without an answer; raise LimitNOFILE in the unit, or ulimit -n",
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )

    def _may_warn(self, reason: str) -> bool:
        """Whether the last warning of this kind is long ago."""
        now = self._now()
        if now - self._warned_at.get(reason, -WARN_EVERY) < WARN_EVERY:
            return False
        self._warned_at[reason] = now
        return True

    def _make_room(self) -> bool:
        """Has the oldest visitor yield. False if there is none."""
        for visitors in (self.fresh, self.sending, self.kept):
            for visitor in visitors:
                del visitors[visitor]
                self.yielded += 1
                visitor.drop()
                return True
        return False


def files_for_clients(config: Config, limit: int, opened: int) -> int:
    """The number of files that connections may have.

    Args:
        config: the configuration.
        limit: the number of files that the process may open.
        opened: the number that it has opened before the first connection.
    """
    own = config.limits.reserved_files
    own += DATABASE_FILES * config.database.pool_size
    own += REDIS_FILES * len(config.redis.url.split())
    if config.django.url:
        own += DATABASE_FILES * SITE_CONNECTIONS + REDIS_FILES
    return max(2, limit - opened - own)


def share_of(files: int) -> int:
    """The number of seats that no WebSocket gets, of those that connections may have."""
    return min(SHARE, max(LEAST_SHARE, files // 8), files // 2)


def count_files() -> tuple[int, int]:
    """The number of files that this process may open, and the number that it has opened."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = UNLIMITED if limit == resource.RLIM_INFINITY else limit
    try:
        return limit, len(os.listdir("/proc/self/fd"))
    except OSError:  # /proc is not mounted
        return limit, 32
