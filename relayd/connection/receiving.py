"""What comes in on an open connection: its bytes, its messages, and how much of them.

Sits between `observed` and `websocket`. The inlet parses short frames and Autobahn all others, a
slice of time at a turn. Reading pauses while too many messages are in progress, while a group holds
the connection, and while others have their turn. A client that sends more than its rate is warned
once, then closed with 4004.
"""

import sys
from collections.abc import Callable

from relayd import private
from relayd.close_codes import CloseCode
from relayd.connection.factory import RelayFactory
from relayd.connection.handshake import feed_autobahn
from relayd.connection.observed import Observed
from relayd.connection.pausing import Pause
from relayd.errors import ErrorCode
from relayd.native.framing import missing_of_head
from relayd.native.inlet import TURN
from relayd.sockets.poller import Inlet, PolledTransport

_WARNED = 60.0
"""Seconds after a warning; a client that sends too much within them is closed."""
_TOO_MUCH = "Too many messages or bytes came in a second again: wait, then send more slowly."
_AFTER_CLOSE = 16 * 1024
"""Bytes that a peer may send after our close, beside one message that is under way."""


class Receiving(Observed):
    """The receiving half of an open connection (`sockets.poller.Owner`)."""

    factory: RelayFactory
    turn = TURN
    """Nanoseconds that its frames take before others have their turn, where no poller reads."""

    _gone = False
    _waiting = 0
    _waiting_bytes = 0
    _warned = float("-inf")

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Handles a whole message. Raises ClientError for a mistake of the sender."""
        raise NotImplementedError

    def failed(self) -> None:
        """Reports the exception that is being handled to the client (`sockets.poller.Owner`)."""
        raise NotImplementedError

    def notify(self, code: ErrorCode, message: str) -> None:
        """Sends an error that answers no message."""
        raise NotImplementedError

    def close(
        self,
        code: int,
        reason: str | None = None,
        error: ErrorCode | None = None,
        message: str | None = None,
    ) -> None:
        """Begins the closing handshake, for a code from 4000 on after an error frame."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drops the TCP connection at once."""
        raise NotImplementedError

    # -- bytes

    def _open_inlet(self) -> None:
        """Has the inlet read short frames from now on, instead of Autobahn."""
        transport, limits = self.transport, self.context.current.config.limits
        inlet = transport.inlet if isinstance(transport, PolledTransport) else Inlet(self)
        inlet.owner = self
        inlet.longest = self.factory.longest_short_frame if private.shows_frames(self) else 0
        inlet.receive = self.received
        if limits.messages_per_second or limits.bytes_per_second:
            inlet.limit(
                limits.messages_per_second, limits.bytes_per_second, self.context.clock.seconds
            )
        self._inlet = inlet

    def dataReceived(self, data: bytes) -> None:
        """Passes on bytes before the WebSocket is open, and where no poller reads."""
        if self._inlet is None:
            self.parse(data)
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        """Parses bytes for a slice of time; the rest waits until others had their turn."""
        inlet, transport = self._inlet, self.transport
        if inlet is None or self._gone:
            return
        done = inlet.feed(data, self.turn)
        if isinstance(transport, PolledTransport):
            transport.later()
        elif done:
            self.resume_reading(Pause.SLICE)
        else:
            self._feed_later()

    def _feed_later(self) -> None:
        """Has the bytes that wait parsed when others have had their turn; reads none meanwhile."""
        if not self._pauses & Pause.SLICE:
            self.pause_reading(Pause.SLICE)
            self.context.clock.callLater(0, self._feed_rest)

    def _feed_rest(self) -> None:
        """Parses the bytes that waited, unless a group holds the connection: `read_on` follows."""
        self._pauses &= ~Pause.SLICE
        if not self._pauses & Pause.GROUP:
            self._feed(b"")
            if not self._pauses and not self._gone:
                self.transport.resumeProducing()

    def parse(self, data: bytes) -> None:
        """Passes bytes to Autobahn, which reads all but short frames (`sockets.poller.Owner`)."""
        if self._inlet is None:
            super().dataReceived(data)
        else:
            feed_autobahn(self, data)
        inlet = self._inlet
        if inlet is None or not inlet.longest:
            return
        inlet.short = False
        rest = private.rest_of_frame(self)
        if rest is not None:
            inlet.missing = min(rest, sys.maxsize)  # RFC 6455 allows 63 bits, a client may send 64
        elif begun := private.unparsed(self):
            inlet.missing = missing_of_head(begun)
        else:
            inlet.missing = 0
            inlet.short = not private.is_inside_message(self)

    def _stop_parsing(self) -> None:
        """Has nothing more parsed but the peer's close; drops a peer that sends much more."""
        if self._inlet is not None:
            self._inlet.close(self.factory.max_message_size + _AFTER_CLOSE)

    @property
    def alive(self) -> bool:
        """Whether bytes came since this was last set to False (`keepalive.Peer`)."""
        return self._inlet is None or self._inlet.alive

    @alive.setter
    def alive(self, value: bool) -> None:
        if self._inlet is not None:
            self._inlet.alive = value

    # -- messages

    def shorten(self, receive: Callable[[bytes, bool], None]) -> None:
        """Passes short text frames to `receive` from now on, in place of `received`.

        Args:
            receive: called with the payload and False; must have the effect of `received`.
        """
        if self._inlet is not None:
            self._inlet.receive = receive

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Handles a whole message that Autobahn has read. Never raises."""
        if self.state != self.STATE_OPEN:
            return
        assert self._inlet is not None
        self._inlet.received_count += 1
        try:
            if self._observer is not None:
                self._observer.received(payload, isBinary)
            self.received(payload, isBinary)
        except Exception:
            self.failed()

    # -- how much

    def onFrameBegin(self) -> None:
        """Autobahn has read the head of a frame, of any kind."""
        if self._inlet is not None and self.state == self.STATE_OPEN:
            self._inlet.count_frame()
        super().onFrameBegin()

    def over_rate(self) -> None:
        """Warns a client that sends more than its rate; closes one that was warned just before."""
        now = self.context.clock.seconds()
        if now - self._warned < _WARNED or self._inlet is None:
            self.close(CloseCode.RATE_LIMIT, message=_TOO_MUCH)
            return
        self._warned = now
        self._inlet.allow()
        self.notify(ErrorCode.RATE_LIMITED, ErrorCode.RATE_LIMITED.sentence)

    def hold(self, size: int) -> None:
        """Counts one message of `size` bytes as in progress.

        At `max_waiting` messages or `send_buffer` bytes, reading from this client pauses.
        """
        limits = self.context.current.config.limits
        self._waiting += 1
        self._waiting_bytes += size
        if self._waiting >= limits.max_waiting or self._waiting_bytes >= limits.send_buffer:
            self.pause_reading(Pause.IN_PROGRESS)

    def release(self, size: int) -> None:
        """Counts one message of `size` bytes as done; at half of the limits, reading resumes."""
        limits = self.context.current.config.limits
        self._waiting -= 1
        self._waiting_bytes -= size
        if (
            self._pauses & Pause.IN_PROGRESS
            and self._waiting <= limits.max_waiting // 2
            and self._waiting_bytes <= limits.send_buffer // 2
        ):
            self.resume_reading(Pause.IN_PROGRESS)

    def hold_reading(self) -> None:
        """Stops reading, since a group holds the connection (`sockets.poller.Owner`)."""
        self.pause_reading(Pause.GROUP)

    def read_on(self) -> None:
        """Reads again, since no group holds the connection (`sockets.poller.Owner`)."""
        self.resume_reading(Pause.GROUP)
        inlet = self._inlet
        if inlet is not None and inlet.waits and not isinstance(self.transport, PolledTransport):
            self._feed_later()
