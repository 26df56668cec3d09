"""The interface of a broker to the relays: groups, rooms and pairs.

Sits between the relays (which reach other connections only through these) and an implementation
(`memory`: everything inside this process). Every group of a process is named `kind/name`
(`names.Kind.group`). Vocabulary after centrifuge: the hub holds the
connections of this process, the broker carries what concerns other processes too.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from relayd.hub import Member
from relayd.tally import Buckets
from relayd.wire import ChatEntry

Publish = Callable[[bytes], int]
"""Sends a JSON payload to every member of a group; returns how many are in this process."""


class Groups(Protocol):
    """Fan-out to all members of a group. A payload may be lost with its process."""

    async def prepare(self, group: str) -> None:
        """Connects a group to the other processes, for a member that is about to join.

        Raises:
            Unavailable: it cannot be connected now.
        """

    async def join(self, group: str, member: Member) -> None:
        """Adds a member; from now on it gets everything published to the group.

        Returns at once if the group has members in this process or was prepared a moment ago.

        Raises:
            Unavailable: as `prepare`.
        """

    def leave(self, group: str, member: Member) -> None:
        """Removes a member; no effect if it is not in the group."""

    def publish(self, group: str, payload: bytes, key: int | None = None) -> int:
        """Sends a JSON payload to every member once; returns how many are in this process.

        Args:
            group: the group.
            payload: the JSON.
            key: whose newest state it is, where a member that reads slowly may get a newer one of
                the same key instead; None where each must reach it.
        """

    def publisher(self, group: str, key: int | None = None) -> Publish:
        """`publish` to one group, for a member that does it often and only while it is one."""

    def catch_up(self, group: str, member: Member) -> None:
        """Sends a member what it is about to get anyway, now.

        No effect if it is not in the group.
        """


class Rooms(Protocol):
    """Groups with a history: a message is kept first and shown afterwards.

    What `last` and `since` return was shown to the members of the room's group before they return.
    """

    @property
    def appended(self) -> Buckets:
        """How many messages were kept together, each time."""

    def say(self, room: str, message: str, user: str | None = None) -> "Deferred[ChatEntry]":
        """Keeps a message, then publishes it to the room's group, in one order for all.

        Returns:
            A Deferred that fires with the entry after it was published, or fails with
            `StoreUnavailable`; then nobody was shown it.
        """

    async def last(self, room: str, count: int, limit: int) -> list[ChatEntry]:
        """The first `limit` of the last `count` entries of a room, oldest first.

        Raises:
            StoreUnavailable: the history cannot be read now.
        """

    async def since(self, room: str, position: int, limit: int) -> tuple[bool, list[ChatEntry]]:
        """The first `limit` entries after a position, oldest first, and whether some are missing.

        Raises:
            StoreUnavailable: the history cannot be read now.
        """


class Headset(Protocol):
    """The Unity side of a pair, as the broker sees it."""

    def assign(self, payload: bytes) -> bool:
        """Sends a JSON payload as one frame; False if the connection is not open (any more)."""

    def replaced(self) -> None:
        """A newer connection has taken the place."""


class Phone(Protocol):
    """The Android side of a pair, as the broker sees it."""

    def headset_came(self) -> None:
        """A headset has connected under the phone's UUID."""

    def headset_left(self) -> None:
        """The headset is gone."""

    def replaced(self) -> None:
        """A newer connection has taken the place."""


class Pairs(Protocol):
    """The registrations of pairs: at most one headset and one phone under each UUID."""

    async def headset_present(self, uuid: str) -> bool:
        """Whether a headset is connected under the UUID."""

    async def add_headset(self, uuid: str, headset: Headset) -> None:
        """Registers a headset; an older one is told that it was replaced."""

    def remove_headset(self, uuid: str, headset: Headset) -> None:
        """Takes a registration back; no effect if a newer one has taken its place."""

    async def add_phone(self, uuid: str, phone: Phone) -> None:
        """Registers a phone for news of the headset; an older one is told that it was replaced."""

    def remove_phone(self, uuid: str, phone: Phone) -> None:
        """Takes a registration back; no effect if a newer one has taken its place."""

    async def deliver(self, uuid: str, payload: bytes) -> None:
        """Returns after the frame was handed to the headset's connection.

        Raises:
            NoUnity: nobody is connected under the UUID, or the connection is closing.
        """


class Brokers(Protocol):
    """All three, and their life."""

    @property
    def groups(self) -> Groups: ...

    @property
    def rooms(self) -> Rooms: ...

    @property
    def pairs(self) -> Pairs: ...

    def start(self) -> None:
        """Begins to connect to the other processes."""

    def stop(self) -> "Deferred[None]":
        """Takes leave of them; every client is gone by then. Never fails."""
