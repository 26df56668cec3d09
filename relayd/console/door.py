"""The check of each request below `/console/`: is it on, is there a session, is the origin ours.

Under `console`, on `sessions`; `web.site` calls it with each request head, before the body. A page
of another origin cannot use an operator's session: the cookie is `SameSite=Strict`, and every
method but GET and HEAD needs the `Origin` of this server itself (RFC 6454 section 7), which a page
cannot forge. GET and HEAD change nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from relayd import forwarded
from relayd.config import Config
from relayd.console.sessions import Session, Sessions
from relayd.errors import ErrorCode, Refusal
from relayd.hosts.authority import Asked, read_asked
from relayd.hosts.origins import SELF, is_allowed
from relayd.web.answers import Answer, Stream, redirect
from relayd.web.request import Request
from relayd.web.site import NOTHING

Reply = Answer | Stream | Awaitable[Answer | Stream]
Guarded = Callable[..., Reply]
"""Gets the session, the request and, by name, the segments of the path."""

LOGIN = "/console/login"
API = "/console/api/"
PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
"""The headers of every page. With the policy `no-referrer` a form would have the origin `null`."""


class Door:
    """Checks the requests below `/console/`.

    Args:
        config: returns the configuration.
        sessions: reads the cookies.
    """

    def __init__(self, config: Callable[[], Config], sessions: Sessions) -> None:
        self._config = config
        self._sessions = sessions

    def admit(self, request: Request) -> Answer | None:
        """Looks at the head of a request.

        Returns:
            A redirect to the login, or None if the request may go on.

        Raises:
            Refusal: 404 while the console is off, 403 for another origin, 401 without a session.
        """
        if not self._config().console.password_hash:
            raise Refusal(ErrorCode.NOT_FOUND, NOTHING)
        reads = request.method in (b"GET", b"HEAD")
        if not reads:
            self._check_origin(request)
        if request.target == LOGIN or self.session(request) is not None:
            return None
        if reads and not request.target.startswith(API):
            return _to_login()
        raise self.refusal()

    def guard(self, handler: Guarded) -> Callable[..., Reply]:
        """A handler that gets the session, which may have ended while the body came."""

        def answer(request: Request, **segments: Any) -> Reply:
            session = self.session(request)
            if session is None:
                if request.target.startswith(API):
                    raise self.refusal()
                return _to_login()
            return handler(session, request, **segments)

        return answer

    def session(self, request: Request) -> Session | None:
        """The session of a request; None without a valid one."""
        return self._sessions.read(request.whole_header("cookie"))

    @staticmethod
    def refusal() -> Refusal:
        """The refusal for a request without a session."""
        return Refusal(ErrorCode.UNAUTHORIZED, "There is no session, or it has ended: log in.")

    def asked(self, request: Request) -> Asked:
        """The hosts and the origin of a request."""
        settings = self._config().proxy
        proxies = forwarded.proxies(settings.trusted, settings.header)
        return read_asked(request.whole_header, request.absolute_host, proxies, request.connected)

    def _check_origin(self, request: Request) -> None:
        asked = self.asked(request)
        if asked.origin is None or not is_allowed(asked, (SELF,)):
            raise Refusal(
                ErrorCode.ORIGIN_NOT_ALLOWED,
                "The console takes requests of its own pages only; behind a proxy, the Host header "
                "has to reach relayd.",
            )


def _to_login() -> Answer:
    answer = redirect(LOGIN, 303)
    return Answer(answer.status, answer.body, answer.content_type, {**answer.headers, **PRIVATE})
