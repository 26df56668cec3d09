"""The pages for people: what runs here, the way to a chat room, a chat room.

The room's page is only a frame: `static/room.js` connects to `/ws/chat/{room}` and fills it.
"""

import html
from urllib.parse import quote

from relayd import __version__, names
from relayd.errors import Refusal
from relayd.web import templates
from relayd.web.answers import Answer, redirect
from relayd.web.backend import Backend
from relayd.web.request import Request

# kind, paths, what they are for, what to send to try one
_SOCKETS = (
    (
        "camera",
        ("/ws/camera/{group}",),
        "Camera poses, to everyone in the group. Without a group: Camera_group.",
        '{"x": 0.5, "y": 1.25, "z": -3}',
    ),
    (
        "difficulty",
        ("/ws/difficulty/unity/{uuid}", "/ws/difficulty/android/{uuid}"),
        "A quiz pair: the phone asks on the android path, the headset gets quizzes and an action "
        "on the unity path. The headset connects first.",
        '{"difficulty": 1}',
    ),
    (
        "chat",
        ("/ws/chat/{room}",),
        "A chat room with its history. Without a room: $default_room.",
        '{"message": "hello"}',
    ),
    (
        "push",
        ("/ws/push/{topic}",),
        "Receives what is published to the topic.",
        "nothing",
    ),
    ("echo", ("/ws/echo",), "Sends everything back: for checking a proxy.", "anything"),
)


class Pages:
    """Everything below `/` and `/chat/` that a browser shows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def home(self, request: Request) -> Answer:
        """What runs here and how to try it."""
        config = self._backend.config
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
            html_values={"sockets": self._socket_rows()},
        )
        return templates.page("relayd", content, script="home.js")

    def to_lobby(self, request: Request) -> Answer:
        """`/chat` to `/chat/`."""
        return redirect("chat/" + _query(request))

    def lobby(self, request: Request) -> Answer:
        """Asks for a room name; with `?room=` (the form, without any script) leads to it."""
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
        """`/chat/{room}` to `/chat/{room}/`."""
        return redirect(quote(names.parse_room(room)) + "/" + _query(request))

    def room(self, request: Request, room: str) -> Answer:
        """A chat room."""
        name = names.parse_room(room)
        config = self._backend.config
        content = templates.fill(
            "room",
            room=name,
            prefix=config.chat.message_prefix,
            limit=config.limits.max_message_size,
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
        for kind, paths, purpose, example in _SOCKETS:
            on = kind != "echo" or config.echo.enabled
            rows.append(
                templates.fill(
                    "socket",
                    purpose=purpose.replace("$default_room", config.chat.default_room),
                    count=counts.get(kind, 0) if on else "off",
                    html_values={
                        "paths": "<br>".join(map(_code, paths)),
                        "example": _code(example) if example.startswith("{") else example,
                    },
                )
            )
        return "\n".join(rows)


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _query(request: Request) -> str:
    """The query of the request with its question mark, safe in a Location header."""
    _, mark, query = request.uri.decode("latin-1").partition("?")
    return mark + quote(query, safe="%&=+~;:@/?!*'(),")
