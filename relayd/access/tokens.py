"""Reads the tokens of clients (JWT, RFC 7519).

Sits on `identity`; `connection.admission` and `relayctl token` use it.
"""

import math
from collections.abc import Callable

import jwt

from relayd.access.identity import NOBODY, Identity
from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal

_NOT_CLAIMS = (ValueError, TypeError, AttributeError, OverflowError)
"""Exceptions for claims of the wrong kind, which a valid signature does not exclude."""


class Tokens:
    """Reads tokens under the present configuration.

    Args:
        current: holds the configuration.
        time: returns the time in Unix seconds.
    """

    def __init__(self, current: Current, time: Callable[[], float]) -> None:
        self._current = current
        self._now = time

    async def read(self, token: str | None) -> Identity:
        """Reads a token.

        Args:
            token: as it came; None for none.

        Raises:
            Refusal: 401, it is not valid; or none was shown, and one is needed.
        """
        auth = self._current.config.auth
        if not auth.secret:
            return NOBODY
        if token is None:
            if auth.required:
                raise Refusal(
                    ErrorCode.UNAUTHORIZED,
                    "This server needs a token: as ?token= or as Authorization: Bearer.",
                )
            return NOBODY
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
        now = self._now()
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
