"""The table of the public paths and their handlers; the rest of relayd calls `build_site`.

The top module of `web`. The routes of the pages are in `pages`.
"""

import re
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any

from relayd import forwarded
from relayd.errors import ErrorCode
from relayd.hosts.authority import check_hosts, read_asked
from relayd.logs import Logger, printable
from relayd.relays.paths import KINDS
from relayd.web.answers import Answer, Stream, error_answer
from relayd.web.api import Api
from relayd.web.backend import Backend
from relayd.web.cors import answer_preflight, cors_headers
from relayd.web.health import Health
from relayd.web.metrics import Metrics
from relayd.web.pages import page_routes
from relayd.web.request import Request
from relayd.web.routes import Mounted, Route, RoutedSite
from relayd.web.static_files import StaticFiles, clients_folder

__all__ = ["NOTHING", "Backend", "Site", "build_site"]


NOTHING = "There is nothing at this path."
"""The sentence of a 404."""

# query or fragment, which may hold a token, also if somebody has encoded the sign in front of it
_BEHIND_PATH = re.compile(rb"(?:[?#]|%3f|%23).*", re.IGNORECASE | re.DOTALL)
_OF_PROXIES = (
    *("Via", "Forwarded", "X-Real-IP"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"),
)


class Site(RoutedSite):
    """The site of twisted.web to which the front door hands plain HTTP requests."""

    _log = Logger()

    def __init__(self, backend: Backend, reactor: Any, mounted: Sequence[Mounted] = ()) -> None:
        super().__init__(
            reactor,
            max_body=lambda: backend.config.limits.max_message_size,
            keepalive=lambda: backend.config.keepalive,
            nothing=NOTHING,
        )
        self._backend = backend
        self._api = Api(backend)
        self._mounted = mounted
        self._routes = [
            *self._build_routes(reactor),
            *(route for part in mounted for route in part.routes),
        ]
        self._quiet = ("/metrics", *(path for part in mounted for path in part.quiet))

    def log(self, request: Any) -> None:
        """Logs one line for each answer, without the query, which may hold a token.

        Probes are not logged, because they come every few seconds.
        """
        path = _BEHIND_PATH.sub(b"", request.uri or b"?").decode("ascii", "backslashreplace")
        probe = path.startswith(("/healthz", "/readyz"))
        if not (probe or (path.startswith(self._quiet) and request.code in (200, 304))):
            self._log.info(
                "{peer} {method} {path}: {status}",
                peer=self._client(request),
                method=request.method.decode() if request.method.isalpha() else "?",
                path=printable(KINDS.loggable(path)),
                status=request.code,
            )

    def _client(self, request: Request) -> str:
        """The client's address: from a trusted proxy, or of the connection."""
        settings = self._backend.config.proxy
        proxies = forwarded.proxies(settings.trusted, settings.header)
        return proxies.client(request.connected, request.whole_header(settings.header))

    def _is_forwarded(self, request: Request) -> bool:
        """Whether a request comes, as far as it shows, through a proxy.

        `Upgrade` is for the next hop alone (RFC 9110 section 7.8), but nginx passes it on, on
        HTTP/2 too, where clients take it for a malformed answer (RFC 9113 section 8.2.2).
        """
        settings = self._backend.config.proxy
        proxies = forwarded.proxies(settings.trusted, settings.header)
        return (
            request.clientproto == b"HTTP/1.0"  # no upgrade there; what nginx speaks by default
            or proxies.trusts(request.connected)
            or any(request.header(name) is not None for name in _OF_PROXIES)
        )

    def headers(self, request: Request) -> Mapping[str, str]:
        """Those that let pages of other origins read an answer (`cors`)."""
        return cors_headers(request, self._backend.config.api.allowed_origins)

    def closing(self) -> bool:
        """Connections are not kept alive during a drain."""
        return self._backend.draining

    def answer(self, request: Request) -> Answer | Stream | Awaitable[Answer | Stream]:
        """Finds the handler and calls it.

        Raises:
            Refusal: 404, 426, or a refusal of the handler.
            ClientError: the body is wrong.
            Unavailable: a store that the handler needs is unavailable.
        """
        path = request.target
        if KINDS.speaks(path, self._backend.config):
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
            headers = {} if self._is_forwarded(request) else upgrade
            return error_answer(ErrorCode.UPGRADE_REQUIRED, headers=headers)
        if KINDS.sends_events(path, self._backend.config):
            # the front door answers GET
            return error_answer(
                ErrorCode.METHOD_NOT_ALLOWED, "This path answers GET only.", {"Allow": "GET"}
            )
        return super().answer(request)

    def admit(self, request: Request) -> Answer | None:
        """Checks the head of a request, before its body: address, host, key of the API, rate.

        A mounted part below `/api` needs no key: it decides by itself who may use it.

        Probes of health are free: they cost no more than a refusal, and have to be answered.

        Raises:
            Refusal: 403, a banned address; 421, another host; 429, too many requests or wrong keys
                of an address.
        """
        client = request.client_host = self._client(request)
        self._backend.check_address(client)
        settings = self._backend.config.proxy
        proxies = forwarded.proxies(settings.trusted, settings.header)
        asked = read_asked(request.whole_header, request.absolute_host, proxies, request.connected)
        check_hosts(asked, self._backend.config.server.names)
        preflight = answer_preflight(request, self._backend.config.api.allowed_origins)
        if preflight is not None:
            self._backend.check_request(self._client(request))
            return preflight
        path = request.target
        part = self._find_mounted(path)
        if part is None and (path == "/api" or path.startswith("/api/")):
            return self._api.refused(request, client)
        if not path.startswith(("/healthz", "/readyz")):
            self._backend.check_request(client)
        return None if part is None else part.admit(request)

    def max_body(self, target: str) -> int:
        """The largest size of the body of a request, in bytes, by its path."""
        part = self._find_mounted(target)
        found = None if part is None else part.max_body(target)
        return super().max_body(target) if found is None else found

    def _find_mounted(self, path: str) -> Mounted | None:
        return next((part for part in self._mounted if part.covers(path)), None)

    def _build_routes(self, clock: Any) -> list[Route]:
        files = StaticFiles()
        # imported by pages of other sites (Fetch standard, section 3.3), which is why it is there
        clients = StaticFiles(clients_folder(), {"Access-Control-Allow-Origin": "*"})
        health = Health(self._backend, clock)
        return [
            *page_routes(self._backend, clock),
            Route.at("/static/{name}", GET=files.serve),
            # browsers ask for it beside answers without a page, such as JSON
            Route.at("/favicon.ico", GET=partial(files.serve, name="icon.svg")),
            Route.at("/static/{inside}/{name}", GET=files.serve),
            Route.at("/clients/{name}", GET=clients.serve),
            Route.at("/healthz[/]", GET=health.alive),
            Route.at("/readyz[/]", GET=health.ready),
            Route.at("/metrics[/]", GET=Metrics(self._backend).serve),
            *(
                Route.at(f"/api/{kind.group('{name}')}[/]", POST=partial(self._api.publish, kind))
                for kind in KINDS.published
            ),
        ]


def build_site(backend: Backend, reactor: Any, mounted: Sequence[Mounted] = ()) -> Site:
    """Builds the HTTP side.

    Args:
        backend: the rest of relayd.
        reactor: for the timeouts of idle connections.
        mounted: parts with paths of their own.
    """
    return Site(backend, reactor, mounted)
