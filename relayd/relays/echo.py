"""`/ws/echo`: every text and binary message back unchanged, blank ones too; off by default.

A relay for conformance suites and for checking a proxy.
"""

from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ErrorCode, Refusal
from relayd.native.framing import binary_frame, text_frame


class EchoProtocol(RelayProtocol):
    """A connection that talks to itself."""

    kind = "echo"

    async def admit(self, segments: list[str], params: dict[str, list[str]]) -> None:
        """Raises Refusal: 404 when echo is off or the path goes on."""
        if segments or not self.factory.context.config.echo.enabled:
            raise Refusal(
                404, ErrorCode.NOT_FOUND, "There is no such path, or [echo] enabled is false."
            )

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Sends it back."""
        self.send(binary_frame(payload) if is_binary else text_frame(payload))


class EchoFactory(RelayFactory):
    """Builds the connections of `/ws/echo`."""

    protocol = EchoProtocol

    @property
    def max_message_size(self) -> int:
        """Bytes a message may have."""
        return self.context.config.echo.max_message_size
