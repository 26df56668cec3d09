"""What relayd knows about the person or program behind a connection. Pure.

Near the ground of `relayd.access`, on `rights`.
"""

import msgspec

from relayd.access.rights import Rights


class Identity(msgspec.Struct, frozen=True):
    """The bearer of a token.

    Attributes:
        user: the `sub` claim, or None without a token.
        expires: the Unix time at which the connection ends, or None.
        rights: the paths for which the token is valid, or None for all.
        token: the `jti` claim, or None.
    """

    user: str | None = None
    expires: float | None = None
    rights: Rights | None = None
    token: str | None = None


NOBODY = Identity()
"""A client without a token."""
