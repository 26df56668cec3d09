"""The pages of the chat: the form for a room's name, and a room.

A module of `pages`. The page of a room is only a frame: `static/room.js` connects to
`/ws/chat/{room}` and fills it.
"""

from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from relayd import names
from relayd.errors import Refusal
from relayd.web.answers import Answer, redirect
from relayd.web.backend import Backend
from relayd.web.request import Request
from relayd.web.routes import Route
from relayd.web.templates import View


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
        asked = request.argument("room")
        if asked is None:
            return self._lobby(request, "")
        asked = asked.strip()
        try:
            room = names.parse_room(quote(asked))
        except Refusal as refusal:
            return self._lobby(request, asked, refusal)
        return redirect(quote(room) + "/", 303)

    def to_room(self, request: Request, room: str) -> Answer:
        """Redirects `/chat/{room}` to `/chat/{room}/`."""
        return redirect(quote(names.parse_room(room)) + "/" + request.safe_query)

    def room(self, request: Request, room: str) -> Answer:
        """The page of a chat room."""
        name = names.parse_room(room)
        config, view = self._backend.config, View.of(request)
        content = view.fill(
            "room",
            room=name,
            limit=config.limits.max_message_size,
            # a token is of no use where the session of a site counts
            tokens="no" if config.auth.chat == "django" else "yes",
            html_values=view.connection_parts(),
        )
        title = f"{name} · {view.text('nav.chat')} · relayd"
        return view.page(content, title=title, section="chat", script="room.js", shape="full")

    def _lobby(self, request: Request, asked: str, refusal: Refusal | None = None) -> Answer:
        view = View.of(request)
        content = view.fill(
            "lobby",
            asked=asked,
            default_room=self._backend.config.chat.default_room,
            html_values={"problem": "" if refusal is None else view.problem(refusal)},
        )
        status = refusal.status if refusal else 200
        title = f"{view.text('nav.chat')} · relayd"
        return view.page(content, title=title, section="chat", status=status, shape="narrow")
