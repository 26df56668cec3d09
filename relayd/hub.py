"""The groups of this process and their local members; fan-out in batches. Pure, given a clock.

Sits between the brokers (which say what is to be sent to which group) and the outboxes of the
connections (which are the members). A frame is built once and every member gets the same bytes.
A quiet group is served at once; a busy one `coalesce` seconds after the first frame that waits,
so that its cost is frames plus members, not frames times members. A batch to many members takes
several calls, between which others have their turn.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol

from relayd.native.batching import Batching
from relayd.native.fanout import Deliveries, Group, Publisher
from relayd.sockets.outbox import Item
from relayd.tally import Buckets


class Member(Protocol):
    """A member of a group: an outbox, or its stand-in while its owner joins."""

    direct: Callable[[bytes], int] | None

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        """Takes whole frames, one by one and joined; never raises, never blocks."""

    def interrupted(self, frames: bytes, sent: int) -> None:
        """`direct` took only a part."""

    def broken(self) -> None:
        """`direct` raised."""


class Listener:
    """A `Member` without a socket: a subclass takes whole frames in `write_items`."""

    direct: Callable[[bytes], int] | None = None

    def interrupted(self, frames: bytes, sent: int) -> None:
        """Never called: there is no `direct`."""

    def broken(self) -> None:
        """Never called: there is no `direct`."""


class Call(Protocol):
    """The part of `IDelayedCall` that a hub needs."""

    def active(self) -> bool:
        """Whether it will be made."""

    def cancel(self) -> None:
        """It is not made. Raises if it is not active."""


class Timing(Protocol):
    """The part of `IReactorTime` that a hub needs."""

    def seconds(self) -> float:
        """Now."""

    def callLater(self, delay: float, call: Callable[[], object], /) -> Call:  # noqa: N802
        """Calls after so many seconds; returns what calls that off."""


class Hub:
    """The groups of this process and their members.

    Args:
        clock: for batches.
        coalesce: seconds a frame may wait for others in a busy group; 0 to serve each at once.

    Attributes:
        latency: seconds from a frame's arrival to the last member it was handed to: of the first
            frame of every batch that was waited for, and of one in 16 that were served at once.
    """

    def __init__(self, clock: Timing, coalesce: float) -> None:
        self._groups: dict[str, Group] = {}
        self.latency = Buckets()
        self._batching = Batching(clock, coalesce)
        self._deliveries = Deliveries(self.latency)

    @property
    def delivered(self) -> int:
        """Frames handed to members so far, counted once for each member."""
        return self._deliveries.delivered

    @property
    def batches(self) -> int:
        """How often a group was served."""
        return self._deliveries.batches

    def join(self, name: str, member: Member) -> None:
        """Adds a member; it gets what is sent from now on. No effect if it is in the group."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(self._batching, self._deliveries)
        group.add(member)

    def leave(self, name: str, member: Member) -> None:
        """Removes a member, after it got what was sent before. No effect if it is not in it.

        Nothing stays of an empty group.
        """
        group = self._groups.get(name)
        if group is None or member not in group.members:
            return
        group.catch_up(member)
        # what was sent may have been too much for it: then it has left
        if self._groups.get(name) is not group:
            return
        group.remove(member)
        if not group.members:
            del self._groups[name]
            group.cancel()

    def fan_out(self, name: str, payload: bytes, key: Hashable | None = None) -> int:
        """Sends one JSON payload, framed once, to every member; returns how many there are.

        Args:
            name: the group.
            payload: the JSON.
            key: whose newest state this is, if older ones need not reach a member that reads
                slowly; None if each must.
        """
        group = self._groups.get(name)
        return 0 if group is None else group.fan_out(key, payload)

    def publisher(self, name: str, key: Hashable | None = None) -> Callable[[bytes], int]:
        """`fan_out` to one group, quicker, for one of its members to use while it is in it."""
        group = self._groups.get(name)
        return Publisher(group or Group(self._batching, self._deliveries), key)

    def catch_up(self, name: str, member: Member) -> None:
        """Sends a member what waits in a group for its next batch. No effect if it is not in it."""
        group = self._groups.get(name)
        if group is not None:
            group.catch_up(member)

    def size(self, name: str) -> int:
        """How many members of this process the group has."""
        group = self._groups.get(name)
        return 0 if group is None else len(group.members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)
