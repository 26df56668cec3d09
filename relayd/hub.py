"""The groups of this process and their local members; fan-out. Pure: no I/O of its own.

Sits between the brokers (which say what is to be sent to which group) and the connections (which
are the members). A frame is built once and handed to each member as the same bytes.
"""

from collections.abc import Iterator
from typing import Protocol

from relayd.wire import text_frame


class Member(Protocol):
    """Whoever is in a group: a connection, or what stands in for it while it joins."""

    def send(self, frame: bytes) -> None:
        """Takes one complete WebSocket frame; never raises, never blocks."""


class Hub:
    """Who of this process is in which group."""

    def __init__(self) -> None:
        # insertion-ordered: members are served in the order in which they came
        self._groups: dict[str, dict[Member, None]] = {}

    def join(self, group: str, member: Member) -> None:
        """Adds a member; no effect if it is in the group already."""
        self._groups.setdefault(group, {})[member] = None

    def leave(self, group: str, member: Member) -> None:
        """Removes a member; no effect if it is not in it. Nothing stays of an empty group."""
        members = self._groups.get(group)
        if members is None:
            return
        members.pop(member, None)
        if not members:
            del self._groups[group]

    def fan_out(self, group: str, payload: bytes) -> int:
        """Sends one JSON payload, framed once, to every member; returns how many there were."""
        members = self._groups.get(group)
        if not members:
            return 0
        frame = text_frame(payload)
        # a member that is too slow leaves the group while it is being served
        served = tuple(members)
        for member in served:
            member.send(frame)
        return len(served)

    def size(self, group: str) -> int:
        """How many members of this process the group has."""
        return len(self._groups.get(group, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)
