"""How many chat rooms one address may create in an hour, and how many there may be. Pure.

The brokers' rooms ask here before a message goes to the store. The store decides
whether the message creates its room; what an address has reserved for a room that was there comes
back to it. The rooms that messages came to lately are remembered, so that these cost nothing.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from twisted.python.failure import Failure

from relayd.errors import QuotaExceeded
from relayd.quotas.usage import Creation, RoomTally

T = TypeVar("T")

_KNOWN = 10_000  # rooms that are remembered, and addresses
_HOUR = 3600.0


@dataclass
class Asked(Creation):
    """The judgement on one message, and the address for which a room is reserved."""

    reserved: str | None = None


class _Allowance:
    """The rooms that an address may still create; grows with time, to the number of an hour."""

    __slots__ = ("at", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at


@dataclass
class _Reservation:
    """A room that an address has reserved, for all its messages on their way to that room."""

    waiting: int = 1
    created: bool = False


class Creators:
    """Judges messages that may be the first of a room.

    Args:
        seconds: returns the time of a monotonic clock.
        tally: counts the rooms, and what is refused.
        per_hour: returns how many rooms an address may create in an hour; 0 for any number.
        most: how many rooms there may be; None if the store has that bound.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        tally: RoomTally,
        *,
        per_hour: Callable[[], int],
        most: int | None = None,
    ) -> None:
        self._seconds = seconds
        self._tally = tally
        self._per_hour = per_hour
        self._most = most
        self._known: OrderedDict[str, None] = OrderedDict()
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._reservations: dict[tuple[str, str], _Reservation] = {}

    def ask(self, room: str, address: str | None) -> "Asked":
        """Judges a message before it is stored; `settled` has to follow.

        Args:
            room: the name of its room.
            address: of its sender, from `edge.addresses`; None for one without limits.
        """
        if room in self._known:
            return Asked()
        if self._most is not None and self._tally.usage.rooms >= self._most:
            return Asked(allowed=False)
        if address is None or not self._per_hour():
            return Asked()
        reservation = self._reservations.get((room, address))
        if reservation is not None:
            reservation.waiting += 1
            return Asked(reserved=address)
        if not self._reserve(address):
            return Asked(allowed=False, reserved=address)
        self._reservations[room, address] = _Reservation()
        return Asked(reserved=address)

    def settled(self, outcome: T, room: str, asked: "Asked") -> T:
        """Notes the outcome of a message, and passes it on.

        Args:
            outcome: what the store has answered.
            room: the name of the room.
            asked: what `ask` has returned, and the store has completed.
        """
        if not isinstance(outcome, Failure):
            self._known[room] = None
            self._known.move_to_end(room)
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        elif outcome.check(QuotaExceeded):
            of_address = asked.reserved is not None and not asked.allowed
            self._tally.refused["rooms_of_address" if of_address else "rooms"] += 1
        if asked.reserved is not None and asked.allowed:
            self._release(room, asked.reserved, asked.done)
        return outcome

    def _release(self, room: str, address: str, created: bool) -> None:
        """A message is settled; after the last one, a room that was there costs nothing."""
        reservation = self._reservations[room, address]
        reservation.waiting -= 1
        reservation.created |= created
        if reservation.waiting:
            return
        del self._reservations[room, address]
        allowance = self._allowances.get(address)
        if allowance is not None and not reservation.created:
            allowance.left += 1

    def forget(self, room: str) -> None:
        """A room was deleted: its next message creates it anew."""
        self._known.pop(room, None)

    def _reserve(self, address: str) -> bool:
        most, now = self._per_hour(), self._seconds()
        allowance = self._allowances.get(address)
        if allowance is None:
            allowance = self._allowances[address] = _Allowance(most, now)
            if len(self._allowances) > _KNOWN:
                self._allowances.popitem(last=False)
        self._allowances.move_to_end(address)
        allowance.left = min(most, allowance.left + (now - allowance.at) * most / _HOUR)
        allowance.at = now
        if allowance.left < 1:
            return False
        allowance.left -= 1
        return True
