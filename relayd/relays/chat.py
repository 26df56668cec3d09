"""`/ws/chat[/{room}]`: rooms with a history; a message is stored before it is delivered.

A relay: sits between the WebSocket adapter, the broker's groups (live messages), its rooms (the
history) and its presence. A client that joins gets the history and then the live messages. Between
the two, no message is lost and none comes twice: a stand-in collects new messages while the history
is read.
"""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd import wire
from relayd.brokers.interface import PAGE_SIZE, Groups, Presence, Rooms
from relayd.close_codes import CloseCode
from relayd.config import Limits
from relayd.connection.context import Context
from relayd.errors import ClientError, ErrorCode, Refusal, StoreUnavailable, Unavailable
from relayd.hub import Listener
from relayd.names import Place
from relayd.relays.member import MemberFactory, MemberProtocol, read_flag
from relayd.relays.paths import KINDS
from relayd.sockets.outbox import Item
from relayd.sockets.patience import wait_patiently
from relayd.wire import ChatEntry, ChatPage

_PAGE = 100
_MOST = 1000


class ChatProtocol(MemberProtocol):
    """A member of a room."""

    entry = KINDS["chat"]
    factory: "ChatFactory"
    room = ""
    _since: int | None = None
    _part = ChatPage(())
    _stand_in: "_StandIn | None" = None
    _watches = _present = False

    @property
    def waiting(self) -> int:
        """Bytes that wait for the client: the rest of a page, and what its stand-in collects."""
        stand_in = self._stand_in
        return super().waiting + (0 if stand_in is None else stand_in.waiting)

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        """Begins to collect the room's new messages, then reads the first page of its history.

        Raises:
            Refusal: 400 `bad_since`, or `bad_request` for another parameter.
            Unavailable: the room cannot be connected to other processes, or its history cannot be
                read.
        """
        factory = self.factory
        config = factory.context.current.config.chat
        self.room = place.name
        self.group = self.entry.group(place.name)
        self._since = _natural(params, "since", ErrorCode.BAD_SINCE)
        wanted = _natural(params, "history", ErrorCode.BAD_REQUEST)
        count = min(config.history if wanted is None else wanted, _MOST)
        self._watches = read_flag(params, "presence")
        if not self.may_view:
            await factory.groups.prepare(self.group)
            return
        self._stand_in = stand_in = _StandIn(self._limits.send_buffer)
        await factory.groups.join(self.group, stand_in)
        if self._since is not None:
            page = await factory.rooms.since(self.room, self._since, *self._bounds, joins=True)
            self._turn_to(page)
        elif count:
            self._turn_to(await factory.rooms.last(self.room, count, *self._bounds))

    @property
    def _limits(self) -> Limits:
        return self.context.current.config.limits

    @property
    def _bounds(self) -> tuple[int, int]:
        """Messages and bytes of a page, which leaves room for what the stand-in collects."""
        return _PAGE, min(PAGE_SIZE, self._limits.send_buffer // 2)

    def _turn_to(self, page: ChatPage) -> None:
        """Has a page wait for the client."""
        self._part = page
        if self._stand_in is not None:
            self._stand_in.hold(sum(len(entry.body) for entry in page.entries))

    def opened(self) -> None:
        """Sends the history, then joins; neither if the client may not view."""
        self._present = True
        self.factory.presence.enter(self.room, self.identity.user)
        if self.may_view:
            if self._watches and self.outbox is not None:
                self.factory.presence.watch(self.room, self.outbox, self.send_payload)
            self.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Sends the history at the pace of the reader, then goes live."""
        position = 0 if self._part.from_start or self._since is None else self._since
        # the last n messages were asked for: nothing is said about what is missing among them
        self._told_gap = self._part.gap or self._since is None
        if self._part.gap:
            # something after the client's position is missing
            self.send_payload(wire.GAP)
        while self._part.entries:
            for entry in self._part.entries:
                if not await self._writable():
                    return
                self.send_payload(entry.body)
                if self._stand_in is not None:
                    self._stand_in.hold(-len(entry.body))
                position = entry.id
            await self._read_on(position)
        self._go_live(position)

    async def _writable(self) -> bool:
        """Returns when all sent frames are read, or False if the connection ends before.

        A client that takes no byte meanwhile is closed with 4003.
        """
        assert self.outbox is not None
        patience = self.context.current.config.keepalive.pong_timeout
        return await wait_patiently(self.outbox, self.context.clock, patience, self._stuck)

    def _stuck(self) -> None:
        if not self.can_send:
            return
        self._log.warn(
            "{conn} {path}: closed with 4003: it asked for a history and does not read it",
            **self.facts,
        )
        self.close(CloseCode.TOO_SLOW)

    async def _read_on(self, position: int) -> None:
        """Turns to the page after a position; an empty one if the stand-in has all the rest."""
        page, self._part = self._part, ChatPage(())
        stand_in = self._stand_in
        if stand_in is None or stand_in.overrun:
            return
        if not page.more or stand_in.reaches_back_to(position):
            return
        try:
            page = await self.factory.rooms.since(self.room, position, *self._bounds)
        except StoreUnavailable as error:
            self.send_error(error.code, error.sentence)
            self.close(CloseCode.RESTART, "history unavailable, resume with since")
            return
        if page.gap and not (page.lost and self._told_gap):
            self._told_gap = True
            self.send_payload(wire.GAP)
        if not page.from_start:
            self._turn_to(page)

    def _go_live(self, position: int) -> None:
        """Replaces the stand-in and sends the frames it collected, in one turn of the reactor."""
        stand_in, self._stand_in = self._stand_in, None
        if stand_in is None or self.outbox is None:
            return
        self.spawn(self.join())
        # the stand-in also gets the frames that wait for the group's next batch
        self.factory.groups.leave(self.group, stand_in)
        if stand_in.overrun:
            self.close(CloseCode.TOO_SLOW)
            return
        for frame in stand_in.frames:
            at = wire.read_position(frame)
            # 0: a status of the room, such as restored, not a message
            if not at or at > position:
                self.send(frame)

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Posts a message to the room.

        Raises:
            ClientError: `bad_json`, `bad_message`; `forbidden`, the client may not send; for a
                message without a tag.
        """
        try:
            said = wire.decode_chat(payload)
            if said is not None:
                self.check_may_send()
        except ClientError as error:
            if tag := wire.read_tag(payload):
                self._decline(error.code, error.message, tag)
                return
            raise
        if said is not None:
            size, tag = len(payload), said.tag or ""
            self.hold(size)
            address = self.context.seats.addresses.key(self.address)
            posted = self.factory.post(
                self.room, said.message, self.identity.user, address, tag=tag
            )
            posted.addCallbacks(self._posted, self._not_posted, (size,), {}, (size, tag), {})

    def _posted(self, entry: ChatEntry, size: int) -> None:
        self.release(size)
        if entry.repeated or not self.may_view:
            # the room has it already, or this is no member of the room: this is its copy
            self.flush()
            self.send_payload(entry.body)

    def _not_posted(self, failure: Failure, size: int, tag: str) -> None:
        self.release(size)
        error = failure.value
        if isinstance(error, Unavailable):
            self._decline(error.code, error.sentence, tag)
        else:
            self._log.failure("{conn} {path}: keeping a message failed", failure, **self.facts)
            self._decline(ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence, tag)

    def _decline(self, code: ErrorCode, sentence: str, tag: str) -> None:
        """Sends an error about a message, with its tag."""
        self.told(code)
        self.flush()
        self.send_payload(wire.encode_error(code, sentence, tag))

    def left(self) -> None:
        """Leaves the room, and removes the stand-in from it."""
        super().left()
        if self._present:
            self._present = False
            if self._watches and self.outbox is not None:
                self.factory.presence.unwatch(self.room, self.outbox)
            self.factory.presence.leave(self.room, self.identity.user)
        self._part = ChatPage(())
        if self._stand_in is not None:
            self.factory.groups.leave(self.group, self._stand_in)
            self._stand_in = None


class _StandIn(Listener):
    """A member that collects frames for a client that still reads the history.

    Args:
        limit: how many bytes may wait: collected ones, and those of the history that `hold` counts.

    Attributes:
        frames: the collected frames, oldest first; empty after an overrun.
        overrun: whether more than `limit` bytes waited when a frame came.
        waiting: how many bytes wait.
    """

    def __init__(self, limit: int) -> None:
        self.frames: list[bytes] = []
        self.overrun = False
        self.waiting = 0
        self._limit = limit
        self._collected = 0

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        if self.overrun:
            return
        self.waiting += len(frames)
        self._collected += len(frames)
        if self.waiting <= self._limit:
            self.frames.extend(frame for _, frame in items)
        else:
            self.overrun = True
            self.waiting -= self._collected
            self.frames.clear()

    def hold(self, size: int) -> None:
        """Counts bytes of the history that wait too, or, below 0, that wait no more."""
        self.waiting += size

    def reaches_back_to(self, position: int) -> bool:
        """Whether no message is missing between a position and the first collected frame."""
        for frame in self.frames:
            if at := wire.read_position(frame):
                return at <= position + 1
        return False


class ChatFactory(MemberFactory):
    """Builds the connections of `/ws/chat`, and posts messages to the rooms."""

    protocol = ChatProtocol

    def __init__(self, context: Context, groups: Groups, rooms: Rooms, presence: Presence) -> None:
        super().__init__(context, groups)
        self.rooms = rooms
        self.presence = presence

    def post(
        self,
        room: str,
        message: str,
        user: str | None = None,
        address: str | None = None,
        *,
        tag: str = "",
    ) -> "Deferred[ChatEntry]":
        """Stores a message, with the configured prefix, and delivers it to the room.

        Args:
            room: the room's name, in its canonical form.
            message: the text.
            user: the sender's name, if a token gave one.
            address: of the sender, as for `brokers.interface.Rooms.post`.
            tag: what the sender calls it; empty for none.

        Returns:
            A Deferred, as of `brokers.interface.Rooms.post`.
        """
        prefix = self.context.current.config.chat.message_prefix
        return self.rooms.post(room, prefix + message, user, address, tag=tag)


def _natural(params: dict[str, list[str]], name: str, code: ErrorCode) -> int | None:
    """A query parameter that is a number from 0 to 2**63 - 1."""
    if name not in params:
        return None
    text = params[name][-1]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise Refusal(code, f"?{name}= must be a whole number, 0 or more.")
    return int(text)
