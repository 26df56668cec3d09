"""A site of twisted.web whose paths are a list of routes, each with its handlers.

Sits above `request`; `site`, the public one, and `control.site`, the operator's, derive from it.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.web import resource, server

from relayd.config import Keepalive
from relayd.errors import ErrorCode, Refusal
from relayd.web.answers import Answer, Stream, error_answer
from relayd.web.request import Request

# A handler gets the request and, by name, the still percent-encoded segments of its path.
Handler = Callable[..., Answer | Stream | Awaitable[Answer | Stream]]


@dataclass(frozen=True)
class Route:
    """A path and the handlers of its methods.

    In a path, `/{name}` stands for one segment, and `[/]` for an optional slash.
    """

    path: re.Pattern[str]
    methods: Mapping[str, Handler]

    @classmethod
    def at(cls, path: str, **methods: Handler) -> "Route":
        """Compiles a path such as `/api/push/{topic}[/]`. GET answers HEAD, too."""
        pattern = re.escape(path).replace(r"\[/\]", "/?")
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern)
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        return cls(re.compile(pattern), methods)


class Mounted(Protocol):
    """Paths of a part that `assembly` builds, which the public site offers beside its own.

    Attributes:
        routes: its paths; all of them begin with its prefix.
        quiet: paths whose successful answers are not logged, since they come every few seconds.
    """

    @property
    def routes(self) -> Sequence[Route]: ...

    @property
    def quiet(self) -> Sequence[str]: ...

    def covers(self, path: str) -> bool:
        """Whether a path begins with its prefix."""

    def admit(self, request: Request) -> Answer | None:
        """Looks at the head of a request below its prefix; as `request.Answering.admit`."""

    def max_body(self, path: str) -> int | None:
        """The largest size of a body, in bytes; None for that of the site."""


class RoutedSite(server.Site):
    """A site of twisted.web that finds its answers in routes, not in a tree of resources.

    Args:
        reactor: for the timeouts of idle connections.
        max_body: returns the largest size of a request body, in bytes.
        nothing: the sentence for a path without a route.
        keepalive: returns the time and the rate of a request body.
    """

    requestFactory = Request  # noqa: N815
    noisy = False

    def __init__(
        self,
        reactor: Any,
        *,
        max_body: Callable[[], int],
        nothing: str,
        keepalive: Callable[[], Keepalive] = Keepalive,
    ) -> None:
        super().__init__(
            resource.Resource(),
            reactor=reactor,
            timeout=60,
            parsePOSTFormSubmission=False,
        )
        self._max_body = max_body
        self._nothing = nothing
        self._keepalive = keepalive
        self._routes: Sequence[Route] = ()

    def max_body(self, target: str) -> int:
        """The largest size of the body of a request, in bytes, by its path."""
        return self._max_body()

    @property
    def body_timeout(self) -> float:
        """Seconds within which a whole request body has to arrive."""
        return self._keepalive().request_timeout

    @property
    def body_rate(self) -> float:
        """Bytes of a request body that have to arrive in a second at least."""
        return self._keepalive().body_rate

    def admit(self, request: Request) -> Answer | None:
        """Looks at the head of a request before its body (`request.Answering`)."""
        return None

    def headers(self, request: Request) -> Mapping[str, str]:
        """Further headers of every answer to a request (`request.Answering`)."""
        return {}

    def closing(self) -> bool:
        """Whether connections should end after their answer (`request.Answering`)."""
        return False

    def answer(self, request: Request) -> Answer | Stream | Awaitable[Answer | Stream]:
        """Finds the handler and calls it.

        Raises:
            Refusal: 404, or a refusal of the handler.
            ClientError: the body is wrong.
            Unavailable: a store that the handler needs is unavailable.
        """
        for route in self._routes:
            found = route.path.fullmatch(request.target)
            if found is None:
                continue
            handler = route.methods.get(request.method.decode("latin-1"))
            if handler is None:
                return _wrong_method(route)
            return handler(request, **found.groupdict())
        raise Refusal(ErrorCode.NOT_FOUND, self._nothing)


def _wrong_method(route: Route) -> Answer:
    allowed = ", ".join(sorted(route.methods))
    return error_answer(
        ErrorCode.METHOD_NOT_ALLOWED,
        f"This path answers {allowed} only.",
        {"Allow": allowed},
    )
