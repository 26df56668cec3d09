"""A connection that is a member of one group: what `camera`, `push` and `chat` share.

Sits between the WebSocket adapter and the broker's groups.
"""

from relayd.brokers.interface import Groups
from relayd.connection.context import Context
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.names import Place


class MemberProtocol(RelayProtocol):
    """Joins its group when it opens; `admit` names the group and prepares it."""

    factory: "MemberFactory"
    group = ""

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Prepares the group.

        Raises:
            Unavailable: the group cannot be connected to other processes.
        """
        self.group = self.entry.group(place.name)
        await self.factory.groups.prepare(self.group)

    def opened(self) -> None:
        """Joins the group."""
        self.spawn(self.join())

    async def join(self) -> None:
        """Joins the group, unless it may not view, or leaves before that is done.

        Raises:
            Unavailable: the group cannot be connected to other processes.
        """
        if not self.may_view:
            return
        assert self.outbox is not None
        await self.factory.groups.join(self.group, self.outbox)
        if not self.can_send:
            # the client left meanwhile
            self.factory.groups.leave(self.group, self.outbox)

    def check_may_send(self) -> None:
        """Raises ClientError: `forbidden`, its token does not let the client send here."""
        if not self.may_send:
            raise ClientError(ErrorCode.FORBIDDEN, "Your token does not let you send here.")

    def flush(self) -> None:
        """Sends the frames that wait for this client in the group's next batch."""
        if self.outbox is not None:
            self.factory.groups.catch_up(self.group, self.outbox)

    def left(self) -> None:
        """Leaves the group."""
        if self.outbox is not None:
            self.factory.groups.leave(self.group, self.outbox)


class MemberFactory(RelayFactory):
    """Builds connections that are members of one group each."""

    protocol: type[MemberProtocol]

    def __init__(self, context: Context, groups: Groups) -> None:
        super().__init__(context)
        self.groups = groups


def read_flag(params: dict[str, list[str]], name: str) -> bool:
    """A query parameter that is 0, as without it, or 1. Raises Refusal: 400 `bad_request`."""
    value = params.get(name, ["0"])[-1]
    if value not in ("0", "1"):
        raise Refusal(ErrorCode.BAD_REQUEST, f"The parameter {name} is 0 or 1.")
    return value == "1"
