"""The session of an operator: a signed cookie, ended by age, logout, or a new password. Pure.

Beside `passwords`, under `door`. The cookie is `ID.END.SIGNATURE`: 128 random bits, the Unix time
of its end, and HMAC-SHA256 (RFC 2104) with a key that is made from the password's hash. So it holds
in every process with the same hash, also after a restart, and a new hash ends it. A logout is a
denial of its id, which all processes get as they get a revoked token.
"""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import NamedTuple

COOKIE = "relayd_console"
PATH = "/console/"
_TOKEN = re.compile(r"([0-9a-f]{32})\.([1-9][0-9]{0,11})\.([\w-]{43})", re.ASCII)


class Session(NamedTuple):
    """A session.

    Attributes:
        id: unique.
        end: Unix time.
    """

    id: str
    end: int

    @property
    def denial(self) -> str:
        """The value under which its end is denied, as that of a token."""
        return f"console-{self.id}"


class Sessions:
    """Issues sessions, and reads them back.

    Args:
        key: returns the line of `[console] password_hash`; "" if the console is off.
        age: returns `[console] session_age`.
        now: returns the Unix time.
        ended: whether the `denial` of a session is known.
    """

    def __init__(
        self,
        key: Callable[[], str],
        age: Callable[[], float],
        now: Callable[[], float],
        ended: Callable[[str], bool],
    ) -> None:
        self._key = key
        self._age = age
        self._now = now
        self._ended = ended

    def issue(self) -> tuple[Session, str]:
        """A new session, and its token."""
        session = Session(secrets.token_hex(16), int(self._now() + self._age()))
        return session, f"{session.id}.{session.end}.{_sign(self._signing_key(), session)}"

    def read(self, cookies: str | None) -> Session | None:
        """The session of a request; None without a valid one.

        All cookies of the name are looked at, as many as a request head holds: other programs of
        the host, and of its domain, may have set some that come first (RFC 6265 section 5.4).

        Args:
            cookies: the header `Cookie` (RFC 6265 section 4.2).
        """
        if not cookies or not self._key():
            return None
        key = self._signing_key()
        for token in _values(cookies):
            found = _TOKEN.fullmatch(token)
            if found is None:
                continue
            session = Session(found[1], int(found[2]))
            if not self._is_of_now(session):
                continue
            signed = hmac.compare_digest(found[3], _sign(key, session))
            if signed and not self._ended(session.denial):
                return session
        return None

    def _is_of_now(self, session: Session) -> bool:
        # a shorter age of the configuration holds for sessions that are open
        return 0 < session.end - self._now() <= self._age() + 1

    def _signing_key(self) -> bytes:
        return hmac.digest(self._key().encode(), b"relayd console session", hashlib.sha256)


def _sign(key: bytes, session: Session) -> str:
    signature = hmac.digest(key, f"{session.id}.{session.end}".encode(), hashlib.sha256)
    return urlsafe_b64encode(signature).rstrip(b"=").decode()


def set_cookie(token: str, age: int, *, secure: bool) -> str:
    """The header `Set-Cookie` (RFC 6265bis section 4.1).

    Args:
        token: of the session; "" removes the cookie.
        age: seconds for which the browser keeps it.
        secure: whether the request came over TLS.
    """
    ending = "; Secure" if secure else ""
    return f"{COOKIE}={token}; Path={PATH}; Max-Age={age}; HttpOnly; SameSite=Strict{ending}"


def _values(cookies: str) -> Iterator[str]:
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            yield value
