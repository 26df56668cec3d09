"""`/ws/echo`: sends every text and binary message back unchanged, blank ones too; off by default.

A relay for conformance suites and for checking a proxy.
"""

from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.names import Place
from relayd.native.framing import binary_frame, text_frame
from relayd.relays.paths import KINDS


class EchoProtocol(RelayProtocol):
    """A connection that gets its own messages back."""

    entry = KINDS["echo"]

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Admits every client."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Sends it back."""
        self.send(binary_frame(payload) if is_binary else text_frame(payload))


class EchoFactory(RelayFactory):
    """Builds the connections of `/ws/echo`."""

    protocol = EchoProtocol

    @property
    def max_message_size(self) -> int:
        """Bytes a message may have."""
        return self.context.current.config.echo.max_message_size
