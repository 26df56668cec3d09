"""`/ws/camera[/{group}]`: every pose goes to all members of the group, its sender included.

A relay: sits between the WebSocket adapter and the broker's groups.
"""

from relayd import wire
from relayd.brokers.interface import Publish
from relayd.names import Place
from relayd.native.inlet import Passage
from relayd.relays.member import MemberFactory, MemberProtocol, read_flag
from relayd.relays.paths import KINDS


class CameraProtocol(MemberProtocol):
    """A camera or a viewer: both may send, both see everything, unless a token restricts them."""

    entry = KINDS["camera"]
    factory: "CameraFactory"
    _publish: Publish | None = None
    _labelled = False

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Reads whether the viewer asks for the names of senders; prepares the group.

        Raises:
            Refusal: 400 `bad_request`, `senders` is neither 0 nor 1.
            Unavailable: the group cannot be connected to other processes.
        """
        self._labelled = read_flag(params, "senders")
        await super().admit(place, params)

    async def join(self) -> None:
        """Joins the group: with the names of senders or without, with every pose or the newest.

        Raises:
            Unavailable: the group cannot be connected to other processes.
        """
        assert self.outbox is not None
        self.outbox.labelled = self._labelled
        self.outbox.keeps_all = not self.factory.latest
        await super().join()

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Publishes a pose to the group.

        A client that may not view is no member of the group, and gets its echo from here.

        Raises:
            ClientError: `bad_json`, `bad_pose`; `forbidden`, it may not send.
        """
        pose = wire.decode_pose(payload)
        if pose is None:
            return
        if self._publish is None:
            self.check_may_send()
            self._publish = self.factory.groups.publisher(self.group, self._number)
            if self.may_view:
                self.shorten(
                    Passage(wire.decode_short_pose, wire.encode, self._publish, self.received)
                )
        payload = wire.encode(pose)
        self._publish(payload)
        if not self.may_view:
            self.send_payload(payload)


class CameraFactory(MemberFactory):
    """Builds the connections of `/ws/camera`."""

    protocol = CameraProtocol

    @property
    def latest(self) -> bool:
        """Whether a newer pose of a sender replaces an older one that waits for a new viewer."""
        return self.context.current.config.camera.slow_viewers == "latest"
