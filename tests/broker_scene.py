"""Shared by the tests of the brokers: processes with a broker, and the frames their members get."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred
from websockets.frames import Opcode

from relayd.brokers.interface import Groups, Lobby, Pairs, Presence, Rooms
from relayd.sockets.outbox import Item
from tests.unit.fakes import parse_frames

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which what must come is given up."""

UUID = "123e4567-e89b-42d3-a456-426614174000"
OTHER = "123e4567-e89b-42d3-a456-426614174001"


@dataclass
class Process:
    """One process' view of the broker."""

    groups: Groups
    rooms: Rooms
    pairs: Pairs
    presence: Presence
    lobby: Lobby


@dataclass
class Cluster:
    """Two processes; with one alone, both are the same."""

    here: Process
    there: Process


class Inbox:
    """What somebody was told, in order; a test takes it out and waits for what is to come."""

    def __init__(self) -> None:
        self._items: list[object] = []
        self._waiting: list[Deferred[None]] = []

    def put(self, item: object) -> None:
        self._items.append(item)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def take(self, count: int) -> list[object]:
        """Waits until there are so many; takes all there are."""
        from twisted.internet import reactor

        while len(self._items) < count:
            deferred: Deferred[None] = Deferred()
            self._waiting.append(deferred)
            await deferred.addTimeout(PATIENCE, reactor)
        taken, self._items = self._items, []
        return taken


class Listener:
    """A member of a group."""

    def __init__(self) -> None:
        self.inbox = Inbox()

    direct: Callable[[bytes], int] | None = None

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        for opcode, payload in parse_frames(frames):
            assert opcode is Opcode.TEXT
            self.inbox.put(payload)

    def interrupted(self, frames: bytes, sent: int) -> None:
        raise AssertionError("there is no direct")

    def broken(self) -> None:
        raise AssertionError("there is no direct")


class FakeHeadset:
    """A Unity side; `is_open` is whether its connection takes frames."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.inbox = Inbox()
        self.is_open = is_open

    def assign(self, payload: bytes) -> bool:
        if self.is_open:
            self.inbox.put(payload)
        return self.is_open

    def replaced(self) -> None:
        self.inbox.put("replaced")

    def barred(self) -> None:
        self.inbox.put("barred")


class FakePhone:
    """An Android side."""

    def __init__(self) -> None:
        self.inbox = Inbox()

    def headset_came(self) -> None:
        self.inbox.put("came")

    def headset_left(self) -> None:
        self.inbox.put("left")

    def replaced(self) -> None:
        self.inbox.put("replaced")

    def barred(self) -> None:
        self.inbox.put("barred")


async def eventually(check: Callable[[], Awaitable[T]], wanted: T) -> None:
    """Asks again until the answer is the wanted one."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    for _ in range(round(PATIENCE / 0.01)):
        if await check() == wanted:
            return
        await deferLater(reactor, 0.01)
    raise AssertionError(f"it never was {wanted}")
