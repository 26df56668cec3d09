"""The page `/developers`: the paths for programs, and examples to copy.

A module of `pages`. The examples have the host of the request in them; `static/origin.js` mends the
scheme, since a proxy may have taken TLS off.
"""

import html

from twisted.internet.interfaces import IReactorTime

from relayd import __version__
from relayd.relays.paths import KINDS
from relayd.web.answers import Answer, host_of
from relayd.web.backend import Backend
from relayd.web.request import Request
from relayd.web.rooms import lists_rooms
from relayd.web.routes import Route
from relayd.web.templates import FOLDER, View

EXAMPLES = ("unity", "android", "javascript", "python", "curl")
"""The examples, in their order: `html/example_<name>.txt`, with HTTP and WS for the addresses."""


class Developers:
    """`/developers`."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend
        self._examples = {
            name: html.escape((FOLDER / f"example_{name}.txt").read_text(encoding="utf-8").strip())
            for name in EXAMPLES
        }

    def routes(self) -> list[Route]:
        """The route of the page."""
        return [Route.at("/developers[/]", GET=self.developers)]

    def developers(self, request: Request) -> Answer:
        """The page of the paths and examples."""
        view, config = View.of(request), self._backend.config
        host = host_of(request.header("Host")) or "relay.example"
        content = view.fill(
            "developers",
            version=__version__,
            rooms="" if lists_rooms(config) else view.text("developers.off"),
            api=view.text("developers.on" if config.api.key else "developers.off"),
            api_hint=view.text("developers.api_on" if config.api.key else "developers.api_off"),
            html_values={
                "sockets": self._socket_rows(view),
                "events": ", ".join(map(_code, _event_paths())),
                "endpoints": _endpoint_rows(view),
                "examples": "".join(self._example(view, name, host) for name in EXAMPLES),
            },
        )
        title = f"{view.text('nav.developers')} · relayd"
        return view.page(content, title=title, section="developers", script="developers.js")

    def _example(self, view: View, name: str, host: str) -> str:
        code = self._examples[name]
        for word, scheme in (("WS://HOST", "ws"), ("HTTP://HOST", "http")):
            origin = f'<span data-origin="{scheme}">{scheme}://{html.escape(host)}</span>'
            code = code.replace(word, origin)
        return view.fill("example", title=view.text(f"example.{name}"), html_values={"code": code})

    def _socket_rows(self, view: View) -> str:
        config = self._backend.config
        rows = []
        for kind in KINDS:
            default = "" if kind.default is None else kind.default(config)
            example = kind.example
            is_on = kind.is_on(config)
            rows.append(
                view.fill(
                    "socket",
                    state="" if is_on else view.text("developers.off"),
                    html_values={
                        "paths": "<br>".join(map(_code, kind.full_paths)),
                        "purpose": view.sentence(kind.purpose).replace(
                            "$default", html.escape(default)
                        ),
                        "example": _code(example)
                        if example.startswith("{")
                        else view.sentence(example),
                    },
                )
            )
        return "\n".join(rows)


def _endpoint_rows(view: View) -> str:
    rows = []
    for kind in KINDS.published:
        request = f"POST /api/{kind.group('{' + kind.variable + '}')}"
        purpose = view.sentence(kind.published)
        rows.append(view.fill("endpoint", request=request, html_values={"purpose": purpose}))
    return "".join(rows)


def _event_paths() -> list[str]:
    paths = (path for kind in KINDS if kind.fanned_out for path in kind.full_paths)
    return [path.replace("/ws/", "/sse/", 1) for path in paths]


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"
