"""What a client offers as subprotocols (RFC 6455 section 1.9), a token among them perhaps.

Under `handshake`, which answers `relayd` or none.
"""

import re
from collections.abc import Sequence

from autobahn.websocket.types import ConnectionRequest

SUBPROTOCOL = "relayd"
"""The subprotocol that is answered to a client that offers it; it may offer a token beside it."""

_NAME = re.compile(r"[\w.+-]{1,32}", re.ASCII)


def choose(offered: Sequence[str]) -> str | None:
    """The subprotocol of the answer; None for none."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def shown(offered: Sequence[str]) -> str:
    """Offered subprotocols for the log; a long one, which may be a token, as `***`."""
    return ", ".join(each if _NAME.fullmatch(each) else "***" for each in offered)


def find_token(request: ConnectionRequest) -> str | None:
    """The token of a handshake.

    In this order: `?token=`, `Authorization: Bearer` (RFC 6750 section 2), the subprotocol beside
    `relayd`, for browsers, which can set no header.
    """
    if request.params.get("token"):
        return str(request.params["token"][0])
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return str(token.strip())
    if SUBPROTOCOL in request.protocols:
        return next((each for each in request.protocols if each and each != SUBPROTOCOL), None)
    return None
