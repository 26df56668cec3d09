"""The pages of the chat: the form for a room's name with the rooms that are alive, and a room.

A module of `pages`. Both are only frames: `static/lobby.js` asks `/api/rooms` for the rooms, and
`static/room.js` connects to `/ws/chat/{room}`.
"""

from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from relayd.relays.paths import KINDS
from relayd.web.answers import Answer, redirect
from relayd.web.backend import Backend
from relayd.web.pages.forms import answer_form
from relayd.web.request import Request
from relayd.web.rooms import lists_rooms
from relayd.web.routes import Route
from relayd.web.templates import View

_KIND = KINDS["chat"]


class Chat:
    """`/chat/` and `/chat/{room}/`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [
            Route.at("/chat", GET=self.to_lobby),
            Route.at("/chat/", GET=self.lobby),
            Route.at("/chat/{room}", GET=self.to_room),
            Route.at("/chat/{room}/", GET=self.room),
        ]

    def to_lobby(self, request: Request) -> Answer:
        """Redirects `/chat` to `/chat/`."""
        return redirect("chat/" + request.safe_query)

    def lobby(self, request: Request) -> Answer:
        """The form for a room name; with `?room=`, which the form sends, a redirect to the room."""
        script = "lobby.js" if lists_rooms(self._backend.config) else ""
        return answer_form(request, _KIND, self._fill_form, script=script)

    def to_room(self, request: Request, room: str) -> Answer:
        """Redirects `/chat/{room}` to `/chat/{room}/`."""
        return redirect(quote(_KIND.parse(room)) + "/" + request.safe_query)

    def room(self, request: Request, room: str) -> Answer:
        """The page of a chat room."""
        name = _KIND.parse(room)
        config, view = self._backend.config, View.of(request)
        content = view.fill(
            "room",
            room=name,
            limit=config.limits.max_message_size,
            history=config.chat.history,
            # a token is of no use where the session of a site counts
            tokens="no" if config.auth.chat == "django" else "yes",
            html_values=view.connection_parts(),
        )
        title = f"{name} · {view.text('nav.chat')} · relayd"
        return view.page(content, title=title, section="chat", script="room.js", shape="full")

    def _fill_form(self, view: View, name: str, problem: str) -> str:
        config = self._backend.config
        rooms = self._fill_rooms(view) if lists_rooms(config) else ""
        return view.fill(
            "lobby",
            asked=name,
            default_room=config.chat.default_room,
            html_values={"problem": problem, "rooms": rooms},
        )

    def _fill_rooms(self, view: View) -> str:
        config = self._backend.config
        tokens = "yes" if config.chat.list_rooms == "token" else "no"
        if config.auth.chat == "django":
            tokens = "site"
        elif config.auth.needs_token(_KIND.name):
            tokens = "needed"
        return view.fill("lobby_rooms", tokens=tokens, html_values={"token": view.fill("token")})
