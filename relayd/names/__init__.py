"""Kinds of paths (`kinds`) and the grammar of the names in them (`grammar`). Pure.

At the ground, under every part that reads paths; `relays.paths` is the table.
"""

from relayd.names.grammar import normalize_room, parse_group, parse_room, parse_uuid
from relayd.names.kinds import (
    DIRECTIONS,
    Content,
    Django,
    Kind,
    Kinds,
    Place,
    hide_uuids,
    listed,
    split_events_target,
    split_group,
    split_path,
    split_target,
    websocket_path,
)

__all__ = [
    "DIRECTIONS",
    "Content",
    "Django",
    "Kind",
    "Kinds",
    "Place",
    "hide_uuids",
    "listed",
    "normalize_room",
    "parse_group",
    "parse_room",
    "parse_uuid",
    "split_events_target",
    "split_group",
    "split_path",
    "split_target",
    "websocket_path",
]
