"""`/ws/push/{topic}`: what is published to the topic goes to everyone connected, as it is.

A relay: sits between the WebSocket adapter and the broker's groups. Published by the HTTP API.
"""

from relayd import wire
from relayd.errors import ClientError, ErrorCode
from relayd.relays.member import MemberFactory, MemberProtocol
from relayd.relays.paths import KINDS


class PushProtocol(MemberProtocol):
    """A subscriber of one topic."""

    entry = KINDS["push"]
    factory: "PushFactory"

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Raises ClientError: `read_only`, whatever was sent; a blank frame is ignored."""
        if not wire.is_blank(payload):
            raise ClientError(ErrorCode.READ_ONLY)


class PushFactory(MemberFactory):
    """Builds the connections of `/ws/push`."""

    protocol = PushProtocol
