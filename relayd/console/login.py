"""Login and logout. Under `console`, on `attempts` and `sessions`."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from relayd.access.denials import Denial
from relayd.config import Config
from relayd.console.attempts import Attempts
from relayd.console.door import LOGIN, PRIVATE, Door
from relayd.console.passwords import LONGEST, verify
from relayd.console.sessions import PATH, Session, Sessions, set_cookie
from relayd.control.remote import ConsoleOperations
from relayd.errors import Refusal
from relayd.logs import Logger
from relayd.web.answers import Answer, redirect
from relayd.web.request import Request

Page = Callable[[Request, Refusal | None], Answer]
"""Builds the page of the login, with the reason why one failed."""


class Login:
    """The login, at `/console/login`, and the logout.

    Args:
        config: returns the configuration.
        reactor: for the threads in which passwords are tried.
        door: knows whose request it is.
        sessions: issues them.
        operations: end a session in all processes.
        page: builds the page.
    """

    _log = Logger()

    def __init__(
        self,
        config: Callable[[], Config],
        reactor: Any,
        *,
        door: Door,
        sessions: Sessions,
        operations: ConsoleOperations,
        page: Page,
    ) -> None:
        self._config = config
        self._door = door
        self._sessions = sessions
        self._operations = operations
        self._page = page
        self._attempts = Attempts(reactor, verify)

    def form(self, request: Request) -> Answer:
        """The page with the form; a redirect for an operator who has a session."""
        if self._door.session(request) is not None:
            return _see(PATH)
        return self._page(request, None)

    async def enter(self, request: Request) -> Answer:
        """Tries the password of the form: a session, or the form again with the reason."""
        line = self._config().console.password_hash
        try:
            password = _read_password(request.body())
            right = await self._attempts.check(request.client_host, line, password)
        except Refusal as refusal:
            return self._page(request, refusal)
        # the hash may have changed meanwhile
        if not right or line != self._config().console.password_hash:
            self._log.warn("console: a wrong password from {peer}", peer=request.client_host)
            return self._page(request, Door.refusal())
        session, token = self._sessions.issue()
        self._log.info("console: {peer} has logged in", peer=request.client_host)
        age = max(1, round(session.end - time.time()))
        return _see(PATH, set_cookie(token, age, secure=self._is_secure(request)))

    async def leave(self, session: Session, request: Request) -> Answer:
        """Ends the session, in all processes."""
        denial = Denial(
            kind="token", value=session.denial, until=float(session.end), made=time.time(),
            reason="console: logged out",
        )  # fmt: skip
        await self._operations.deny(denial)
        self._log.info("console: {peer} has logged out", peer=request.client_host)
        return _see(LOGIN, set_cookie("", 0, secure=self._is_secure(request)))

    def _is_secure(self, request: Request) -> bool:
        """Whether the browser speaks TLS, with a proxy perhaps: the origin of its page says so."""
        return (request.header("Origin") or "").lower().startswith("https:")


def _read_password(body: bytes) -> str:
    """The password of a form (application/x-www-form-urlencoded); "" without one."""
    try:
        values = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    except ValueError:  # too many fields
        return ""
    password = next(iter(values.get("password", ())), "")
    return password.encode()[:LONGEST].decode("utf-8", "ignore")


def _see(place: str, cookie: str = "") -> Answer:
    answer = redirect(place, 303)
    headers = {**answer.headers, **PRIVATE}
    cookies = (cookie,) if cookie else ()
    return Answer(answer.status, answer.body, answer.content_type, headers, cookies)
