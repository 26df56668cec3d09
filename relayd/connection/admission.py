"""Admission of clients: draining, number of connections, host, origin, token. Pure, given a clock.

The WebSocket adapter checks each handshake here once, before the path's own rules.
"""

import math
from collections.abc import Callable

import jwt
import msgspec

from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal
from relayd.hosts.authority import Asked, check_hosts
from relayd.hosts.origins import is_allowed

_NOT_CLAIMS = (ValueError, TypeError, AttributeError, OverflowError)
"""Exceptions for claims of the wrong kind, which a valid signature does not exclude."""


class Identity(msgspec.Struct, frozen=True):
    """The claims of a token about its bearer.

    Attributes:
        user: the `sub` claim, or None without a token.
        expires: the `exp` claim in Unix seconds, or None.
        scope: the kinds of path the token is good for (`camera`, `chat`, ...), or None for all.
    """

    user: str | None = None
    expires: float | None = None
    scope: frozenset[str] | None = None


class Admission:
    """The rules that hold on every path.

    Args:
        current: holds the configuration.
        time: returns the time in Unix seconds.

    Attributes:
        now: the same as `time`.
        draining: whether every handshake is refused at the moment.
        stopping: whether the process is about to end.
    """

    def __init__(self, current: Current, time: Callable[[], float]) -> None:
        self._current = current
        self.now = time
        self.draining = self.stopping = False

    def drain(self) -> None:
        """Refuses every handshake from now on."""
        self.draining = True

    def undrain(self) -> None:
        """Admits clients again."""
        self.draining = False

    def stop(self) -> None:
        """Notes that the process is about to end; pending handshakes are still admitted."""
        self.stopping = True

    def admit(self, kind: str, *, asked: Asked, token: str | None, connections: int) -> Identity:
        """Checks one handshake.

        Args:
            kind: the kind of path: `camera`, `difficulty`, `chat`, `push` or `echo`.
            asked: the hosts and the origin that it names.
            token: from `?token=` or `Authorization: Bearer`, if there was one.
            connections: how many connections are open.

        Raises:
            Refusal: 503 draining, 429 too many, 421 host, 403 origin or scope, 401 no or bad token.
        """
        self.check_room(connections)
        server = self._current.config.server
        check_hosts(asked, server.names)
        if not is_allowed(asked, server.allowed_origins):
            raise Refusal(ErrorCode.ORIGIN_NOT_ALLOWED)
        identity = self._read(token)
        if identity.scope is not None and kind not in identity.scope:
            raise Refusal(ErrorCode.FORBIDDEN, f"The token is not good for {kind} paths.")
        return identity

    def check_room(self, connections: int) -> None:
        """Checks again, after a handshake waited, the rules whose outcome may have changed.

        Args:
            connections: how many connections are open.

        Raises:
            Refusal: 503 draining, 429 too many.
        """
        if self.draining:
            raise Refusal(ErrorCode.DRAINING)
        limit = self._current.config.limits.max_connections
        if limit and connections >= limit:
            raise Refusal(ErrorCode.TOO_MANY, f"This server serves {limit} connections at most.")

    def _read(self, token: str | None) -> Identity:
        """Reads a token (RFC 7519, signed with HS256)."""
        auth = self._current.config.auth
        if not auth.secret:
            return Identity()
        if token is None:
            if auth.required:
                raise Refusal(
                    ErrorCode.UNAUTHORIZED,
                    "This server needs a token: as ?token= or as Authorization: Bearer.",
                )
            return Identity()
        try:
            claims = jwt.decode(
                token,
                auth.secret,
                algorithms=["HS256"],
                # checked below, against the clock that tests can set
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
            user = claims.get("sub")
            if user is not None:
                user.encode()
            identity = Identity(
                user=user,
                expires=_seconds(claims["exp"]) if "exp" in claims else None,
                scope=frozenset(claims["scope"].split()) if "scope" in claims else None,
            )
            not_before = _seconds(claims.get("nbf", 0))
        except (jwt.InvalidTokenError, *_NOT_CLAIMS) as error:
            raise Refusal(ErrorCode.UNAUTHORIZED, "The token is not valid.") from error
        now = self.now()
        if not_before > now:
            raise Refusal(ErrorCode.UNAUTHORIZED, "The token is not valid yet.")
        if identity.expires is not None and identity.expires <= now:
            raise Refusal(ErrorCode.UNAUTHORIZED, "The token has expired.")
        return identity


def _seconds(claim: object) -> float:
    """A NumericDate (RFC 7519 section 2). Raises TypeError, ValueError or OverflowError."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        raise TypeError("not a number")
    seconds = float(claim)
    if math.isnan(seconds):
        raise ValueError("not a moment")
    return seconds
