"""A hub on python-websockets and uvloop, with the library's own `broadcast`.

PORT=8080 python -m bench.peers.websockets_hub
"""

import asyncio
import os

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.peers.poses import BAD_POSE, repack

groups: dict[str, set[ServerConnection]] = {}


async def handler(connection: ServerConnection) -> None:
    """One connection."""
    assert connection.request is not None
    group = connection.request.path
    members = groups.setdefault(group, set())
    members.add(connection)
    try:
        async for payload in connection:
            pose = repack(payload) if payload else None
            if pose is not None:
                broadcast(members, pose.decode())
            elif payload:
                await connection.send(BAD_POSE.decode())
    finally:
        members.discard(connection)
        if not members:
            groups.pop(group, None)


async def main() -> None:
    """Serves until it is killed."""
    async with serve(handler, "127.0.0.1", int(os.environ["PORT"]), compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
