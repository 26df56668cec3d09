"""Close codes, and the error frames before them.

On `errors`, whose codes go before the closes that many libraries do not show.
"""

from enum import IntEnum
from typing import Any

from relayd.errors import ErrorCode


class CloseCode(IntEnum):
    """The close codes relayd sends (RFC 6455 section 7.4; 4000-4999 are private to relayd).

    One line each: `close` takes the reason from it, `tally` its label, and a test compares the
    table in docs/protocol.md with it. With `?refuse=close` a refused handshake is closed with 4000
    + the HTTP status.

    Attributes:
        reason: the text in the close frame; the default where no more precise one is given.
        reconnect: whether a client may connect again; if not, the code is final.
        error: the code of the error frame before the close, where there is one (`error_before`).
        meaning: the cause, and what the client should do, for the documentation.
    """

    _value_: int
    reason: str
    reconnect: bool
    error: ErrorCode | None
    meaning: str

    NORMAL = 1000, "", False, None, "The conversation is over."
    RESTART = (
        *(1001, "restart", True, None),
        "The server restarts, or the history could not be read to its end: wait a random moment.",
    )
    PROTOCOL_ERROR = 1002, "", False, None, "A frame was against the protocol: mend the client."
    INVALID_PAYLOAD = 1007, "", False, None, "A text frame was not UTF-8: mend the client."
    TOO_BIG = 1009, "", False, None, "A message was too big: mend the client."
    INTERNAL_ERROR = 1011, ErrorCode.INTERNAL.value, True, None, "A fault of the server."
    SERVICE_RESTART = (
        *(1012, "restart", True, None),
        "Replaces 1001 where `[server] restart_code` is 1012.",
    )
    REPLACED = (
        *(4001, "replaced by a newer connection", False, ErrorCode.REPLACED),
        "A newer connection of the same side and UUID is in place: connect only if a person asks "
        "for it.",
    )
    IDLE = (
        *(4002, "no pong", True, ErrorCode.NO_PONG),
        "Nothing came from the client, no pong either.",
    )
    TOO_SLOW = (
        *(4003, "too slow", True, ErrorCode.TOO_SLOW),
        "The client read too slowly, or took no byte of a history for `[keepalive] pong_timeout` "
        "seconds: in a chat, connect with `?since=`.",
    )
    RATE_LIMIT = (
        *(4004, "rate limit", True, ErrorCode.RATE_LIMITED),
        "Too many messages came in a second: slow down.",
    )
    TOKEN_EXPIRED = (
        *(4005, "token expired", True, ErrorCode.TOKEN_EXPIRED),
        "The token has expired, or was revoked (`token revoked`, after the error `token_revoked`): "
        "get a new one.",
    )

    def __new__(cls, value: int, *line: Any) -> "CloseCode":
        """One code, with the attributes in their order."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.reason, code.reconnect, code.error, code.meaning = line
        return code


PRIVATE = range(4000, 5000)
"""Close codes with a meaning of relayd's own (RFC 6455 section 7.4.2)."""


def error_before(code: int, reason: str) -> ErrorCode | None:
    """The code of the error frame that goes before a close frame; None if none goes.

    One goes before every private code, since some libraries show neither such a code nor its
    reason. It is that of the `CloseCode`; of a refused handshake the one that is the reason; else
    the operator chose the close code.

    Args:
        code: of the close frame.
        reason: of the close frame.
    """
    if code not in PRIVATE:
        return None
    known = [each for each in CloseCode if each == code]
    if known:
        return known[0].error
    return next((each for each in ErrorCode if each == reason), ErrorCode.KICKED)
