"""A hub on picows and uvloop: a straight loop of sends over the members of the group.

PORT=8080 python -m bench.peers.picows_hub
"""

import asyncio
import os

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from bench.peers.poses import BAD_POSE, repack

TEXT = WSMsgType.TEXT
groups: dict[bytes, set[WSTransport]] = {}


class Member(WSListener):  # type: ignore[misc, unused-ignore]
    """One connection."""

    def __init__(self, group: bytes) -> None:
        super().__init__()
        self.group = group
        self.members = groups.setdefault(group, set())

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Joins."""
        self.members.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Passes a pose on."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if frame.msg_type is not TEXT and frame.msg_type is not WSMsgType.BINARY:
            return
        if not frame.payload_size:
            return
        payload = repack(frame.get_payload_as_memoryview())
        if payload is None:
            transport.send(TEXT, BAD_POSE)
            return
        for member in self.members:
            member.send(TEXT, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leaves."""
        self.members.discard(transport)
        if not self.members:
            groups.pop(self.group, None)


def listener(request: WSUpgradeRequest) -> Member | None:
    """A member for a handshake; None answers 404."""
    if not request.path.startswith(b"/ws/camera"):
        return None
    return Member(request.path)


async def main() -> None:
    """Serves until it is killed."""
    port = int(os.environ["PORT"])
    server = await ws_create_server(listener, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
