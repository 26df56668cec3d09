"""`/ws/chat[/{room}]`: rooms with a history; a message is kept first and shown afterwards.

A relay: sits between the WebSocket adapter, the broker's groups (live messages) and its rooms
(the history). A client that joins gets the history and then the live messages, none lost and none
twice between the two: a stand-in collects what is said while the history is read.
"""

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd import names, wire
from relayd.brokers.interface import Groups, Rooms
from relayd.errors import CloseCode, ErrorCode, Refusal, StoreUnavailable, Unavailable
from relayd.storage.history import Entry
from relayd.websocket import Context, RelayFactory, RelayProtocol

_PAGE = 200
_MOST = 1000


class ChatProtocol(RelayProtocol):
    """Someone in a room."""

    kind = "chat"
    factory: "ChatFactory"
    room = ""
    _since: int | None = None
    _gap = False
    _stand_in: "_StandIn | None" = None
    _entries: "list[Entry]" = []  # noqa: RUF012  replaced, never changed

    @property
    def group(self) -> str:
        """The broker's name for the room."""
        return f"chat/{self.room}"

    async def admit(self, segments: list[str], params: dict[str, list[str]]) -> None:
        """Finds the room, begins to collect what is said there, reads the first of the history.

        Raises:
            Refusal: 400 `bad_name`, `bad_since` or `bad_request`, 404.
            StoreUnavailable: the history cannot be read.
        """
        if len(segments) > 1:
            raise Refusal(404, ErrorCode.NOT_FOUND, "The path is /ws/chat or /ws/chat/{room}.")
        factory = self.factory
        config = factory.context.config.chat
        self.room = names.parse_room(segments[0]) if segments else config.default_room
        self._since = _natural(params, "since", ErrorCode.BAD_SINCE)
        wanted = _natural(params, "history", ErrorCode.BAD_REQUEST)
        count = min(config.history if wanted is None else wanted, _MOST)
        self._stand_in = _StandIn(factory.context.config.limits.send_buffer)
        await factory.groups.join(self.group, self._stand_in)
        if self._since is not None:
            self._gap, self._entries = await factory.rooms.since(self.room, self._since, _PAGE)
        elif count:
            self._entries = await factory.rooms.last(self.room, count)

    def opened(self) -> None:
        """Sends the history, then joins."""
        self.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        """Sends history and collected messages at the pace of the reader, then goes live."""
        position = self._since or 0
        if self._gap:
            # whatever the client counted from, it is not this history
            position = 0
            self.send_payload(wire.GAP)
        while self._entries:
            entries, self._entries = self._entries, []
            for entry in entries:
                await self.writable()
                self.send_payload(entry.body)
                position = entry.id
            if self._since is not None:
                # until nothing newer is there: a page may have taken a while to send
                try:
                    _, self._entries = await self.factory.rooms.since(self.room, position, _PAGE)
                except StoreUnavailable as error:
                    self.send_error(error.code, error.sentence)
                    self.close(CloseCode.RESTART, "history unavailable, resume with since")
        stand_in = self._stand_in
        if stand_in is None or not self.can_send:
            return
        if stand_in.overrun:
            self.close(CloseCode.TOO_SLOW, "too slow")
            return
        for frame in stand_in.frames:
            if wire.read_position(frame) > position:
                self.send(frame)
        # without a pause from here to the end: nothing can be said in between
        await self.factory.groups.join(self.group, self)
        self._stand_in = None
        self.factory.groups.leave(self.group, stand_in)

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Keeps and shows a message. Raises ClientError: `bad_json`, `bad_message`."""
        message = wire.decode_chat(payload)
        if message is not None:
            size = len(payload)
            self.hold(size)
            said = self.factory.say(self.room, message, self.guest.user)
            said.addCallbacks(self._said, self._not_said, (size,), {}, (size,), {})

    def _said(self, entry: Entry, size: int) -> None:
        self.release(size)

    def _not_said(self, failure: Failure, size: int) -> None:
        self.release(size)
        error = failure.value
        if isinstance(error, Unavailable):
            self.send_error(error.code, error.sentence)
        else:
            self.fail("keeping a message", failure)

    def left(self) -> None:
        """Leaves the room."""
        self.factory.groups.leave(self.group, self)
        if self._stand_in is not None:
            self.factory.groups.leave(self.group, self._stand_in)
            self._stand_in = None


class _StandIn:
    """A member that collects frames for someone who is still reading the history."""

    def __init__(self, limit: int) -> None:
        self.frames: list[bytes] = []
        self.overrun = False
        self._room = limit

    def send(self, frame: bytes) -> None:
        self._room -= len(frame)
        if self._room >= 0:
            self.frames.append(frame)
        else:
            self.overrun = True
            self.frames.clear()


class ChatFactory(RelayFactory):
    """Builds the connections of `/ws/chat`; says things in their rooms."""

    protocol = ChatProtocol

    def __init__(self, context: Context, groups: Groups, rooms: Rooms) -> None:
        super().__init__(context)
        self.groups = groups
        self.rooms = rooms
        self._prefix = context.config.chat.message_prefix

    def say(self, room: str, message: str, user: str | None = None) -> "Deferred[Entry]":
        """Keeps a message, with the configured prefix, and shows it to the room."""
        return self.rooms.say(room, self._prefix + message, user)


def _natural(params: dict[str, list[str]], name: str, code: ErrorCode) -> int | None:
    """A query parameter that is a number from 0 to 2**63 - 1."""
    if name not in params:
        return None
    text = params[name][-1]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise Refusal(400, code, f"?{name}= must be a whole number, 0 or more.")
    return int(text)
