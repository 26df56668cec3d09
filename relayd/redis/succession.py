"""The change from one connection with subscriptions to another: each message comes once, in order.

Beside `subscriptions`, on `connection`; for a new login, which a connection with subscriptions does
not take. Redis executes one command at a time, so all its subscribers get their messages in one
order. Both connections subscribe the same channels and one more, on which a mark is published:
messages before the mark count on the old connection, those behind it on the new one.
"""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred

from relayd.errors import RedisUnavailable
from relayd.redis.connection import SubscriberConnection

_LARGEST = 8 * 1024 * 1024  # bytes of the messages that wait for the mark on the old connection

Receive = Callable[[bytes], None]


class Succession:
    """One change, from the time when both connections are subscribed.

    Args:
        before: the connection in use.
        after: its successor, which has no receivers yet.
        receivers: of all channels, which `before` has.
        mark: the channel on which the mark comes.

    Attributes:
        done: fires when `after` has taken over; fails with RedisUnavailable if one of them ends.
    """

    def __init__(
        self,
        before: SubscriberConnection,
        after: SubscriberConnection,
        receivers: dict[bytes, Receive],
        mark: bytes,
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self._before = before
        self._after = after
        self._receivers = receivers
        self._mark = mark
        self._has_ended = False  # that of the old connection
        self._has_begun = False
        self._kept: list[tuple[bytes, bytes]] = []
        self._size = 0
        receivers[mark] = lambda _: self._end()
        after.deliver_to(self)
        for connection in (before, after):
            connection.ended.addCallback(self._lost)

    def get(self, channel: bytes) -> Receive | None:
        """The receiver of a message that comes on the new connection meanwhile."""
        if channel == self._mark:
            return lambda _: self._begin()
        return partial(self._keep, channel) if self._has_begun else None

    def abandon(self) -> None:
        """Leaves the old connection in use, or ends it if its messages count no more."""
        self._receivers.pop(self._mark, None)
        self._after.abort("it is not wanted any more")
        if self._has_ended:
            self._before.abort("its successor was lost")

    def _end(self) -> None:
        self._has_ended = True
        del self._receivers[self._mark]
        self._before.deliver_to({})
        self._finish()

    def _begin(self) -> None:
        self._has_begun = True
        self._finish()

    def _keep(self, channel: bytes, payload: bytes) -> None:
        self._kept.append((channel, payload))
        self._size += len(channel) + len(payload)
        if self._size > _LARGEST:
            self._after.abort("too many messages waited for the connection before")

    def _finish(self) -> None:
        if self._has_begun and self._has_ended:
            self._after.deliver_to(self._receivers)
            for channel, payload in self._kept:
                self._after.deliver(channel, payload)
            if not self.done.called:
                self.done.callback(None)

    def _lost(self, reason: str) -> str:
        if not self.done.called:
            self.done.errback(RedisUnavailable(reason))
        return reason
