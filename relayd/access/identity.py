"""What relayd knows about the person or program behind a connection. Pure.

The ground of `relayd.access`.
"""

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """The bearer of a token.

    Attributes:
        user: the `sub` claim, or None without a token.
        expires: the `exp` claim in Unix seconds, or None.
        scope: the kinds of path the token is good for (`camera`, `chat`, ...), or None for all.
    """

    user: str | None = None
    expires: float | None = None
    scope: frozenset[str] | None = None


NOBODY = Identity()
"""A client without a token."""
