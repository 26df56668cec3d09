"""Notices peers that are gone: one sweep over all connections instead of timers in each.

Sits beside the WebSocket adapter. A connection that was silent for `interval` seconds is pinged
(RFC 6455 section 5.5.2); one that stays silent for `timeout` more is closed with 4002. Any byte
received counts as life. Times are exact to one sweep, a tenth of the interval.
"""

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from relayd.logs import Logger


class Peer(Protocol):
    """A connection as the sweep sees it."""

    heard: bool
    """Set by the connection whenever bytes come in, cleared by the sweep."""

    silent: float
    """Seconds without a byte, as far as the sweep has seen; kept here by the sweep."""

    def ping(self) -> None:
        """Sends a ping."""

    def close_silent(self) -> None:
        """Closes with 4002: no pong came."""


class Keepalive:
    """All open connections of the process, swept in turns."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, *, interval: float, timeout: float) -> None:
        self._set(interval, timeout)
        self._peers: set[Peer] = set()
        self._loop = LoopingCall(self._sweep)
        self._loop.clock = clock

    def _set(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._step = min(interval, timeout) / 10

    def change(self, *, interval: float, timeout: float) -> None:
        """Goes on with other times; the silence of each connection so far counts."""
        if (interval, timeout) != (self._interval, self._timeout):
            self._set(interval, timeout)
            if self._loop.running:
                self.stop()
                self.start()

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
        """No longer watches it; no effect if it was not watched."""
        self._peers.discard(peer)

    def _sweep(self) -> None:
        for peer in tuple(self._peers):
            if peer.heard:
                peer.heard = False
                peer.silent = 0.0
                continue
            before = peer.silent
            peer.silent += self._step
            try:
                if peer.silent >= self._interval + self._timeout:
                    self._peers.discard(peer)
                    peer.close_silent()
                elif before < self._interval <= peer.silent:
                    peer.ping()
            except Exception:
                self._log.failure("the keepalive of {peer} failed", peer=peer)
