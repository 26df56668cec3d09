"""The groups of this process and their local members; fan-out in batches. Pure, given a clock.

Sits between the brokers (which publish to groups) and the outboxes of the connections (which are
the members). A frame is built once and every member gets the same bytes. A group is served at once
while the loop has time, else in batches (`native.batching`), so that the cost is frames plus
members, not frames times members. A batch to many members takes several calls, and the reactor
serves other work between them.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from relayd import wire
from relayd.event_stream import encode_event
from relayd.native.batching import Batching
from relayd.native.fanout import Deliveries, Group, Publisher
from relayd.sockets.outbox import Item
from relayd.tally import Buckets


class Member(Protocol):
    """A member of a group: an outbox, or its stand-in while a client reads the history.

    Attributes:
        direct: the socket's `send` while frames may go straight to the socket, else None. The
            caller reports a partial send to `interrupted` and an OSError to `broken`.
    """

    direct: Callable[[bytes], int] | None

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        """Receives whole frames; never raises, never blocks.

        Args:
            items: the frames with their keys, in order.
            frames: the same frames, joined.
        """

    def interrupted(self, frames: bytes, sent: int) -> None:
        """`direct` took only a part."""

    def broken(self) -> None:
        """`direct` raised."""


class Listener:
    """A `Member` without a socket: a subclass receives whole frames in `write_items`."""

    direct: Callable[[bytes], int] | None = None

    def interrupted(self, frames: bytes, sent: int) -> None:
        """Never called: there is no `direct`."""

    def broken(self) -> None:
        """Never called: there is no `direct`."""


class Call(Protocol):
    """The part of `IDelayedCall` that a hub needs."""

    def active(self) -> bool:
        """Whether the call is still pending."""

    def cancel(self) -> None:
        """Cancels the call. Raises AlreadyCalled or AlreadyCancelled if it is not pending."""


class Timing(Protocol):
    """The part of `IReactorTime` that a hub needs."""

    def seconds(self) -> float:
        """The current time in seconds; only differences matter."""

    def callLater(self, delay: float, call: Callable[[], object], /) -> Call:  # noqa: N802
        """Makes a call after `delay` seconds; returns the pending call."""


class Hub:
    """The groups of this process and their members.

    Args:
        batching: says when a group is served.
        rate: messages a second that a group takes from connections; their senders wait beyond it. 0
            for no limit.
        process: the unique id of this process, for the names of senders.

    Attributes:
        latency: seconds from a frame's arrival to its delivery to the last member. Samples are the
            first frame of every batch that waited or took several turns, and of the other frames of
            a group the first and then one in 16.
    """

    def __init__(self, batching: Batching, rate: float = 0, process: str = "") -> None:
        self._groups: dict[str, Group] = {}
        self.latency = Buckets()
        self._batching = batching
        self._deliveries = Deliveries(self.latency, rate, self._label, encode_event)
        self._process = process.encode()

    @property
    def delivered(self) -> int:
        """Frames delivered to members so far, counted once for each member."""
        return self._deliveries.delivered

    @property
    def batches(self) -> int:
        """How often a group was served."""
        return self._deliveries.batches

    def join(self, name: str, member: Member) -> None:
        """Adds a member, which gets all later frames. No effect if it is in the group."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(self._batching, self._deliveries)
        group.add(member)

    def leave(self, name: str, member: Member) -> None:
        """Removes a member after delivering the frames that wait for it.

        No effect if the member is not in the group. An empty group is deleted.
        """
        group = self._groups.get(name)
        if group is None or not group.has(member):
            return
        group.catch_up(member)
        # if those frames overflowed its outbox, the member has left already
        if self._groups.get(name) is not group:
            return
        group.remove(member)
        if not group.size():
            del self._groups[name]
            group.cancel()

    def fan_out(self, name: str, payload: bytes, key: Hashable | None = None) -> int:
        """Sends one JSON payload, framed once, to every member.

        Args:
            name: the group.
            payload: the JSON.
            key: identifies the sender whose newest state this is, if a slow reader may miss
                older states; None if every payload must reach every member.

        Returns:
            The number of members in this process.
        """
        group = self._groups.get(name)
        return 0 if group is None else group.fan_out(key, payload)

    def publisher(self, name: str, key: Hashable | None = None) -> Callable[[bytes], int]:
        """A faster `fan_out` to one group, for a member to use while it is in the group."""
        group = self._groups.get(name)
        return Publisher(group or Group(self._batching, self._deliveries), key)

    def catch_up(self, name: str, member: Member) -> None:
        """Sends a member the frames that wait for the group's next batch.

        No effect if the member is not in the group.
        """
        group = self._groups.get(name)
        if group is not None:
            group.catch_up(member)

    def size(self, name: str) -> int:
        """The number of members that the group has in this process."""
        group = self._groups.get(name)
        return 0 if group is None else group.size()

    def _label(self, key: Hashable | None, payload: bytes) -> bytes:
        """A payload with the name of its sender: the same in every process.

        Args:
            key: the number of a connection of this process, or the id of another process as JSON
                and a number there; None if no connection sent it.
            payload: a JSON object.
        """
        if key is None:
            return wire.add_sender(payload, None)
        origin, number = key if isinstance(key, tuple) else (self._process, key)
        connection = b"%b %d" % (origin.strip(b'"'), number)
        return wire.add_sender(payload, blake2b(connection, digest_size=6).hexdigest())

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)
