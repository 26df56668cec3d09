"""Distinguishes refused commands from a Redis that is in effect unavailable.

Stands on `relayd.errors`, `relayd.stores` and `relayd.tls`. Redis begins an error with its code in
capitals (`WRONGTYPE …`); before version 7, an error inside a script has the code in the middle.
"""

import re

from relayd.errors import RedisUnavailable, RelaydError
from relayd.stores import states
from relayd.stores.states import State, Store
from relayd.tls.verified import CertificateRefused

_CODE = re.compile(r"(?:ERR Error running script .*?-)?([A-Z]+)\b", re.DOTALL)

WRONG_SERVER = frozenset({"LOADING", "MASTERDOWN", "NOAUTH", "READONLY"})
"""Error codes of a server that is not, or no longer, the right one: connect anew."""


class RedisRefused(RelaydError):
    """Redis answered a command with an error, and would do so again.

    Args:
        text: the error reply of Redis.

    Attributes:
        code: its first word, such as `NOPERM`, `NOSCRIPT`, `WRONGTYPE`; `ERR` for many others.
        state: the state of the server that it shows, which is logged there; None if it shows none.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = code_of(text)
        self.state = state_of(text)


def code_of(text: str) -> str:
    """The code of an error reply; `ERR` if it has none."""
    found = _CODE.match(text)
    return found[1] if found else "ERR"


def state_of(text: str) -> State | None:
    """The state of the server that an error reply shows; None if it shows none."""
    return states.find(Store.REDIS, code_of(text), text)


def as_exception(text: str, label: str) -> RedisRefused | RedisUnavailable:
    """The exception for an error reply.

    Args:
        text: the error reply of Redis.
        label: the server's name, for the log.
    """
    refused = RedisRefused(text)
    if refused.state is None or refused.code == "NOPERM" or refused.code == "ERR":
        return refused
    # the same command may succeed in a moment
    return RedisUnavailable(f"{label}: {text}")


def describe(error: BaseException) -> str:
    """An error of the network or of TLS in a few words."""
    kind = type(error)
    if kind.__module__ == "OpenSSL.SSL":
        details = error.args[0] if error.args else ()
        if isinstance(details, list):  # (library, function, reason), the last of most use
            return f"TLS: {', '.join(str(detail[-1]) for detail in details) or kind.__name__}"
        return f"TLS: {error.args[-1] if error.args else kind.__name__}"
    if isinstance(error, CertificateRefused):
        return f"TLS: {error}"
    return str(error).rstrip(".") or kind.__name__
