"""`/ws/camera[/{group}]`: every pose goes to all members of the group, its sender included.

A relay: sits between the WebSocket adapter and the broker's groups.
"""

from relayd import wire
from relayd.brokers.interface import Publish
from relayd.native.inlet import Passage
from relayd.relays.member import MemberFactory, MemberProtocol
from relayd.relays.paths import KINDS


class CameraProtocol(MemberProtocol):
    """A camera or a viewer: both may send, both see everything, unless a token restricts them."""

    entry = KINDS["camera"]
    factory: "CameraFactory"
    _publish: Publish | None = None

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
            key = self._number if self.factory.latest else None
            self._publish = self.factory.groups.publisher(self.group, key)
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
        """Whether a newer pose of a sender replaces an older one that waits for a slow viewer."""
        return self.context.current.config.camera.slow_viewers == "latest"
