"""The channels that relayd wants, and their subscription in Redis: the last wish for each holds.

Stands on `connection`; a server has one. Redis answers the commands of a connection in their order,
so the last command for a channel decides, and each confirmation belongs to one wish. Each command
names one channel, so an error concerns one channel, too.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from relayd.errors import RedisUnavailable
from relayd.redis.commands import pack
from relayd.redis.connection import SubscriberConnection
from relayd.redis.succession import Succession

Receive = Callable[[bytes], None]

_AT_ONCE = 1000  # channels that are restored in one go, each within the deadline


class _Wish:
    """A wanted channel, with its receiver.

    Attributes:
        asked: whether SUBSCRIBE may have been sent, for this wish or the one that it replaced.
        waiting: fires when Redis first confirms the subscription; None afterwards, and if nobody
            waits for that.
    """

    __slots__ = ("asked", "channel", "receive", "waiting")

    def __init__(
        self, channel: bytes, receive: Receive, waiting: "Deferred[None] | None", asked: bool
    ) -> None:
        self.channel = channel
        self.receive = receive
        self.waiting = waiting
        self.asked = asked


class Subscriptions:
    """The channels wanted from one Redis.

    Args:
        label: the server's name, for the log.

    Attributes:
        receivers: the receiver of each confirmed channel, for `SubscriberConnection`.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.receivers: dict[bytes, Receive] = {}
        self._wishes: dict[bytes, _Wish] = {}
        self._connection: SubscriberConnection | None = None
        self._successor: SubscriberConnection | None = None
        self._restored = False

    def subscribe(self, channel: bytes, receive: Receive) -> "Deferred[None]":
        """As `server.RedisServer.subscribe`."""
        done: Deferred[None] = Deferred(lambda _: self._cancelled(wish))
        overtaken = self._wishes.get(channel)
        wish = self._wishes[channel] = _Wish(channel, receive, done, overtaken is not None)
        connection = self._connection
        if connection is None or not self._restored:
            self._failed(Failure(RedisUnavailable(f"{self.label} is away")), wish)
        else:
            answer = connection.call(pack(("SUBSCRIBE", channel)))
            if self._successor is not None:
                answer = _both(answer, self._successor.send(pack(("SUBSCRIBE", channel))))
            wish.asked = wish.asked or not answer.called  # called: over the bounds, so not sent
            answer.addCallbacks(
                self._confirmed, self._failed, callbackArgs=(wish,), errbackArgs=(wish,)
            )
        if overtaken is not None:
            _cancel(overtaken)
        return done

    def subscribe_later(self, channel: bytes, receive: Receive) -> None:
        """As `server.RedisServer.subscribe_later`."""
        overtaken = self._wishes.get(channel)
        self._wishes[channel] = _Wish(channel, receive, None, asked=True)
        self.receivers[channel] = receive
        self._send(("SUBSCRIBE", channel))  # `restore` may have listed the channels already
        if overtaken is not None:
            _cancel(overtaken)

    def unsubscribe(self, channel: bytes) -> None:
        """As `server.RedisServer.unsubscribe`."""
        self.receivers.pop(channel, None)
        wish = self._wishes.pop(channel, None)
        if wish is not None:
            self._withdraw(channel)
            _cancel(wish)

    async def restore(self, connection: SubscriberConnection) -> None:
        """Subscribes all wanted channels on a new connection.

        Raises:
            RedisUnavailable: Redis did not confirm all of them.
            RedisRefused: Redis refused one of them.
        """
        self._connection = connection
        self._restored = False
        await self._subscribe_all(connection)
        self._restored = True

    async def hand_over(
        self,
        successor: SubscriberConnection,
        mark: bytes,
        publish: Callable[[], "Deferred[object]"],
        limit: Callable[["Deferred[None]"], "Deferred[None]"],
    ) -> None:
        """Lets another connection have all subscriptions; no message is lost, or comes twice.

        Args:
            successor: is connected, and has no subscriptions.
            mark: the channel of the mark (`succession`).
            publish: publishes the mark.
            limit: bounds the time until the mark has come.

        Raises:
            RedisUnavailable: one of the connections has ended. The one before stays, or ends.
            RedisRefused: Redis refused a channel. The one before stays.
        """
        before = self._connection
        if before is None or not self._restored:
            raise RedisUnavailable(f"{self.label} is away")
        succession = Succession(before, successor, self.receivers, mark)
        self._successor = successor
        try:
            await self._subscribe_all(successor)
            for connection in (before, successor):
                await connection.send(pack(("SUBSCRIBE", mark)))
            await publish()
            await limit(succession.done)
            self._connection = successor
        except BaseException:
            succession.done.addErrback(_nothing)
            succession.abandon()
            raise
        finally:
            self._successor = None
            self._send(("UNSUBSCRIBE", mark))

    async def _subscribe_all(self, connection: SubscriberConnection) -> None:
        wishes = list(self._wishes.values())
        for first in range(0, len(wishes), _AT_ONCE):
            answers = [
                connection.send(pack(("SUBSCRIBE", wish.channel)))
                for wish in wishes[first : first + _AT_ONCE]
                if self._wishes.get(wish.channel) is wish
            ]
            for success, outcome in await DeferredList(answers, consumeErrors=True):
                if not success:
                    raise outcome.value

    def lost(self) -> None:
        """The connection has ended; confirmed channels stay wanted."""
        self._connection = None

    def _confirmed(self, _: object, wish: _Wish) -> None:
        waiting, wish.waiting = wish.waiting, None
        if waiting is not None:  # else it was overtaken
            self.receivers[wish.channel] = wish.receive
            waiting.callback(None)

    def _failed(self, failure: Failure, wish: _Wish) -> None:
        waiting, wish.waiting = wish.waiting, None
        if waiting is None:
            return
        del self._wishes[wish.channel]
        self.receivers.pop(wish.channel, None)
        if wish.asked:
            self._withdraw(wish.channel)
        waiting.errback(failure)

    def _cancelled(self, wish: _Wish) -> None:
        wish.waiting = None
        if self._wishes.get(wish.channel) is wish:
            self.unsubscribe(wish.channel)

    def _withdraw(self, channel: bytes) -> None:
        # Over the bounds, for it must not be left out: there is at most one for each SUBSCRIBE.
        self._send(("UNSUBSCRIBE", channel))

    def _send(self, command: tuple[str, bytes]) -> None:
        for connection in (self._connection, self._successor):
            if connection is not None:
                connection.send(pack(command)).addErrback(_nothing)


def _both(answer: "Deferred[Any]", other: "Deferred[Any]") -> "Deferred[Any]":
    """The first, when the second has fired, too; that it failed is told by its connection."""
    other.addErrback(_nothing)
    return answer.addCallback(lambda reply: other.addCallback(lambda _: reply))


def _cancel(wish: _Wish) -> None:
    waiting, wish.waiting = wish.waiting, None
    if waiting is not None:
        waiting.cancel()


def _nothing(_: Failure) -> None:
    pass
