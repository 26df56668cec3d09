"""WebSocket handshakes on any other path: 404 with a body that names the paths there are.

A relay: sits on the WebSocket adapter; the front door uses it where no other relay fits.
"""

from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ErrorCode, Refusal
from relayd.names import Kind, Place
from relayd.relays.paths import KINDS


class UnknownProtocol(RelayProtocol):
    """A connection whose handshake is always refused."""

    entry = Kind("unknown", ())

    def locate(self, segments: list[str]) -> Place:
        """Refuses every path. Raises Refusal: 404."""
        raise Refusal(ErrorCode.NOT_FOUND, KINDS.not_found)


class UnknownFactory(RelayFactory):
    """Builds connections that are refused."""

    protocol = UnknownProtocol
