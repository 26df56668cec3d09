"""The one table of the kinds of paths: the names, the paths and the factory of each.

Every part that needs a path, a group or the name of a kind reads this table: the front door, the
hand-over between workers, handshakes, brokers, pages, 404 sentences, metrics, `relayctl`. A new
kind is a module in this room, named as the kind, and an entry here. This module imports none of
the relays, because `relayctl` needs the table alone.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from relayd.names import (
    DIRECTIONS,
    Content,
    Django,
    Kind,
    Kinds,
    normalize_room,
    parse_room,
    parse_uuid,
)

KINDS = Kinds(
    Kind(
        "camera",
        ("/ws/camera", "/ws/camera/{group}"),
        purpose="Camera poses, to everyone in the group. Without a group: $default.",
        example='{"x": 0.5, "y": 1.25, "z": -3}',
        hint=("/ws/camera",),
        default=lambda config: "Camera_group",
        factory="CameraFactory",
        directions=DIRECTIONS,
        needs=("groups",),
        fanned_out=True,
        content=Content.POSE,
        django=Django("{}", "camera_message"),
    ),
    Kind(
        "difficulty",
        ("/ws/difficulty/unity/{uuid}", "/ws/difficulty/android/{uuid}"),
        purpose="A quiz pair: the phone asks on the android path, the headset gets quizzes and an "
        "action on the unity path. The headset connects first.",
        example='{"difficulty": 1}',
        parse=parse_uuid,
        factory="DifficultyFactory",
        needs=("pairs", "draws"),
        private=True,
    ),
    Kind(
        "chat",
        ("/ws/chat", "/ws/chat/{room}"),
        purpose="A chat room with its history. Without a room: $default.",
        example='{"message": "hello"}',
        parse=parse_room,
        default=lambda config: normalize_room(config.chat.default_room) or "",
        factory="ChatFactory",
        directions=DIRECTIONS,
        needs=("groups", "rooms", "presence"),
        fanned_out=True,
        keeps_history=True,
        content=Content.TEXT,
        published='Says `{"message": "text"}` in a chat room.',
        django=Django("chat_{}", "chat_message"),
    ),
    Kind(
        "push",
        ("/ws/push/{topic}",),
        purpose="Receives what is published to the topic.",
        factory="PushFactory",
        directions=("view",),
        needs=("groups",),
        fanned_out=True,
        published="Sends a JSON object to everyone connected to the topic.",
        django=Django("push_{}", "push_message"),
    ),
    Kind(
        "echo",
        ("/ws/echo",),
        purpose="Sends everything back: for checking a proxy.",
        example="anything",
        optional=True,
        factory="EchoFactory",
    ),
)


def build_factories(context: Any, parts: Mapping[str, object]) -> dict[str, Any]:
    """Builds the factory of each kind of path.

    Args:
        context: the `connection.context.Context` that all connections share.
        parts: the brokers' groups, rooms and pairs and the draws, by these names.

    Returns:
        A `RelayFactory` for each kind, by the kind's name.
    """
    return {
        kind.name: getattr(import_module(f"relayd.relays.{kind.name}"), kind.factory)(
            context, *(parts[need] for need in kind.needs)
        )
        for kind in KINDS
    }
