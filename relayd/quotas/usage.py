"""What the chat rooms of a store keep: for store, brokers, operator and metrics."""

from dataclasses import dataclass, field
from typing import NamedTuple

TAGGED = 5000
"""Newest messages of a room that are found by their tags."""


class Usage(NamedTuple):
    """What the rooms of a store keep: how many there are, and their bytes."""

    rooms: int = 0
    bytes: int = 0


class StoredRoom(NamedTuple):
    """A room as its store has it.

    Attributes:
        name: of the room.
        messages: how many it keeps.
        bytes: their size.
        posted: Unix time of the newest in ms.
    """

    name: str
    messages: int
    bytes: int
    posted: int


@dataclass
class Creation:
    """Whether a message may be the first of a new room, and whether it was."""

    allowed: bool = True
    done: bool = False


@dataclass
class RoomTally:
    """What the metrics say of the rooms.

    Attributes:
        usage: what all rooms keep, at the last count or later.
        trimmed: bytes that this process deleted because all rooms together kept too many.
        refused: messages that this process refused, by the quota.
    """

    usage: Usage = field(default_factory=Usage)
    trimmed: int = 0
    refused: dict[str, int] = field(default_factory=lambda: {"rooms": 0, "rooms_of_address": 0})
