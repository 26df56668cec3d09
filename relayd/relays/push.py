"""`/ws/push/{topic}`: every payload published to the topic goes to its subscribers, unchanged.

A relay: sits between the WebSocket adapter and the broker's groups. The HTTP API publishes.
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
        """Refuses every message. Raises ClientError: `read_only`; ignores a blank frame."""
        if not wire.is_blank(payload):
            raise ClientError(ErrorCode.READ_ONLY)


class PushFactory(MemberFactory):
    """Builds the connections of `/ws/push`."""

    protocol = PushProtocol
