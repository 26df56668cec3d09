"""WebSocket handshakes on any other path: 404 with a body that says which paths there are."""

from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ErrorCode, Refusal
from relayd.names import Kind, Place
from relayd.relays.paths import KINDS


class UnknownProtocol(RelayProtocol):
    """A connection that is refused whatever it asks for."""

    entry = Kind("unknown", ())

    def locate(self, segments: list[str]) -> Place:
        """Raises Refusal: 404."""
        raise Refusal(ErrorCode.NOT_FOUND, KINDS.not_found)


class UnknownFactory(RelayFactory):
    """Builds connections that are refused."""

    protocol = UnknownProtocol
