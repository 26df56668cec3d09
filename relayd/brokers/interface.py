"""The interface of a broker to the relays: groups, rooms, presence, lobby and pairs.

Sits between the relays (which reach other connections only through these) and an implementation
(`memory`: everything inside this process). Every group of a process is named `kind/name`
(`names.Kind.group`). Vocabulary after centrifuge: the hub holds the
connections of this process, the broker reaches other processes too.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from relayd.hub import Member
from relayd.quotas.usage import RoomTally, StoredRoom
from relayd.tally import Buckets
from relayd.wire import ChatEntry, ChatPage

Publish = Callable[[bytes], int]
"""Sends a JSON payload to every member of a group; returns how many are in this process."""

PAGE_SIZE = 256 * 1024
"""Bytes of a page of a history; a larger message is a page of its own."""


class Groups(Protocol):
    """Fan-out to all members of a group. A payload may be lost if its process ends."""

    async def prepare(self, group: str) -> None:
        """Connects a group to the other processes, for a member that is about to join.

        Raises:
            Unavailable: the group cannot be connected now.
        """

    async def join(self, group: str, member: Member) -> None:
        """Adds a member, which gets everything published to the group from now on.

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
            key: identifies the sender whose newest state this is, if a slow reader may get a newer
                payload of the same key instead; None if every payload must reach every member.
        """

    def publisher(self, group: str, key: int | None = None) -> Publish:
        """A faster `publish` to one group, for a member to use while it is in the group.

        Args:
            group: the group.
            key: as for `publish`.
        """

    def catch_up(self, group: str, member: Member) -> None:
        """Sends a member the payloads that wait for the group's next batch.

        No effect if the member is not in the group.
        """


class Rooms(Protocol):
    """Groups with a history: a message is stored before it is delivered.

    Entries that `last` and `since` return have been delivered to the members of the room's group
    in this process before they return. Readers of the same part share one read (`brokers.reads`).
    """

    @property
    def appended(self) -> Buckets:
        """The number of messages stored together, for each transaction or script."""

    @property
    def tally(self) -> RoomTally:
        """What all rooms keep, and what was refused."""

    def post(
        self,
        room: str,
        message: str,
        user: str | None = None,
        address: str | None = None,
        *,
        tag: str = "",
    ) -> "Deferred[ChatEntry]":
        """Stores a message, then publishes it to the room's group; all members see one order.

        Args:
            room: the room's name, in its canonical form.
            message: the text as clients see it.
            user: the sender's name, if a token gave one.
            address: of the sender, from `edge.addresses`; None for one that may create any
                number of rooms.
            tag: what the sender calls it; empty for none. If the room keeps a message with this tag
                of the same user (or of nobody, too) that is not older than `[chat] tags_kept`, and
                among its newest `quotas.usage.TAGGED`, that one's entry is returned, with
                `repeated`, and nothing is stored.

        Returns:
            A Deferred that fires with the entry after it was published. It fails with
            `StoreUnavailable` if the message is not stored and never will be, with `OutcomeUnknown`
            if it may have been stored, and with `QuotaExceeded` if the message would create a room
            beyond a quota.
        """

    async def last(self, room: str, count: int, limit: int, size: int = PAGE_SIZE) -> ChatPage:
        """The first page of the last `count` entries of a room.

        Args:
            room: the room's name.
            count: how many entries.
            limit: how many of them the page has at most.
            size: their bytes at most; the page has at least one entry, if there is any. The store
                does not hand over more.

        Raises:
            StoreUnavailable: the history cannot be read now.
            Overloaded: the process is late, and no other reader waits for the same page.
        """

    async def since(
        self, room: str, position: int, limit: int, size: int = PAGE_SIZE, *, joins: bool = False
    ) -> ChatPage:
        """The first page of the entries after a position, and whether some are missing.

        Args:
            room: the room's name.
            position: the id of the last entry that the reader has.
            limit: how many entries the page has at most.
            size: as for `last`.
            joins: whether the reader is not admitted yet.

        Raises:
            StoreUnavailable: the history cannot be read now.
            Overloaded: as for `last`, for a reader that joins.
        """

    async def largest(self, limit: int) -> list[StoredRoom]:
        """The rooms that keep the most bytes, the largest first.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    async def delete(self, room: str) -> bool:
        """Deletes a room's messages, and sends `wire.GAP` to its members in every process.

        Its next message has a higher id than all before.

        Returns:
            Whether the room kept any message.

        Raises:
            StoreUnavailable: the store did not confirm that.
        """


class Presence(Protocol):
    """The members of all rooms; those who watch a room get its joins and leaves, in frames."""

    def enter(self, room: str, user: str | None) -> None:
        """Counts a connection as a member of a room.

        Args:
            room: the room's name, in its canonical form.
            user: the name that a token gave it, if one did.
        """

    def leave(self, room: str, user: str | None) -> None:
        """Undoes one `enter` with the same arguments."""

    def watch(self, room: str, watcher: Member, send: Callable[[bytes], None]) -> None:
        """Sends a member the presence of a room, as docs/protocol.md has it.

        Args:
            room: the room's name, in its canonical form.
            watcher: gets the frames after its first.
            send: sends it one payload, its first.
        """

    def unwatch(self, room: str, watcher: Member) -> None:
        """Ends `watch`; no effect if the member does not watch the room."""


class LiveRoom(NamedTuple):
    """A room that has members.

    Attributes:
        name: of the room.
        members: how many are in it: people with names, each once in each process, and the
            connections without a name.
        posted: Unix time of its newest message in ms; None if it keeps none.
    """

    name: str
    members: int
    posted: int | None


class LiveRooms(NamedTuple):
    """The rooms that have members.

    Attributes:
        rooms: the one with the newest message first.
        partial: whether rooms, members or times may be missing: a store did not answer, or there
            are too many rooms.
    """

    rooms: Sequence[LiveRoom]
    partial: bool


class Lobby(Protocol):
    """The list of the rooms that have members, in all processes."""

    async def rooms(self) -> LiveRooms:
        """The list, which is some seconds old at most. Never fails for a store that is away."""


class Headset(Protocol):
    """The Unity side of a pair, as the broker sees it."""

    def assign(self, payload: bytes) -> bool:
        """Sends a JSON payload as one frame; False if the connection is not open (any more)."""

    def replaced(self) -> None:
        """A newer connection of this side and UUID has replaced this one."""

    def barred(self) -> None:
        """The pair is bound to another secret now."""


class Phone(Protocol):
    """The Android side of a pair, as the broker sees it."""

    def headset_came(self) -> None:
        """A headset has connected under the phone's UUID."""

    def headset_left(self) -> None:
        """The headset under the phone's UUID has disconnected."""

    def replaced(self) -> None:
        """A newer connection of this side and UUID has replaced this one."""

    def barred(self) -> None:
        """The pair is bound to another secret now."""


class Pairs(Protocol):
    """The registrations of pairs: at most one headset and one phone under each UUID.

    A pair has the secret of its headset, or, while that has left, of its phone; `secret` is a hash
    of it, in hexadecimal digits, empty without one. A phone needs the same; a headset too, unless
    the pair has none: then the headset binds the pair, and a phone without the secret is barred.
    """

    async def headset_present(self, uuid: str, secret: str = "") -> bool:
        """Whether a headset is connected under the UUID.

        Raises:
            WrongSecret: one is, with another secret.
        """

    async def add_headset(self, uuid: str, headset: Headset, secret: str = "") -> None:
        """Registers a headset and notifies an older one that it was replaced.

        Raises:
            WrongSecret: the pair has another secret.
            Unavailable: the headset cannot be registered now.
        """

    def remove_headset(self, uuid: str, headset: Headset) -> None:
        """Removes a registration; no effect if a newer one has replaced it."""

    async def add_phone(self, uuid: str, phone: Phone, secret: str = "") -> None:
        """Registers a phone, which is then notified when the headset comes or leaves.

        An older phone under the UUID is notified that it was replaced.

        Raises:
            WrongSecret: the pair has another secret.
            Unavailable: the phone cannot be registered now.
        """

    def remove_phone(self, uuid: str, phone: Phone) -> None:
        """Removes a registration; no effect if a newer one has replaced it."""

    async def deliver(self, uuid: str, payload: bytes, secret: str = "", tag: str = "") -> None:
        """Sends a JSON payload to the headset; returns after its connection accepted the frame.

        A payload whose tag was carried out in the last minutes is not sent again; this returns as
        if it were. After any error but OutcomeUnknown, the headset has not got the frame, nor one
        with the same tag, and will not get it later.

        Raises:
            NoUnity: no headset with this secret is connected under the UUID, or its connection is
                closing.
            OutcomeUnknown: the headset may have got the frame, or one with the same tag.
            Unavailable: the store is away, or too many frames are in flight.
        """

    async def carried_out(self, uuid: str, secret: str, tag: str) -> bool:
        """Whether the headset has got a frame with this tag in the last minutes.

        Raises:
            OutcomeUnknown: it may have got one.
        """


class Brokers(Protocol):
    """The groups, rooms, presence, lobby and pairs of a process, started and stopped together."""

    @property
    def groups(self) -> Groups: ...

    @property
    def rooms(self) -> Rooms: ...

    @property
    def presence(self) -> Presence: ...

    @property
    def lobby(self) -> Lobby: ...

    @property
    def pairs(self) -> Pairs: ...

    def start(self) -> None:
        """Begins to connect to the other processes."""

    def stop(self) -> "Deferred[None]":
        """Releases all leases and disconnects; call it after every client has disconnected.

        Returns:
            A Deferred that fires when all connections are closed. It never fails.
        """
