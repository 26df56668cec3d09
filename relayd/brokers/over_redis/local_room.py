"""What a process knows of a room that has members in it; `rooms` acts on that."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from relayd.wire import ChatEntry


class LocalRoom:
    """A room that has members in this process.

    Attributes:
        position: the last id that was delivered to them; None until the history has been read.
        newest: the last entry that was delivered, if any was.
        early: entries from the channel that are not delivered yet.
        catching_up: whether missed entries are being fetched now.
        again: whether to fetch once more afterwards.
        retry: the timer of the next attempt.
        cut_off: whether the members were sent CUT_OFF.
        lost: whether they are to be sent GAP with the next read, for what they believed whole.
        told: the epoch in which they were sent GAP last.
        waiting: ids, each with a Deferred that fires with whether it has been delivered, or never
            will be.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self.newest: ChatEntry | None = None
        self.early: list[ChatEntry] = []
        self.catching_up = False
        self.again = False
        self.retry: IDelayedCall | None = None
        self.cut_off = self.lost = False
        self.told = ""
        self.waiting: list[tuple[int, Deferred[bool]]] = []

    def decide(self, id: int, delivered: bool) -> None:
        """Tells those that wait for an id, or a lower one, whether the members got it."""
        decided = [shown for each, shown in self.waiting if each <= id]
        self.waiting = [(each, shown) for each, shown in self.waiting if each > id]
        for shown in decided:
            shown.callback(delivered)
