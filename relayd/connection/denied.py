"""Closes the connections of whoever has just been denied.

Beside `admission`, which refuses new ones; `assembly` has `access.denials` call it.
"""

from relayd.access.denials import Denial
from relayd.access.identity import Identity
from relayd.connection.registry import Connection, Connections
from relayd.errors import CloseCode

REASON = "token revoked"


def is_concerned(identity: Identity, denial: Denial) -> bool:
    """Whether a denial is about a client."""
    return denial.value == (identity.token if denial.kind == "token" else identity.user)


def concerned(connections: Connections, denial: Denial) -> list[Connection]:
    """The open connections that a denial is about."""
    return [each for each in connections if is_concerned(each.identity, denial)]


def close_denied(connections: Connections, denial: Denial) -> None:
    """Begins to close the connections that a denial is about, with 4005."""
    for connection in concerned(connections, denial):
        connection.close(CloseCode.TOKEN_EXPIRED, REASON)
