"""Which relay a request head is for: that of a WebSocket, or of a client of events.

Under `frontdoor`, which gets the factories of the relays as arguments.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress

from relayd.names import split_events_target, split_target

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*\bwebsocket\b", re.IGNORECASE)


class Relay(Protocol):
    """The factory of a kind of path."""

    def buildProtocol(self, addr: Any, /) -> Any:
        """Builds the protocol of a WebSocket."""

    def build_events(self) -> Any:
        """Builds the protocol of a client of events; None if there are none on its paths."""


class Relays:
    """The relays behind a front door.

    Args:
        relays: the factories by the name of their kind of path.
        unknown: answers WebSocket handshakes on any other path.
    """

    def __init__(self, relays: Mapping[str, Relay], unknown: Relay) -> None:
        self._relays = relays
        self._unknown = unknown

    def build(self, head: bytes, size: int, peer: IAddress) -> Any:
        """Builds the protocol that a request head is for; None if that is no relay's.

        Args:
            head: a whole head, and what came behind it.
            size: bytes of the head.
            peer: of the connection.
        """
        if _UPGRADE.search(head, 0, size):
            return self._relays.get(split_target(head)[0], self._unknown).buildProtocol(peer)
        return self._build_events(head)

    def build_events(self, target: bytes) -> Any:
        """Builds the protocol of a client of events, given the target of a GET; None for others."""
        return self._build_events(b"GET %b " % target)

    def _build_events(self, head: bytes) -> Any:
        found = self._relays.get(split_events_target(head)[0])
        return None if found is None else found.build_events()
