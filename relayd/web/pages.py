"""The pages for people: the home page, the form for a chat room, a chat room.

The page of a room is only a frame: `static/room.js` connects to `/ws/chat/{room}` and fills it.
"""

import html
import re
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime

from relayd import __version__, names
from relayd.config import Config
from relayd.errors import Refusal
from relayd.relays.paths import KINDS
from relayd.web import templates
from relayd.web.answers import Answer, redirect
from relayd.web.backend import Backend
from relayd.web.request import Request

HOME_MEMORY = 1.0
"""Seconds for which the home page is kept, with its numbers of connections."""
_BACKTICKS = re.compile("`([^`]*)`")


class Pages:
    """The pages below `/` and `/chat/`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend
        self._clock = clock
        self._home: tuple[float, Config, Answer] | None = None

    def home(self, request: Request) -> Answer:
        """The page that shows the paths and how to try them."""
        config, now = self._backend.config, self._clock.seconds()
        if self._home is not None:
            built, of, answer = self._home
            if now - built < HOME_MEMORY and of is config:
                return answer
        answer = self._build_home(config)
        self._home = now, config, answer
        return answer

    def _build_home(self, config: Config) -> Answer:
        content = templates.fill(
            "home",
            version=__version__,
            default_room=config.chat.default_room,
            api="on" if config.api.key else "off",
            api_hint=(
                "Show the key of the configuration as a bearer token."
                if config.api.key
                else "Turned on by key in the section [api] of the configuration."
            ),
            html_values={"sockets": self._socket_rows(), "endpoints": _endpoint_rows()},
        )
        return templates.page("relayd", content, script="home.js")

    def to_lobby(self, request: Request) -> Answer:
        """Redirects `/chat` to `/chat/`."""
        return redirect("chat/" + _query(request))

    def lobby(self, request: Request) -> Answer:
        """The form for a room name; with `?room=`, which the form sends, a redirect to the room."""
        asked = request.argument("room")
        if asked is None:
            return self._lobby("")
        asked = asked.strip()
        try:
            room = names.parse_room(quote(asked))
        except Refusal as refusal:
            return self._lobby(asked, refusal)
        return redirect(quote(room) + "/", 303)

    def to_room(self, request: Request, room: str) -> Answer:
        """Redirects `/chat/{room}` to `/chat/{room}/`."""
        return redirect(quote(names.parse_room(room)) + "/" + _query(request))

    def room(self, request: Request, room: str) -> Answer:
        """The page of a chat room."""
        name = names.parse_room(room)
        config = self._backend.config
        content = templates.fill(
            "room",
            room=name,
            limit=config.limits.max_message_size,
            # a token is of no use where the session of a site counts
            tokens="no" if config.auth.chat == "django" else "yes",
        )
        return templates.page(f"{name} · relayd chat", content, script="room.js")

    def _lobby(self, asked: str, refusal: Refusal | None = None) -> Answer:
        problem = f'<p class="problem" role="alert">{html.escape(str(refusal))}</p>'
        content = templates.fill(
            "lobby",
            asked=asked,
            default_room=self._backend.config.chat.default_room,
            html_values={"problem": problem if refusal else ""},
        )
        return templates.page("relayd chat", content, refusal.status if refusal else 200)

    def _socket_rows(self) -> str:
        config, counts = self._backend.config, self._backend.connection_counts()
        rows = []
        for kind in KINDS:
            default = "" if kind.default is None else kind.default(config)
            example = kind.example
            rows.append(
                templates.fill(
                    "socket",
                    purpose=kind.purpose.replace("$default", default),
                    count=counts.get(kind.name, 0) if kind.is_on(config) else "off",
                    html_values={
                        "paths": "<br>".join(map(_code, kind.full_paths)),
                        "example": _code(example) if example.startswith("{") else example,
                    },
                )
            )
        return "\n".join(rows)


def _endpoint_rows() -> str:
    rows = []
    for kind in KINDS.published:
        request = f"POST /api/{kind.group('{' + kind.variable + '}')}"
        purpose = _BACKTICKS.sub(r"<code>\1</code>", html.escape(kind.published, quote=False))
        rows.append(templates.fill("endpoint", request=request, html_values={"purpose": purpose}))
    return "".join(rows)


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _query(request: Request) -> str:
    """The query of the request with its question mark, safe in a Location header."""
    _, mark, query = request.uri.decode("latin-1").partition("?")
    return mark + quote(query, safe="%&=+~;:@/?!*'(),")
