"""Who is denied until when: tokens by their `jti`, users by their `sub`, addresses. Pure.

Beside `identity`, on `networks`. `denial_file` keeps the list over a restart,
`denial_spread` carries it to all processes. A denial of a key (kind and value) replaces an older
one, in whatever order the two arrive, so that all processes end with the same list. Lifting one is
an entry, too: it lasts as long as the entry that it lifts.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Literal

import msgspec

from relayd.access.networks import Networks, parse_network
from relayd.errors import ErrorCode, Refusal
from relayd.logs import Logger

MOST = 10_000
"""Entries of the list; a further one is refused, since dropping another would let somebody in."""
LONGEST = 255
"""Characters that the value of an entry may have."""
FOR_EVER = 253_402_300_799.0
"""The last second of the year 9999: the end of a denial without one."""
LONGEST_REASON = 200
"""Characters of an operator's reason."""
_AHEAD = 3600.0  # seconds that the clocks of two machines may differ

Key = tuple[str, str]


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """One entry.

    Attributes:
        kind: what `value` is: the id of a token (`jti`), a user (`sub`), or the network of the
            addresses that are banned.
        value: compared as it is; a network in the form of `str(parse_network(text))`.
        until: Unix time of its end.
        made: Unix time of the command; of two entries with the same key, the later one holds.
        lifted: whether the entry lifts an earlier one.
        reason: of the operator, for other operators; clients do not get it.
    """

    kind: Literal["token", "user", "address"]
    value: str
    until: float
    made: float
    lifted: bool = False
    reason: str = ""

    @property
    def key(self) -> Key:
        """What the entry is about."""
        return self.kind, self.value


Watcher = Callable[[Denial], object]


class Denials:
    """The denials that this process knows.

    Args:
        now: returns the Unix time.
    """

    _log = Logger()

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: dict[Key, Denial] = {}
        self._networks = Networks()  # of the entries that ban addresses
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Calls `watcher` with each new entry that denies; its exceptions are logged."""
        self._watchers.append(watcher)

    def check(self, denial: Denial) -> None:
        """Checks an entry before it is added. Raises Refusal: 400."""
        if not denial.value or len(denial.value) > LONGEST:
            raise Refusal(
                ErrorCode.BAD_REQUEST, f"A name or id to deny has 1 to {LONGEST} characters."
            )
        if len(denial.reason) > LONGEST_REASON:
            raise Refusal(
                ErrorCode.BAD_REQUEST, f"A reason has {LONGEST_REASON} characters at most."
            )
        if denial.kind == "address":
            try:
                network = str(parse_network(denial.value))
            except ValueError as error:
                raise Refusal(ErrorCode.BAD_REQUEST, f"{error}.") from error
            if network != denial.value:
                raise Refusal(ErrorCode.BAD_REQUEST, f"Write {denial.value!r} as {network!r}.")
        if not (math.isfinite(denial.until) and math.isfinite(denial.made)):
            raise Refusal(ErrorCode.BAD_REQUEST, "The times of a denial must be finite numbers.")
        if denial.made > self._now() + _AHEAD:
            raise Refusal(ErrorCode.BAD_REQUEST, "The denial was made in the future.")
        if denial.key not in self._entries and len(self._entries) >= MOST:
            self._forget_ended()
            if len(self._entries) >= MOST:
                raise Refusal(
                    ErrorCode.BAD_REQUEST, f"The list is full: it has {MOST} entries at most."
                )

    def add(self, denial: Denial) -> bool:
        """Adds an entry; returns whether the list has changed. Raises Refusal: as `check`.

        No effect if the list has a later entry with the same key, or if it has ended.
        """
        self.check(denial)
        known = self._entries.get(denial.key)
        if denial.until <= self._now() or (known is not None and known.made >= denial.made):
            return False
        self._entries[denial.key] = denial
        if denial.kind == "address":
            change = self._networks.discard if denial.lifted else self._networks.add
            change(denial.value)
        if not denial.lifted:
            for watcher in self._watchers:
                try:
                    watcher(denial)
                except Exception:
                    self._log.failure(
                        "a part could not apply the denial of a {kind}", kind=denial.kind
                    )
        return True

    def find(self, kind: str, value: str | None) -> Denial | None:
        """The entry that denies a value now; None without one."""
        found = self._entries.get((kind, value)) if value is not None and self._entries else None
        if found is None or found.lifted or found.until <= self._now():
            return None
        return found

    def find_address(self, host: str) -> Denial | None:
        """An entry that bans an address now; None without one. Costs next to nothing without bans.

        Args:
            host: an IP address, or `unix:`, which no entry bans.
        """
        if not self._networks:
            return None
        return next(filter(None, map(self._find_network, self._networks.find(host))), None)

    def _find_network(self, text: str) -> Denial | None:
        return self.find("address", text)

    def get(self, key: Key) -> Denial | None:
        """The entry with a key, whatever it says."""
        return self._entries.get(key)

    def entries(self) -> list[Denial]:
        """All entries that have not ended, also those that lift others."""
        self._forget_ended()
        return list(self._entries.values())

    def counts(self) -> Counter[str]:
        """The number of entries that deny now, by kind."""
        return Counter(one.kind for one in self.entries() if not one.lifted)

    def _forget_ended(self) -> None:
        now = self._now()
        for key, one in tuple(self._entries.items()):
            if one.until <= now:
                del self._entries[key]
                if one.kind == "address":
                    self._networks.discard(one.value)
