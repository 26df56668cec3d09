"""The groups of this process and their local members; fan-out in batches. Pure, given a clock.

Sits between the brokers (which say what is to be sent to which group) and the outboxes of the
connections (which are the members). A frame is built once and every member gets the same bytes.
A quiet group is served at once; a busy one `coalesce` seconds after the first frame that waits,
so that its cost is frames plus members, not frames times members.
"""

import functools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from relayd.outbox import Item
from relayd.tally import Buckets
from relayd.wire import text_frame

_FULL = 64 * 1024
_SAMPLE = 16 - 1  # of frames that are served at once, one in so many is timed


class Member(Protocol):
    """Whoever is in a group: an outbox, or what stands in for one while its owner joins."""

    direct: Callable[[bytes], int] | None

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        """Takes whole frames, one by one and joined; never raises, never blocks."""

    def interrupted(self, frames: bytes, sent: int) -> None:
        """`direct` took only a part."""

    def broken(self) -> None:
        """`direct` raised."""


class _Group:
    __slots__ = ("began", "call", "items", "members", "served", "size")

    def __init__(self) -> None:
        # insertion-ordered: members are served in the order in which they came
        self.members: dict[Member, None] = {}
        self.items: list[Item] = []
        self.size = 0
        self.served = -math.inf
        self.began = 0.0
        self.call: IDelayedCall | None = None


class Hub:
    """Who of this process is in which group.

    Args:
        clock: for batches.
        coalesce: seconds a frame may wait for others in a busy group; 0 to serve each at once.

    Attributes:
        delivered: frames handed to members so far, counted once for each member.
        batches: how often a group was served.
        latency: seconds from a frame's arrival to the last member it was handed to: of the first
            frame of every batch that was waited for, and of one in 16 that were served at once.
    """

    def __init__(self, clock: IReactorTime, coalesce: float) -> None:
        self._clock = clock
        self._coalesce = coalesce
        self._groups: dict[str, _Group] = {}
        self.delivered = self.batches = 0
        self.latency = Buckets()

    def join(self, name: str, member: Member) -> None:
        """Adds a member; it gets what is sent from now on. No effect if it is in the group."""
        self.flush(name)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group()
        group.members[member] = None

    def leave(self, name: str, member: Member) -> None:
        """Removes a member, after it got what was sent before. No effect if it is not in it.

        Nothing stays of an empty group.
        """
        group = self._groups.get(name)
        if group is None or member not in group.members:
            return
        self.flush(name)
        # what was sent may have been too much for members, which have left then
        if self._groups.get(name) is not group:
            return
        group.members.pop(member, None)
        if not group.members:
            del self._groups[name]
            if group.call is not None:
                group.call.cancel()

    def fan_out(self, name: str, payload: bytes, key: Hashable | None = None) -> int:
        """Sends one JSON payload, framed once, to every member; returns how many there are.

        Args:
            name: the group.
            payload: the JSON.
            key: whose newest state this is, if older ones need not reach a member that reads
                slowly; None if each must.
        """
        group = self._groups.get(name)
        return 0 if group is None else self._fan_out(group, key, payload)

    def publisher(self, name: str, key: Hashable | None = None) -> Callable[[bytes], int]:
        """`fan_out` to one group, quicker, for one of its members to use while it is in it."""
        group = self._groups.get(name)
        return functools.partial(self._fan_out, group or _Group(), key)

    def _fan_out(self, group: _Group, key: Hashable | None, payload: bytes) -> int:
        frame = text_frame(payload)
        if group.call is None:
            now = self._clock.seconds()
            if now - group.served >= self._coalesce:
                group.served = now
                self._serve(group, ((key, frame),), frame)
                if not self.batches & _SAMPLE:
                    self.latency.observe(self._clock.seconds() - now)
                return len(group.members)
            group.began = now
            group.call = self._clock.callLater(self._coalesce, self._flush, group)
        group.items.append((key, frame))
        group.size += len(frame)
        if group.size >= _FULL:
            self._flush(group)
        return len(group.members)

    def flush(self, name: str) -> None:
        """Sends what waits in a group for its next batch."""
        group = self._groups.get(name)
        if group is not None and group.items:
            self._flush(group)

    def _flush(self, group: _Group) -> None:
        if group.call is not None and group.call.active():
            group.call.cancel()
        group.call = None
        group.served = self._clock.seconds()
        items, group.items, group.size = group.items, [], 0
        self._serve(group, items, b"".join([frame for _, frame in items]))
        self.latency.observe(self._clock.seconds() - group.began)

    def _serve(self, group: _Group, items: Sequence[Item], frames: bytes) -> None:
        size = len(frames)
        self.batches += 1
        self.delivered += len(items) * len(group.members)
        # a copy: a member that is too slow leaves the group while it is served
        for member in tuple(group.members):
            direct = member.direct
            if direct is None:
                member.write_items(items, frames)
                continue
            try:
                sent = direct(frames)
            except BlockingIOError:
                sent = 0
            except OSError:
                member.broken()
                continue
            if sent != size:
                member.interrupted(frames, sent)

    def size(self, name: str) -> int:
        """How many members of this process the group has."""
        group = self._groups.get(name)
        return 0 if group is None else len(group.members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)
