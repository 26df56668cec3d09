"""A Django site beside relayd: its consumers and its shell, on the real Channels over Redis.

Run as a program: `python -m tests.django_site unix:///redis.sock`. Reads commands and prints what
its consumers get, a line of JSON each: `send GROUP JSON` is `group_send` from a Django shell.
"""

import asyncio
import json
import sys
from typing import Any


def configure(url: str) -> None:
    """The settings that such a site has."""
    from django.conf import settings

    settings.configure(
        CHANNEL_LAYERS={
            "default": {
                "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                "CONFIG": {"hosts": [url]},
            }
        }
    )


async def main(url: str) -> None:
    """Serves until stdin ends."""
    configure(url)
    from asgiref.testing import ApplicationCommunicator
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.layers import get_channel_layer

    class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc, unused-ignore]
        """What tutorials write: joins a group, sends on what comes."""

        async def connect(self) -> None:
            self.group = self.scope["path"].strip("/")
            await self.channel_layer.group_add(self.group, self.channel_name)
            await self.accept()

        async def chat_message(self, event: dict[str, Any]) -> None:
            await self.send(text_data=json.dumps([self.group, event["message"]]))

        async def camera_message(self, event: dict[str, Any]) -> None:
            await self.send(text_data=json.dumps([self.group, event["message"]]))

    async def listen(group: str) -> None:
        scope = {"type": "websocket", "path": f"/{group}/", "headers": [], "query_string": b""}
        browser = ApplicationCommunicator(Consumer.as_asgi(), scope)
        await browser.send_input({"type": "websocket.connect"})
        assert (await browser.receive_output(timeout=30))["type"] == "websocket.accept"
        print(json.dumps(["ready", group]), flush=True)
        while True:
            print((await browser.receive_output(timeout=3600))["text"], flush=True)

    layer = get_channel_layer()
    tasks = [asyncio.create_task(listen(group)) for group in ("Camera_group", "chat_lobby")]
    while line := await asyncio.to_thread(sys.stdin.readline):
        _, group, message = line.split(" ", 2)
        await layer.group_send(group, json.loads(message))
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
