"""A Django Channels application, as its tutorial has it, for Daphne and for uvicorn.

CHANNEL_LAYER=pubsub REDIS_URL=unix:///run/redis.sock uvicorn bench.peers.channels_app:app

CHANNEL_LAYER is memory, core or pubsub; the last two are those of channels_redis.
The tutorial encodes a message anew for every member; here the group message carries the text.
"""

import os
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import re_path

from bench.peers.poses import BAD_POSE, repack

_LAYERS: dict[str, dict[str, Any]] = {
    "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    "core": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("REDIS_URL", "")]},
    },
    "pubsub": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [os.environ.get("REDIS_URL", "")]},
    },
}

settings.configure(
    DEBUG=False,
    SECRET_KEY="of no use here",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={"default": _LAYERS[os.environ.get("CHANNEL_LAYER", "memory")]},
)
django.setup()

urlpatterns: list[Any] = []  # plain HTTP has no page


class CameraConsumer(AsyncWebsocketConsumer):  # type: ignore[misc, unused-ignore]
    """One connection to `/ws/camera/{group}`."""

    async def connect(self) -> None:
        """Joins the group."""
        self.group = "camera_" + self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leaves it."""
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Passes a pose on to the group."""
        payload = text_data or bytes_data
        if not payload:
            return
        pose = repack(payload)
        if pose is None:
            await self.send(text_data=BAD_POSE.decode())
            return
        await self.channel_layer.group_send(
            self.group, {"type": "camera_message", "message": pose.decode()}
        )

    async def camera_message(self, event: dict[str, Any]) -> None:
        """A pose of the group."""
        await self.send(text_data=event["message"])


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [re_path(r"^ws/camera/(?P<group>[\w.-]+)/?$", CameraConsumer.as_asgi())]
        ),
    }
)
