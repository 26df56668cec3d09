"""Signs tokens with a key of `[auth]`, for `token create` and for the visit of `doctor`.

Sits under `tokens` and `doctor`.
"""

import secrets
import time
from typing import Any

import jwt

from relayd.access.tokens import configured_keys
from relayd.config import Auth
from relayd.jose.keys import Key

_BRIEF = 60
"""Seconds for which the token of a visit is valid."""


def sign(key: Key, claims: dict[str, Any]) -> str:
    """A token with these claims (RFC 7519)."""
    headers = None if key.kid is None else {"kid": key.kid}
    return jwt.encode(claims, key.signing, algorithm=key.algorithm, headers=headers)


def sign_briefly(auth: Auth, kind: str) -> str:
    """A token for one kind of path that is valid for a minute; "" if no key of `[auth]` signs.

    Args:
        auth: as root reads it, with its secrets.
        kind: of path.
    """
    keys = [key for key in configured_keys(auth) if key.signing is not None]
    if not keys:
        return ""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iat": now, "exp": now + _BRIEF, "jti": secrets.token_hex(8), "scope": kind,
        "sub": "relayctl doctor",
    }  # fmt: skip
    restrictions = (("aud", auth.audience), ("iss", auth.issuer))
    claims |= {name: accepted[0] for name, accepted in restrictions if accepted}
    return sign(keys[0], claims)
