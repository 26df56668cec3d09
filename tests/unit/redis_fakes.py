"""Shared by the unit tests of relayd.redis: a connection in memory, and replies of Redis on it."""

from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet.task import Clock

from relayd.redis.connection import Connection, SubscriberConnection
from relayd.redis.dial import _protocol_class
from relayd.redis.settings import Settings
from tests.unit.fakes import Transport


class Wires:
    """A connection, its transport and the other end.

    Attributes:
        connection: what is tested.
        writes: what was written, one item a write.
    """

    def __init__(
        self,
        clock: Clock,
        receivers: dict[bytes, Callable[[bytes], None]] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock
        self.settings = Settings(**settings)
        self.transport = Transport(clock)
        self.writes: list[bytes] = []
        self._reader = hiredis.Reader()
        if receivers is None:
            self.connection = Connection("redis", clock, self.settings)
        else:
            self.connection = SubscriberConnection("redis", clock, self.settings, receivers)
        self.transport.protocol = _protocol_class()(self.connection)
        self.transport.protocol.makeConnection(self.transport)

    def commands(self) -> list[list[bytes]]:
        """What came since the last time, at the end of this turn of the reactor."""
        self.clock.advance(0)
        if self.transport.arrived:
            self.writes.append(self.transport.arrived)
            self._reader.feed(self.transport.arrived)
            self.transport.arrived = b""
        found = []
        while (command := self._reader.gets()) is not False:
            found.append(command)
        return found

    def say(self, data: bytes) -> None:
        """Redis sends."""
        self.transport.deliver(data)


def message(channel: bytes, payload: bytes) -> bytes:
    """A message as Redis sends it to a subscriber."""
    return _array(b"message", channel, payload)


def confirmation(kind: bytes, channel: bytes, count: int = 1) -> bytes:
    """What Redis answers to SUBSCRIBE or UNSUBSCRIBE."""
    return b"*3\r\n" + _bulk(kind) + _bulk(channel) + b":%d\r\n" % count


def _array(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(_bulk(word) for word in words)


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
