"""Exchanges messages with programs that use Django Channels over the same Redis.

`channels_redis.pubsub.RedisPubSubChannelLayer` publishes a group's messages to the Redis channel
`<prefix>__group__<group>` as msgpack of the message's dict. Sits under `over_redis`, which
subscribes and publishes through it; groups and messages are translated here by the table of paths:

    camera/NAME  group NAME        {"type": "camera_message", "message": {"x": …, "y": …, "z": …}}
    chat/ROOM    group chat_ROOM   {"type": "chat_message", "message": "…"}
    push/TOPIC   group push_TOPIC  {"type": "push_message", "message": {…}}

A group whose Django name would belong to another kind is not subscribed: a camera group that begins
with `chat_` or `push_`. Each message that relayd publishes to Django has a further member,
`relayd`, which consumers of Django ignore. Every relayd drops such messages, so none loops.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from relayd import wire
from relayd.brokers.foreign import Foreign
from relayd.errors import ClientError
from relayd.logs import Logger
from relayd.names import Content, Kinds, split_group
from relayd.redis.server import RedisServer

Receiver = Callable[[str, Any], object]
"""Receives a message of Django: the group, and its JSON payload, or its text in a chat room."""

# channels.layers.BaseChannelLayer.valid_group_name
_VALID = re.compile(r"[a-zA-Z0-9._-]{1,99}")


class DjangoChannels:
    """The groups of Django Channels.

    Args:
        server: the Redis that Django uses.
        prefix: the prefix of the channel layer, as in Django's settings.
        process: the unique id of this process.
        kinds: the table of paths.
        foreign: checks what comes from Django.
    """

    _log = Logger()

    def __init__(
        self, server: RedisServer, prefix: str, process: str, kinds: Kinds, foreign: Foreign
    ) -> None:
        self._server = server
        self._foreign = foreign
        self._prefix = prefix
        self._process = process
        self._kinds = {kind.name: (kind, kind.django) for kind in kinds if kind.django is not None}
        prefixes = {name: django.prefix for name, (_, django) in self._kinds.items()}
        # the prefixes of other kinds, which a kind's names must not begin with
        self._reserved = {
            name: tuple(other for other in prefixes.values() if len(other) > len(prefix))
            for name, prefix in prefixes.items()
        }
        self._receivers: dict[str, Receiver] = {}

    def register(self, kind: str, receiver: Receiver) -> None:
        """Registers the receiver of Django's messages to the groups of a kind."""
        self._receivers[kind] = receiver

    def channel(self, group: str) -> str | None:
        """The Redis channel of a group; None if Django Channels has no valid name for the group."""
        kind, name = split_group(group)
        if kind not in self._kinds:
            return None
        theirs = self._kinds[kind][1].group.format(name)
        # a camera group must not look like a room: poses would end Django's chat consumers
        if theirs.startswith(self._reserved[kind]) or not _VALID.fullmatch(theirs):
            return None
        return f"{self._prefix}__group__{theirs}"

    async def subscribe(self, group: str) -> None:
        """Receives Django's messages to a group from now on. Raises RedisUnavailable."""
        channel = self.channel(group)
        if channel is not None:
            await self._server.subscribe(channel, partial(self._received, group))

    def subscribe_later(self, group: str) -> None:
        """As `subscribe`, as soon as Redis is available."""
        channel = self.channel(group)
        if channel is not None:
            self._server.subscribe_later(channel, partial(self._received, group))

    def unsubscribe(self, group: str) -> None:
        """Stops receiving Django's messages to a group."""
        channel = self.channel(group)
        if channel is not None:
            self._server.unsubscribe(channel)

    def publish(self, group: str, payload: bytes) -> None:
        """Sends a JSON payload to the consumers in a group."""
        self._send(group, msgspec.json.decode(payload))

    def post(self, group: str, text: str) -> None:
        """Sends the text of a chat message to the consumers in a room."""
        self._send(group, text)

    def _send(self, group: str, message: Any) -> None:
        channel = self.channel(group)
        if channel is not None:
            _, django = self._kinds[split_group(group)[0]]
            data = {"type": django.type, "message": message, "relayd": self._process}
            try:
                packed = msgspec.msgpack.encode(data)
            except (OverflowError, msgspec.MsgspecError) as error:
                # msgpack's integers have 64 bits; relayd's own clients got the message
                self._log.warn("{group}: not sent to Django: {why}", group=group, why=str(error))
            else:
                self._server.publish(channel.encode(), packed)

    def _received(self, group: str, data: bytes) -> None:
        kind, django = self._kinds[split_group(group)[0]]
        try:
            event = msgspec.msgpack.decode(self._foreign.check_size(data))
            if not isinstance(event, dict) or "relayd" in event:
                return
            # Django Channels replaces the dots in a type before it dispatches
            if str(event.get("type")).replace(".", "_") != django.type:
                return
            self._receivers[kind.name](group, _checked(kind.content, event["message"]))
        except (
            msgspec.MsgspecError, ClientError, LookupError, RecursionError, TypeError, ValueError
        ) as error:  # fmt: skip
            self._foreign.drop(f"{group} of Django", error)


def _checked(content: Content, message: Any) -> Any:
    """The checked payload or text that clients may get. Raises ClientError or ValueError."""
    if content is Content.TEXT:
        if not isinstance(message, str):
            raise ValueError("the message of a chat_message is a text")
        return message
    payload = wire.check_object(msgspec.json.encode(message))
    if content is Content.POSE:
        return wire.encode(wire.decode_pose(payload))
    return payload
