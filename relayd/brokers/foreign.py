"""Checks what comes from Redis, which other programs may write to as well.

Sits under `over_redis` and `django`, which pass on what is valid and drop the rest. Everything that
is dropped is counted; one line a minute goes to the log.
"""

import msgspec
from twisted.internet.interfaces import IReactorTime

from relayd import wire
from relayd.drops import DropReason, Drops
from relayd.errors import ClientError
from relayd.logs import Logger
from relayd.wire import UNDECODABLE, ChatEntry

LARGEST_ID = 2**53
"""Ids are below it: Lua scripts and browsers count in doubles."""
_INTERVAL = 60.0
_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Foreign:
    """Drops invalid messages from Redis: counts them, and logs one line a minute.

    Args:
        clock: for the interval.
        drops: counts the messages.
        longest: bytes that a payload from Redis may have.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, drops: Drops, longest: int) -> None:
        self._clock = clock
        self._drops = drops
        self._longest = longest
        self._silent_until = float("-inf")
        self._unlogged = 0

    def drop(self, place: str, why: object) -> None:
        """Drops one message.

        Args:
            place: where it came from: a group, or another name of a channel.
            why: it is invalid.
        """
        self._drops.count(DropReason.INVALID)
        now = self._clock.seconds()
        if now < self._silent_until:
            self._unlogged += 1
            return
        self._silent_until = now + _INTERVAL
        self._log.warn(
            "{place}: an invalid message from Redis, dropped: {why}{more}",
            place=place,
            why=str(why),
            more=f" (and {self._unlogged} before it)" if self._unlogged else "",
        )
        self._unlogged = 0

    def check_size(self, payload: bytes) -> bytes:
        """Returns a payload that may be passed on to clients. Raises ValueError if it is longer."""
        if len(payload) > self._longest:
            raise ValueError(f"{len(payload):,} bytes are more than [limits] send_buffer")
        return payload

    def check_payload(self, payload: bytes) -> bytes:
        """Returns a payload if it is one JSON object in UTF-8. Raises ValueError."""
        try:
            return wire.check_object(self.check_size(payload))
        except ClientError as error:
            raise ValueError(error.message) from error

    def check_entry(self, id: int, body: bytes) -> ChatEntry:
        """Returns a chat message if its JSON is valid and has its id. Raises ValueError."""
        if not 0 < id < LARGEST_ID:
            raise ValueError(f"{id} is no id")
        try:
            return wire.check_entry(id, self.check_size(body))
        except ClientError as error:
            raise ValueError(error.message) from error


def split(data: bytes) -> list[bytes]:
    """The elements of one JSON array in UTF-8, as they stand in it. Raises ValueError."""
    try:
        if not data.isascii():
            data.decode()
        return list(map(bytes, _decode(data)))
    except UNDECODABLE as error:
        raise ValueError(str(error)) from error
