"""Which handler answers which path; `make_site` is what the rest of relayd uses.

The top module of `web`. Every path works with and without the slash at its end; the pages of the
chat redirect to the form with it, because their links are relative.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.web import resource, server

from relayd import forwarded
from relayd.errors import ErrorCode, Refusal
from relayd.logs import Logger
from relayd.web.answers import Answer, error_answer
from relayd.web.api import Api
from relayd.web.backend import Backend
from relayd.web.health import Health
from relayd.web.metrics import Metrics
from relayd.web.pages import Pages
from relayd.web.request import Request
from relayd.web.static_files import StaticFiles

__all__ = ["Backend", "Site", "make_site"]

# A handler gets the request and, by name, the still percent-encoded segments of its path.
Handler = Callable[..., Answer | Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """A path and what answers its methods; `/{name}` stands for one segment, `[/]` may be there."""

    path: re.Pattern[str]
    methods: Mapping[str, Handler]

    @classmethod
    def make(cls, path: str, **methods: Handler) -> "Route":
        """Compiles a path such as `/api/push/{topic}[/]`. GET answers HEAD, too."""
        pattern = re.escape(path).replace(r"\[/\]", "/?")
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern)
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        return cls(re.compile(pattern), methods)


class Site(server.Site):
    """The HTTP side as Twisted sees it: the front door gives it and its requests to a channel.

    Twisted's tree of resources is not used.
    """

    requestFactory = Request  # noqa: N815
    noisy = False
    _log = Logger()

    def __init__(self, backend: Backend, reactor: Any) -> None:
        super().__init__(
            resource.Resource(),
            reactor=reactor,
            timeout=60,
            parsePOSTFormSubmission=False,
        )
        self._backend = backend
        self._api = Api(backend)
        self.max_body = backend.config.limits.max_message_size
        self._routes = self._make_routes()
        self._sockets = _socket_paths(echo=backend.config.echo.enabled)

    def log(self, request: Any) -> None:
        """One line an answer, without the query, which may hold a token.

        None for probes: they come every few seconds.
        """
        path = (request.uri or b"?").partition(b"?")[0].decode("ascii", "backslashreplace")
        probe = path.startswith(("/healthz", "/readyz"))
        if not (probe or (path.startswith("/metrics") and request.code == 200)):
            self._log.info(
                "{peer} {method} {path}: {status}",
                peer=self._client(request),
                method=request.method.decode("latin-1"),
                path=path if path.isprintable() else ascii(path),
                status=request.code,
            )

    def _client(self, request: Any) -> str:
        """Who asks: what a trusted proxy says, or who has connected."""
        settings = self._backend.config.proxy
        lines = request.requestHeaders.getRawHeaders(settings.header)
        return forwarded.proxies(settings.trusted, settings.header).client(
            getattr(request.getClientAddress(), "host", forwarded.UNIX),
            None if lines is None else ", ".join(lines),
        )

    def closing(self) -> bool:
        """Connections are not kept alive while relayd goes down."""
        return self._backend.draining

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """HTTP/1.1 alone: the channels of HTTP/2 know nothing of our limits."""
        return [b"http/1.1"]

    def answer(self, request: Request) -> Answer | Awaitable[Answer]:
        """Finds the handler and calls it.

        Raises:
            Refusal: 404, 426, or what the handler refuses.
            ClientError: the body is not what the handler needs.
            Unavailable: something the handler needs is away.
        """
        path = request.target
        if self._sockets.fullmatch(path):
            return error_answer(
                426,
                ErrorCode.UPGRADE_REQUIRED,
                "This path speaks WebSocket: connect with a WebSocket client.",
                {"Upgrade": "websocket", "Connection": "Upgrade"},
            )
        if path == "/api" or path.startswith("/api/"):
            refused = self._api.refused(request)
            if refused is not None:
                return refused
        for route in self._routes:
            found = route.path.fullmatch(path)
            if found is None:
                continue
            handler = route.methods.get(request.method.decode("latin-1"))
            if handler is None:
                return _wrong_method(route)
            return handler(request, **found.groupdict())
        raise Refusal(
            404, ErrorCode.NOT_FOUND, "There is nothing at this path; the page / lists what is."
        )

    def _make_routes(self) -> list[Route]:
        files = StaticFiles()
        pages = Pages(self._backend)
        health = Health(self._backend)
        metrics = []
        if self._backend.config.metrics.enabled:
            metrics.append(Route.make("/metrics[/]", GET=Metrics(self._backend).serve))
        return [
            Route.make("/", GET=pages.home),
            Route.make("/chat", GET=pages.to_lobby),
            Route.make("/chat/", GET=pages.lobby),
            Route.make("/chat/{room}", GET=pages.to_room),
            Route.make("/chat/{room}/", GET=pages.room),
            Route.make("/static/{name}", GET=files.serve),
            Route.make("/healthz[/]", GET=health.alive),
            Route.make("/readyz[/]", GET=health.ready),
            *metrics,
            Route.make("/api/push/{topic}[/]", POST=self._api.push),
            Route.make("/api/chat/{room}[/]", POST=self._api.say),
        ]


def make_site(backend: Backend, reactor: Any) -> Site:
    """Makes the HTTP side.

    Args:
        backend: the rest of relayd.
        reactor: for the time-outs of idle connections.
    """
    return Site(backend, reactor)


def _socket_paths(*, echo: bool) -> re.Pattern[str]:
    """The paths that speak WebSocket."""
    kinds = [
        "camera(/[^/]+)?",
        "chat(/[^/]+)?",
        "push/[^/]+",
        "difficulty/(unity|android)/[^/]+",
    ]
    if echo:
        kinds.append("echo")
    return re.compile(f"/ws/({'|'.join(kinds)})/?")


def _wrong_method(route: Route) -> Answer:
    allowed = ", ".join(sorted(route.methods))
    return error_answer(
        405,
        ErrorCode.METHOD_NOT_ALLOWED,
        f"This path answers {allowed} only.",
        {"Allow": allowed},
    )
