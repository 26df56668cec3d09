"""The way to and from programs that use Django Channels over the same Redis.

`channels_redis.pubsub.RedisPubSubChannelLayer` publishes a group's messages to the Redis channel
`<prefix>__group__<group>` as msgpack of the message's dict. Sits under `over_redis`, which asks it
to subscribe and to publish; groups and messages are translated here, as the table of paths says:

    camera/NAME  group NAME        {"type": "camera_message", "message": {"x": …, "y": …, "z": …}}
    chat/ROOM    group chat_ROOM   {"type": "chat_message", "message": "…"}
    push/TOPIC   group push_TOPIC  {"type": "push_message", "message": {…}}

A group whose name would be one of another kind is not joined: a camera group that begins with
`chat_` or `push_`. What relayd publishes there
carries a further member, `relayd`; every relayd leaves such messages out when they come, so none
goes round. Consumers of Django ignore it.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from relayd import wire
from relayd.errors import ClientError
from relayd.logs import Logger
from relayd.names import Content, Kinds, split_group
from relayd.redis.server import RedisServer

Take = Callable[[str, Any], object]
"""Takes a message of Django: the group, and the JSON payload, or the text where that is kept."""

# channels.layers.BaseChannelLayer.valid_group_name
_VALID = re.compile(r"[a-zA-Z0-9._-]{1,99}")


class DjangoChannels:
    """The groups of Django Channels.

    Args:
        server: the Redis that Django uses.
        prefix: the channel layer's.
        process: the unique id of this process.
        kinds: the table of paths.
    """

    _log = Logger()

    def __init__(self, server: RedisServer, prefix: str, process: str, kinds: Kinds) -> None:
        self._server = server
        self._prefix = prefix
        self._process = process
        self._kinds = {kind.name: (kind, kind.django) for kind in kinds if kind.django is not None}
        prefixes = {name: django.prefix for name, (_, django) in self._kinds.items()}
        # what other kinds' names begin with
        self._taken = {
            name: tuple(other for other in prefixes.values() if len(other) > len(prefix))
            for name, prefix in prefixes.items()
        }
        self._takers: dict[str, Take] = {}

    def give_to(self, kind: str, take: Take) -> None:
        """Has the messages for a kind's groups taken by somebody."""
        self._takers[kind] = take

    def channel(self, group: str) -> str | None:
        """Redis' name for a group; None if Django Channels could not call it so."""
        kind, name = split_group(group)
        if kind not in self._kinds:
            return None
        theirs = self._kinds[kind][1].group.format(name)
        # a camera group may not pass itself off as a room: poses would end Django's chat consumers
        if theirs.startswith(self._taken[kind]) or not _VALID.fullmatch(theirs):
            return None
        return f"{self._prefix}__group__{theirs}"

    async def subscribe(self, group: str) -> None:
        """Takes what Django sends to a group from now on. Raises RedisUnavailable."""
        channel = self.channel(group)
        if channel is not None:
            await self._server.subscribe(channel, partial(self._received, group))

    def unsubscribe(self, group: str) -> None:
        """Takes it no more."""
        channel = self.channel(group)
        if channel is not None:
            self._server.unsubscribe(channel)

    def publish(self, group: str, payload: bytes) -> None:
        """Sends a JSON payload to the consumers in a group."""
        self._send(group, msgspec.json.decode(payload))

    def say(self, group: str, text: str) -> None:
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
                # msgpack's integers have 64 bits; relayd's own clients have got it
                self._log.warn("{group}: not sent to Django: {why}", group=group, why=str(error))
            else:
                self._server.publish(channel.encode(), packed)

    def _received(self, group: str, data: bytes) -> None:
        kind, django = self._kinds[split_group(group)[0]]
        try:
            event = msgspec.msgpack.decode(data)
            if not isinstance(event, dict) or "relayd" in event:
                return
            # Django Channels replaces the dots of a type
            if str(event.get("type")).replace(".", "_") != django.type:
                return
            self._takers[kind.name](group, _checked(kind.content, event["message"]))
        except (
            msgspec.MsgspecError, ClientError, LookupError, RecursionError, TypeError, ValueError
        ) as error:  # fmt: skip
            self._log.warn("{group}: a message from Django: {why}", group=group, why=str(error))


def _checked(content: Content, message: Any) -> Any:
    """The part of a message that clients may get. Raises ClientError or ValueError."""
    if content is Content.TEXT:
        if not isinstance(message, str):
            raise ValueError("the message of a chat_message is a text")
        return message
    payload = wire.check_object(msgspec.json.encode(message))
    if content is Content.POSE:
        return wire.encode(wire.decode_pose(payload))
    return payload
