"""What waits to be written to one connection, and the bound on it.

Sits between the WebSocket adapter and its transport. Twisted's transports buffer without limit;
as their push producer the outbox is told when about 64 KiB wait there, and from then on keeps
whole frames itself, up to a limit. What happens at the limit is the connection's decision.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITransport
from zope.interface import implementer


@implementer(IPushProducer)
class Outbox:
    """The frames of one connection on their way to its transport, in order.

    Args:
        transport: where frames go; the outbox registers itself as its streaming producer.
        limit: bytes that may wait here, over what the transport and the kernel hold.
        overflow: called once when a frame does not fit; that frame and what waited are let go.
    """

    __slots__ = ("_limit", "_overflow", "_paused", "_transport", "_waiters", "_waiting", "waiting")

    def __init__(self, transport: ITransport, limit: int, overflow: Callable[[], None]) -> None:
        self._transport = transport
        self._limit = limit
        self._overflow = overflow
        self._paused = False
        # most connections never need either: 64 bytes less each while there is none
        self._waiting: deque[bytes] | None = None
        self._waiters: list[Deferred[None]] | None = None
        self.waiting = 0
        transport.registerProducer(self, True)  # type: ignore[attr-defined]

    def write(self, frame: bytes) -> None:
        """Sends a frame, or keeps it until the peer has read what was sent before."""
        if not self._paused:
            self._transport.write(frame)
            return
        if self.waiting + len(frame) > self._limit:
            self.clear()
            self._overflow()
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(frame)
        self.waiting += len(frame)

    def drained(self) -> "Deferred[None]":
        """Fires when the peer reads again and nothing waits; at once if that is so now.

        Cancelled by `close`.
        """
        waiter: Deferred[None] = Deferred()
        if not self._paused:
            waiter.callback(None)
        else:
            self._waiters = [*(self._waiters or ()), waiter]
        return waiter

    def clear(self) -> None:
        """Lets go of what waits here (what the transport took already still goes out)."""
        self._waiting = None
        self.waiting = 0

    def flush(self) -> None:
        """Hands everything to the transport, whether the peer reads or not: before a close."""
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
        self.clear()

    def close(self) -> None:
        """Lets go of everything; who waits for `drained` is cancelled."""
        self.clear()
        self._paused = True
        self._limit = 0
        self._overflow = _nothing
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.cancel()

    def pauseProducing(self) -> None:
        """The transport's buffer is full (`IPushProducer`)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty (`IPushProducer`)."""
        self._paused = False
        while self._waiting and not self._paused:
            frame = self._waiting.popleft()
            self.waiting -= len(frame)
            self._transport.write(frame)
        if not self._paused and self._waiters:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                waiter.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone (`IPushProducer`); `close` is called by its owner."""


def _nothing() -> None:
    pass
