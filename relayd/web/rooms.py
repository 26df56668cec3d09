"""`GET /api/rooms`: the chat rooms that have members now.

Mounted by `site`, on `visitors` and the lobby of the broker. A room's name is shown to whoever may
join the room, as far as `[chat] list_rooms` allows it, and to those who have the key of the API.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from relayd import wire
from relayd.access.identity import NOBODY, Identity
from relayd.access.rights import allowed_names
from relayd.brokers.interface import LiveRoom, Lobby
from relayd.config import Config
from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal
from relayd.web.answers import Answer, tagged_answer
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.visitors import Visitors

MOST = 200
"""Rooms of one answer."""
USUAL = 50
"""Rooms of an answer without `?limit=`."""
_PATHS = ("/api/rooms", "/api/rooms/")
_KIND = "chat"


class RoomList:
    """The path of the list (`web.routes.Mounted`).

    Args:
        current: holds the configuration.
        visitors: finds out who asks.
        lobby: lists the rooms.
    """

    quiet = _PATHS[:1]

    def __init__(self, current: Current, visitors: Visitors, lobby: Lobby) -> None:
        self._current = current
        self._visitors = visitors
        self._lobby = lobby
        self.routes = [Route.at("/api/rooms[/]", GET=self._serve)]

    def covers(self, path: str) -> bool:
        """Whether a path is the one of the list."""
        return path in _PATHS

    def admit(self, request: Request) -> Answer | None:
        """Nothing is refused by its head alone: a token may have to wait for its key."""
        return None

    def max_body(self, path: str) -> int | None:
        """None: a body is of no use here, and has the usual size."""
        return None

    async def _serve(self, request: Request) -> Answer:
        """The rooms that a client may join; 304 if it has the list already.

        Raises:
            Refusal: 401, 403, 429 or 503, as for a handshake; 401, rooms are listed for clients
                with a token only; 404, they are listed for nobody; 400, a wrong limit.
        """
        limit = _read_limit(request.argument("limit"))
        identity = await self._visitors.identify(request, _KIND)
        if identity is not None:
            self._check(identity)
        found = await self._lobby.rooms()
        rooms = _visible(found.rooms, identity)
        body = wire.encode(
            {
                "rooms": [_describe(room) for room in rooms[:limit]],
                "total": len(rooms),
                "partial": found.partial,
            }
        )
        # no shared cache may keep what needs a token
        answer = tagged_answer(body, headers={"Cache-Control": "private, no-cache"})
        return answer.unless_known(request.header("If-None-Match"))

    def _check(self, identity: Identity) -> None:
        config = self._current.config
        if not lists_rooms(config):
            raise Refusal(ErrorCode.NOT_FOUND, "This server does not list its rooms.")
        if config.chat.list_rooms == "token" and identity is NOBODY:
            raise Refusal(
                ErrorCode.UNAUTHORIZED, "This server lists its rooms for clients with a token only."
            )


def lists_rooms(config: Config) -> bool:
    """Whether any client may see a list of rooms: a token may be needed for it."""
    if config.chat.list_rooms == "token":
        return config.auth.has_keys or config.auth.chat == "django"
    return config.chat.list_rooms == "open"


def _visible(rooms: Sequence[LiveRoom], identity: Identity | None) -> Sequence[LiveRoom]:
    names = None if identity is None else allowed_names(identity.rights, _KIND)
    return rooms if names is None else [room for room in rooms if room.name in names]


def _describe(room: LiveRoom) -> dict[str, str | int | None]:
    newest = None
    if room.posted is not None:
        moment = datetime.fromtimestamp(room.posted / 1000, UTC)
        newest = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"room": room.name, "count": room.members, "newest": newest}


def _read_limit(text: str | None) -> int:
    """`?limit=`. Raises Refusal: 400."""
    if text is None:
        return USUAL
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise Refusal(ErrorCode.BAD_REQUEST, f"?limit= must be a whole number from 1 to {MOST}.")
    return int(text)
