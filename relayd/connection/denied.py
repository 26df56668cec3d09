"""Closes the connections of whoever has just been denied.

Beside `admission`, which refuses new ones; `assembly` has `access.denials` call it.
"""

from collections.abc import Callable

from relayd.access.denials import Denial
from relayd.access.networks import Networks
from relayd.close_codes import CloseCode
from relayd.connection.registry import Connection, Connections
from relayd.errors import ErrorCode

REASON = "token revoked"


def concerned(
    connections: Connections, denial: Denial, spared: Callable[[str], bool]
) -> list[Connection]:
    """The open connections that a denial is about.

    Args:
        connections: the open ones.
        denial: the denial.
        spared: whether an address is never banned.
    """
    if denial.kind == "token":
        return [each for each in connections if each.identity.token == denial.value]
    if denial.kind == "user":
        return [each for each in connections if each.identity.user == denial.value]
    banned = Networks()
    banned.add(denial.value)
    return [
        each for each in connections if any(banned.find(each.address)) and not spared(each.address)
    ]


def close_denied(connections: Connections, spared: Callable[[str], bool], denial: Denial) -> None:
    """Begins to close the connections that a denial is about.

    With 4005, since another token may help, or, if their address is banned, with 4403 like a
    handshake that is refused with `?refuse=close`.
    """
    code, reason, error = int(CloseCode.TOKEN_EXPIRED), REASON, ErrorCode.TOKEN_REVOKED
    if denial.kind == "address":
        error = ErrorCode.BANNED
        code, reason = 4000 + (error.status or 0), error.value
    for connection in concerned(connections, denial, spared):
        connection.close(code, reason, error)
