"""WebSocket handshakes on any other path: 404 with a body that says which paths there are."""

from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ErrorCode, Refusal


class UnknownProtocol(RelayProtocol):
    """A connection that is refused whatever it asks for."""

    kind = "unknown"

    async def admit(self, segments: list[str], params: dict[str, list[str]]) -> None:
        """Raises Refusal: 404."""
        raise Refusal(
            404,
            ErrorCode.NOT_FOUND,
            "There is no such path; WebSocket paths are /ws/camera, /ws/difficulty/unity/{uuid}, "
            "/ws/difficulty/android/{uuid}, /ws/chat/{room} and /ws/push/{topic}.",
        )


class UnknownFactory(RelayFactory):
    """Builds connections that are refused."""

    protocol = UnknownProtocol
