"""How many groups, rooms, topics and pairs are in use at once, in all and by one address. Pure.

`connection.handshake` asks before a client is admitted, and notes when it has left. A name that
nobody uses costs nothing: only those of open connections are here.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from relayd.errors import ErrorCode, Refusal
from relayd.forwarded import network_of


class Limits(Protocol):
    """The part of the section `limits` that is needed here; 0 is for any number.

    Attributes:
        max_groups: how many names of one kind of path may be in use at once.
        groups_per_address: how many of these one address may use.
    """

    @property
    def max_groups(self) -> int: ...

    @property
    def groups_per_address(self) -> int: ...


class NamesInUse:
    """The names of the open connections of this process, each with the addresses that use it.

    Args:
        limits: returns the present limits.
        is_exempt: whether an address has no limits per address.

    Attributes:
        refused_addresses: how many names were refused so far because their address had too many.
    """

    def __init__(self, limits: Callable[[], Limits], is_exempt: Callable[[str], bool]) -> None:
        self._limits = limits
        self._is_exempt = is_exempt
        self.refused_addresses = 0
        self._users: dict[tuple[str, str], Counter[str]] = {}
        self._names = Counter[str]()
        self._of_address = Counter[tuple[str, str]]()

    def __len__(self) -> int:
        """The number of names in use."""
        return len(self._users)

    def enter(self, kind: str, name: str, host: str) -> None:
        """A connection is about to use a name.

        Args:
            kind: of path.
            name: of the group, room, topic or pair.
            host: the address of the client; an exempt one has no limit of its own.

        Raises:
            Refusal: 429, the name would be one too many.
        """
        address = network_of(host)
        users = self._users.get((kind, name))
        if users is None or address not in users:
            limits = self._limits()
            most, own = limits.max_groups, limits.groups_per_address
            if own and self._of_address[kind, address] >= own and not self._is_exempt(host):
                self.refused_addresses += 1
                raise Refusal(
                    ErrorCode.QUOTA_EXCEEDED,
                    f"Your address uses {own} names on {kind} paths, and may use no further one.",
                )
            if users is None:
                if most and self._names[kind] >= most:
                    raise Refusal(
                        ErrorCode.QUOTA_EXCEEDED,
                        f"{most} names are in use on {kind} paths, and no further one may be.",
                    )
                users = self._users[kind, name] = Counter()
                self._names[kind] += 1
            self._of_address[kind, address] += 1
        users[address] += 1

    def leave(self, kind: str, name: str, host: str) -> None:
        """A connection has ended that had entered with the same arguments."""
        address = network_of(host)
        users = self._users[kind, name]
        users[address] -= 1
        if users[address]:
            return
        del users[address]
        self._of_address[kind, address] -= 1
        if not self._of_address[kind, address]:
            del self._of_address[kind, address]
        if not users:
            del self._users[kind, name]
            self._names[kind] -= 1
