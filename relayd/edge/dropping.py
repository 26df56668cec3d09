"""Drops connections at once, so that their files are free before the next connection is accepted.

Sits under `frontdoor`.
"""

from typing import Any

from twisted.internet.protocol import Protocol

from relayd.sockets.poller import PolledTransport


def drop(transport: Any) -> None:
    """Resets a connection, also one beneath TLS."""
    beneath = getattr(transport, "transport", transport)
    if isinstance(beneath, PolledTransport):
        beneath.drop()
    else:
        transport.abortConnection()


class Dropped(Protocol):
    """A connection that is dropped as soon as it is accepted.

    (`buildProtocol` may not return None, since the wrapper for TLS calls what it returns.)
    """

    transport: Any

    def connectionMade(self) -> None:
        """Drops it; a wrapper needs its transport until this has returned."""
        if isinstance(self.transport, PolledTransport):
            self.transport.drop()
        else:
            self.transport.abortConnection()
