"""A peer that ends its half of a connection when its request is sent gets its answer all the same.

Under `frontdoor`. RFC 9112 section 9.6: the end of what a client sends is no end of its reading.
"""

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class HalfClosing(Protocol):
    """A connection that goes on while answers are in progress, although its peer sends no more."""

    transport: Any
    half_closed = False
    """Whether the peer sends no more."""

    def is_answering(self) -> bool:
        """Whether a whole request waits for its answer."""
        raise NotImplementedError

    def end(self) -> None:
        """Ends the connection when its answers are sent, which may take a moment."""
        raise NotImplementedError

    def end_if_half_closed(self) -> None:
        """Ends the connection of such a peer if no request of its is left."""
        if self.half_closed and not self.is_answering():
            self.end()

    def readConnectionLost(self) -> None:  # noqa: N802
        """The peer sends no more (`IHalfCloseableProtocol`)."""
        self.half_closed = True
        self.end_if_half_closed()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """We send no more: a refusal is sent (`IHalfCloseableProtocol`)."""
