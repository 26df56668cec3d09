"""`/ws/push/{topic}`: what is published to the topic goes to everyone connected, as it is.

A relay: sits between the WebSocket adapter and the broker's groups. Published by the HTTP API.
"""

from relayd import names, wire
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.relays.member import MemberFactory, MemberProtocol


class PushProtocol(MemberProtocol):
    """A subscriber of one topic."""

    kind = "push"
    factory: "PushFactory"

    async def admit(self, segments: list[str], params: dict[str, list[str]]) -> None:
        """Finds the topic in the path.

        Raises:
            Refusal: 400 `bad_name`, 404.
            Unavailable: the topic cannot be connected to other processes.
        """
        if len(segments) != 1:
            raise Refusal(404, ErrorCode.NOT_FOUND, "The path is /ws/push/{topic}.")
        self.group = f"push/{names.parse_group(segments[0])}"
        await self.factory.groups.prepare(self.group)

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Raises ClientError: `read_only`, whatever was sent; a blank frame is ignored."""
        if not wire.is_blank(payload):
            raise ClientError(
                ErrorCode.READ_ONLY, "This path only sends; publish through the HTTP API."
            )


class PushFactory(MemberFactory):
    """Builds the connections of `/ws/push`; publishes to their topics."""

    protocol = PushProtocol

    def publish(self, topic: str, payload: bytes) -> int:
        """Sends one JSON object to the topic as it is; returns how many got it."""
        return self.groups.publish(f"push/{topic}", payload)
