"""Reads the tokens of clients (JWT, RFC 7519).

Sits on `keys`, `jwks` and `rights`; `connection.admission` and `relayctl token` use it. A token is
refused with one sentence that says why; the sentence never holds a part of the token.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jwt

from relayd.access.denials import LONGEST
from relayd.access.identity import NOBODY, Identity
from relayd.access.jwks import Jwks
from relayd.access.rights import Rights, read_rights
from relayd.config import Auth
from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal
from relayd.jose.keys import Key, choose, parse_keys, secret_key
from relayd.names import Kinds

LEEWAY = 30.0
"""Seconds that the clocks of issuer and relayd may differ: `nbf` and `exp` hold so much longer."""
OURS: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""Options of PyJWT: relayd checks the times by its own clock."""

_NOT_CLAIMS = (ValueError, TypeError, AttributeError, OverflowError)
"""Exceptions for claims of the wrong kind, which a valid signature does not exclude."""


class Tokens:
    """Reads tokens under the present configuration.

    Args:
        current: holds the configuration.
        reactor: fetches `[auth] jwks_url`.
        time: returns the time in Unix seconds.
        kinds: the table of paths, which rights name.
    """

    def __init__(
        self, current: Current, reactor: Any, time: Callable[[], float], kinds: Kinds
    ) -> None:
        self._current = current
        self._reactor = reactor
        self._now = time
        self._kinds = kinds
        self._auth: Auth | None = None
        self._keys: tuple[Key, ...] = ()
        self._jwks: Jwks | None = None

    async def read(self, token: str | None, kind: str) -> Identity:
        """Reads the token of a handshake.

        Args:
            token: as it came; None for none.
            kind: the name of the kind of path.

        Raises:
            Refusal: 401, it is not valid; or none was shown, and one is needed. 503, the keys
                cannot be fetched.
        """
        auth = self._follow()
        if not auth.has_keys:
            return NOBODY
        if token is None:
            if auth.needs_token(kind):
                raise Refusal(
                    ErrorCode.UNAUTHORIZED,
                    "This path needs a token: as Authorization: Bearer, as ?token=, or as the "
                    "subprotocol behind relayd.",
                )
            return NOBODY
        return self.identify(await self.claims(token))

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token with a valid signature, for this server (`aud`, `iss`).

        Raises:
            Refusal: as `read`.
        """
        auth = self._follow()
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, *_NOT_CLAIMS) as error:
            raise _refusal("This is no token (JWT).") from error
        kid, algorithm = header.get("kid"), header.get("alg")
        chosen = choose(await self._known(), kid, algorithm)
        if chosen is None and self._jwks is not None:
            chosen = choose((*self._keys, *(await self._jwks.renewed() or ())), kid, algorithm)
        if chosen is None:
            raise _refusal("The token is signed with a key that is not known here (kid).")
        if not chosen:
            raise _refusal("The token is signed with another algorithm than its key is for (alg).")
        for key in chosen[:-1]:
            try:
                return _decode(token, key, auth)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, *_NOT_CLAIMS) as error:
                raise _refusal(_sentence(error)) from error
        try:
            return _decode(token, chosen[-1], auth)
        except (jwt.InvalidTokenError, *_NOT_CLAIMS) as error:
            raise _refusal(_sentence(error)) from error

    def identify(self, claims: dict[str, Any]) -> Identity:
        """Who shows these claims, and until when. Raises Refusal: 401."""
        try:
            user = claims.get("sub")
            if user is not None:
                user.encode()
            if len(claims.get("jti", "")) > LONGEST or len(user or "") > LONGEST:
                raise _refusal(f"A name in the token (sub, jti) has over {LONGEST} characters.")
            expires = _seconds(claims["exp"]) + LEEWAY if "exp" in claims else None
            not_before = _seconds(claims.get("nbf", 0)) - LEEWAY
            rights = self._rights(claims)
        except _NOT_CLAIMS as error:
            raise _refusal("A claim of the token is of the wrong kind.") from error
        now = self._now()
        if not_before > now:
            raise _refusal("The token is not valid yet (nbf).")
        if expires is not None and expires <= now:
            raise _refusal("The token has expired (exp).")
        return Identity(user=user, expires=expires, rights=rights, token=claims.get("jti"))

    def _rights(self, claims: dict[str, Any]) -> Rights | None:
        """The rights of the claims `rights` and `scope`; None without both. Raises TypeError."""
        if "rights" not in claims and "scope" not in claims:
            return None
        return read_rights(words_of(claims), self._kinds)

    async def _known(self) -> tuple[Key, ...]:
        if self._jwks is None:
            return self._keys
        fetched = await self._jwks.fresh()
        if fetched is None and not self._keys:
            raise Refusal(ErrorCode.KEYS_UNAVAILABLE)
        return (*self._keys, *(fetched or ()))

    def _follow(self) -> Auth:
        """The present settings; the keys are read again after a change."""
        auth = self._current.config.auth
        before, self._auth = self._auth, auth
        if auth is before:
            return auth
        self._keys = configured_keys(auth)
        place = (auth.jwks_url, auth.jwks_ca_file, auth.jwks_deadline, auth.jwks_age)
        if before is None or place != (
            *(before.jwks_url, before.jwks_ca_file),
            *(before.jwks_deadline, before.jwks_age),
        ):
            self._jwks = None
            if auth.jwks_url:
                self._jwks = Jwks(
                    auth.jwks_url,
                    self._reactor,
                    ca_file=auth.jwks_ca_file,
                    deadline=auth.jwks_deadline,
                    age=auth.jwks_age,
                )
        return auth


def configured_keys(auth: Auth) -> tuple[Key, ...]:
    """The keys of `[auth] secret`, one a line, and of `[auth] keys`, in this order."""
    return (
        *map(secret_key, auth.secret.splitlines()),
        *(parse_keys(auth.keys) if auth.keys else ()),
    )


def words_of(claims: dict[str, Any]) -> Iterable[str]:
    """The words of the claims `rights` (a list of texts) and `scope`. Raises TypeError."""
    scope, listed = claims.get("scope", ""), claims.get("rights", [])
    if not isinstance(scope, str):
        raise TypeError("scope is no text")
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise TypeError("rights is no list of texts")
    return [*scope.split(), *listed]


def _decode(token: str, key: Key, auth: Auth) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token,
        key.verifying,
        algorithms=[key.algorithm],
        audience=auth.audience or None,
        issuer=auth.issuer or None,
        options={**OURS, "verify_aud": bool(auth.audience)},
    )
    return claims


def _sentence(error: Exception) -> str:
    if isinstance(error, jwt.InvalidSignatureError):
        return "The signature of the token is wrong."
    if isinstance(error, jwt.InvalidAudienceError):
        return "The token is for another audience (aud)."
    if isinstance(error, jwt.InvalidIssuerError):
        return "The token is from another issuer (iss)."
    if isinstance(error, jwt.MissingRequiredClaimError):
        return "The token lacks a claim that is needed here (aud or iss)."
    return "The token is not valid."


def _refusal(sentence: str) -> Refusal:
    return Refusal(ErrorCode.UNAUTHORIZED, sentence)


def _seconds(claim: object) -> float:
    """A NumericDate (RFC 7519 section 2). Raises TypeError, ValueError or OverflowError."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        raise TypeError("not a number")
    seconds = float(claim)
    if not math.isfinite(seconds):
        raise ValueError("not a moment")
    return seconds
