"""Detects dead peers: one sweep over all connections instead of timers in each.

Sits beside the WebSocket adapter. A connection that was silent for `[keepalive] ping_interval`
seconds is pinged (RFC 6455 section 5.5.2); one that stays silent for `pong_timeout` more is closed
with 4002. Any received byte ends the silence. Times are exact to one sweep, a tenth of the shorter.
Nobody is closed who was not pinged, and who was pinged has the `pong_timeout` of that moment.
"""

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relayd.config.current import Current
from relayd.logs import Logger


class Peer(Protocol):
    """A connection as the sweep sees it."""

    alive: bool
    """Set by the connection whenever bytes come in, cleared by the sweep."""

    silent: float
    """Seconds without a byte, as counted by the sweep, which stores them here."""

    def ping(self) -> None:
        """Sends a ping."""

    def close_silent(self) -> None:
        """Closes with 4002: no pong came."""


class Keepalive:
    """All open connections of the process, swept in turns.

    A reload may change the times; the silence of each connection until then counts, up to its ping.

    Args:
        clock: for the sweeps.
        current: holds `[keepalive] ping_interval` and `pong_timeout`, in seconds.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, current: Current) -> None:
        self._current = current
        self._peers: set[Peer] = set()
        self._pinged: dict[Peer, float] = {}  # the seconds that each has left to answer
        self._loop = LoopingCall(self._sweep)
        self._loop.clock = clock
        self._read_times()
        current.watch(self._follow, "keepalive")

    def _read_times(self) -> None:
        settings = self._current.config.keepalive
        self._interval = settings.ping_interval
        self._timeout = settings.pong_timeout
        self._step = min(self._interval, self._timeout) / 10

    def _follow(self) -> None:
        step = self._step
        self._read_times()
        if self._step != step and self._loop.running:
            self.stop()
            self.start()

    @property
    def within(self) -> float:
        """Seconds after which a peer that only answers pings gets the next one, at most."""
        return self._interval + 2 * self._step

    def start(self) -> None:
        """Begins to sweep."""
        self._loop.start(self._step, now=False)

    def stop(self) -> None:
        """Ends the sweep."""
        if self._loop.running:
            self._loop.stop()

    def add(self, peer: Peer) -> None:
        """Watches a connection."""
        self._peers.add(peer)

    def remove(self, peer: Peer) -> None:
        """Stops watching a connection; no effect if it was not watched."""
        self._peers.discard(peer)
        self._pinged.pop(peer, None)

    def _sweep(self) -> None:
        for peer in tuple(self._peers):
            if peer.alive:
                peer.alive = False
                peer.silent = 0.0
                self._pinged.pop(peer, None)
                continue
            peer.silent += self._step
            left = self._pinged.get(peer)
            try:
                if left is not None:
                    self._wait_on(peer, left - self._step)
                elif peer.silent >= self._interval and peer in self._peers:
                    self._pinged[peer] = self._timeout
                    peer.ping()
            except Exception:
                self._log.failure("the keepalive of {peer} failed", peer=peer)

    def _wait_on(self, peer: Peer, left: float) -> None:
        if left > 0:
            self._pinged[peer] = left
        else:
            self.remove(peer)
            peer.close_silent()
