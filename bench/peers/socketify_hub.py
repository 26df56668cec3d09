"""A hub on uWebSockets (C++) through socketify: its own publish over the subscribers of a topic.

PORT=8080 python -m bench.peers.socketify_hub

Its loop asks the sockets over and over, so that it has all of its core at any load.
"""

import os
from typing import Any

from socketify import App, CompressOptions, OpCode

from bench.peers.poses import BAD_POSE, repack

_MOST_WAITING = 16 * 1024 * 1024  # bytes for a slow reader; its default of 64 KB loses poses sooner
app: Any = App()


def upgrade(response: Any, request: Any, socket_context: Any) -> None:
    """Answers the handshake; the path is the group."""
    key = request.get_header("sec-websocket-key")
    protocol = request.get_header("sec-websocket-protocol")
    extensions = request.get_header("sec-websocket-extensions")
    response.upgrade(key, protocol, extensions, socket_context, request.get_url())


def joined(client: Any) -> None:
    """Subscribes."""
    client.subscribe(client.get_user_data())


def received(client: Any, message: str | bytes, opcode: Any) -> None:
    """Publishes a pose to everyone, its sender too."""
    if not message:
        return
    payload = repack(message)
    if payload is None:
        client.send(BAD_POSE, OpCode.TEXT)
    else:
        app.publish(client.get_user_data(), payload, OpCode.TEXT)


def main() -> None:
    """Serves until it is killed."""
    app.ws(
        "/*",
        {
            "compression": CompressOptions.DISABLED,
            "max_backpressure": _MOST_WAITING,
            "upgrade": upgrade,
            "open": joined,
            "message": received,
        },
    )
    app.listen({"port": int(os.environ["PORT"]), "host": "127.0.0.1"})
    app.run()


if __name__ == "__main__":
    main()
