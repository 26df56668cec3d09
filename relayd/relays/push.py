"""`/ws/push/{topic}`: what is published to the topic goes to everyone connected, as it is.

A relay: sits between the WebSocket adapter and the broker's groups. Published by the HTTP API.
"""

from relayd import names, wire
from relayd.brokers.interface import Groups
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.websocket import Context, RelayFactory, RelayProtocol


class PushProtocol(RelayProtocol):
    """A subscriber of one topic."""

    kind = "push"
    factory: "PushFactory"
    group = ""

    async def admit(self, segments: list[str], params: dict[str, list[str]]) -> None:
        """Finds the topic in the path.

        Raises:
            Refusal: 400 `bad_name`, 404.
            RedisUnavailable: the topic cannot be connected to other processes.
        """
        if len(segments) != 1:
            raise Refusal(404, ErrorCode.NOT_FOUND, "The path is /ws/push/{topic}.")
        self.group = f"push/{names.parse_group(segments[0])}"
        await self.factory.groups.prepare(self.group)

    def opened(self) -> None:
        """Joins the topic's group."""
        self.spawn(self._join())

    async def _join(self) -> None:
        assert self.outbox is not None
        await self.factory.groups.join(self.group, self.outbox)
        if not self.can_send:
            # it left meanwhile
            self.factory.groups.leave(self.group, self.outbox)

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Raises ClientError: `read_only`, whatever was sent; a blank frame is ignored."""
        if not wire.is_blank(payload):
            raise ClientError(
                ErrorCode.READ_ONLY, "This path only sends; publish through the HTTP API."
            )

    def flush(self) -> None:
        """Sends what waits in the group for its next batch."""
        self.factory.groups.flush(self.group)

    def left(self) -> None:
        """Leaves the group."""
        if self.outbox is not None:
            self.factory.groups.leave(self.group, self.outbox)


class PushFactory(RelayFactory):
    """Builds the connections of `/ws/push`; publishes to their topics."""

    protocol = PushProtocol

    def __init__(self, context: Context, groups: Groups) -> None:
        super().__init__(context)
        self.groups = groups

    def publish(self, topic: str, payload: bytes) -> int:
        """Sends one JSON object to the topic as it is; returns how many got it."""
        return self.groups.publish(f"push/{topic}", payload)
