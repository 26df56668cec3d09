"""HTTP/2 on one connection (RFC 9113): each of its streams is a request of twisted.web.

Beside `frontdoor`, which hands a connection over whose client chose h2 (ALPN). The library `h2`
keeps the state of the protocol; here are the streams and the bounds: `STREAMS` requests at a time,
heads of `[limits] max_head_size`, `TURN` of a turn, an allowance of frames (resets, pings and
further ones that answer nothing), and no reading while the peer does not read. WebSockets are not
offered on HTTP/2 (RFC 8441), so browsers open a connection of HTTP/1.1 for them.
"""

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import implementer

from relayd.edge.http2_events import EventStream
from relayd.edge.http2_frames import Frames, Overlong
from relayd.edge.http2_stream import Stream

STREAMS = 32
"""Requests that may be in progress; more end the connection. Each may have a body in memory."""
TURN, PIECE = 0.002, 1024
"""Seconds of a turn that a connection gets, and the bytes between two looks at the clock."""
ALLOWANCE, REFILL, FOR_ANSWER, FOR_EVENT = 500.0, 20.0, 20.0, 2.0
"""Frames of a client at once, further ones each second, for each answer, and for each event."""
FOR_BYTE = 2 / 2048
"""Further frames for each byte sent: Go's client opens both its windows for each 4 KiB."""
LINGER = 2.0
"""Seconds that a peer has to end a connection which we have closed."""
_NAME = re.compile(rb":?[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""A field name: a token (RFC 9110 section 5.6.2), or that of a pseudo-header."""


@implementer(IPushProducer)
class Http2:
    """A connection of HTTP/2.

    Args:
        transport: of the connection.
        site: answers the requests.
        clock: for timeouts.
        max_head: the largest head of a request, in bytes (RFC 9113 section 6.5.2 says how counted).
        closing: whether connections should end after their answer.
        rest: called with whether the connection rests, whenever that changes.
        events: builds the protocol of a client of events, given a target; None for another target.
        now: seconds, by a clock that is not set.
    """

    def __init__(
        self,
        transport: Any,
        site: Site,
        clock: IReactorTime,
        max_head: int,
        closing: Callable[[], bool],
        rest: Callable[[bool], object],
        events: Callable[[bytes], Any] = lambda target: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = transport
        self.site = site
        self._timeout = site.timeOut or 60.0
        self._clock = clock
        self._closing = closing
        self._rest = rest
        self._events = events
        self._now = now
        self._streams: dict[int, Stream | EventStream] = {}
        self._unread = b""
        self._blocked = False
        self._ending = False
        self._closed = False
        self._allowance, self._refilled = ALLOWANCE, now()
        self._timer: IDelayedCall | None = None
        self._turn: IDelayedCall | None = None
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: max_head,
            },
        )
        self._frames = Frames(max_head)
        self._h2.decoder.max_header_list_size = max_head

    def start(self) -> None:
        """Sends our settings; the connection rests."""
        self.transport.registerProducer(self, True)
        self._h2.initiate_connection()
        self._write()
        self._wait()
        self._rest(True)

    # From the peer

    def dataReceived(self, data: bytes) -> None:
        """Works on bytes from the peer, those that take longer than `TURN` in later turns."""
        if self._closed:
            return
        self._unread += data
        if self._turn is None:
            self._work()

    def _work(self) -> None:
        self._turn = None
        end = self._now() + TURN
        while self._unread and not self._closed:
            if self._blocked:
                return  # resumeProducing goes on
            if self._now() >= end:
                self.transport.pauseProducing()
                self._turn = self._clock.callLater(0, self._go_on)
                return
            piece, self._unread = self._unread[:PIECE], self._unread[PIECE:]
            self._parse(piece)

    def _go_on(self) -> None:
        self._work()
        if self._turn is None and not self._blocked and not self._closed:
            self.transport.resumeProducing()

    def _parse(self, piece: bytes) -> None:
        try:
            self._pay(self._frames.look(piece))
            found = [] if self._closed else self._h2.receive_data(piece)
        except Overlong as error:
            self.close(error.code)
            return
        except ProtocolError:
            # h2 has prepared the GOAWAY that says why
            self._close()
            return
        for event in found:
            if self._closed:
                return
            self._handle(event)
        self.flush()

    def _pay(self, frames: int) -> None:
        now = self._now()
        more = self._allowance + (now - self._refilled) * REFILL
        self._allowance, self._refilled = min(more, ALLOWANCE) - frames, now
        if self._allowance < 0:
            self.close(ErrorCodes.ENHANCE_YOUR_CALM)

    def _handle(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self._ending = True  # after the answers
            return
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, events.RequestReceived):
            self._begin(event)
        elif isinstance(event, events.DataReceived):
            if stream is not None:
                stream.receive(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif event.flow_controlled_length:
                # a stream that has ended: its own window stays as it is
                self._h2.increment_flow_control_window(event.flow_controlled_length)
        elif isinstance(event, events.StreamEnded) and stream is not None:
            stream.end()
        elif isinstance(event, events.StreamReset) and stream is not None:
            self._lose(stream)

    def _begin(self, event: events.RequestReceived) -> None:
        assert event.headers is not None
        if not all(_NAME.fullmatch(name) for name, _ in event.headers):
            # malformed (RFC 9113 section 8.1.1); h2 has checked all but this
            self._h2.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        if not self._streams:
            self._rest(False)
        self._wait()
        stream = self._build(event.stream_id, event.headers)
        self._streams[stream.number] = stream
        stream.deadline = self._clock.callLater(
            self._timeout, self.reset, stream, ErrorCodes.CANCEL
        )
        stream.begin()

    def _build(self, number: int, head: list[tuple[bytes, bytes]]) -> "Stream | EventStream":
        fields = dict(head)
        if fields[b":method"] == b"GET":
            protocol = self._events(fields.get(b":path", b""))
            if protocol is not None:
                return EventStream(self, number, head, protocol)
        return Stream(self, number, head)

    # To the peer

    def call_later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Makes a call later (`http2_stream.Connection`)."""
        return self._clock.callLater(seconds, call)

    def send_headers(self, stream: Stream | EventStream, fields: list[tuple[bytes, bytes]]) -> None:
        """Sends the head of an answer, if the stream is still there."""
        if self._streams.get(stream.number) is stream:
            self._h2.send_headers(stream.number, fields)

    def allow_for_event(self) -> None:
        """An event is written: its client may open both its windows for it."""
        self._allowance += FOR_EVENT

    def flush(self) -> None:
        """Sends what the windows of the peer allow."""
        for stream in tuple(self._streams.values()):
            self._send(stream)
        self._write()
        if self._ending and not self._streams:
            self.close()

    def _send(self, stream: Stream | EventStream) -> None:
        number = stream.number
        while stream.waiting and not self._blocked and not self._closed:
            size = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if size <= 0:
                return
            piece = bytes(stream.waiting[:size])
            self._h2.send_data(number, piece)
            del stream.waiting[:size]
            self._allowance += len(piece) * FOR_BYTE
            self._wait()
            self._write()
        if not stream.waiting and not self._closed:
            stream.drained()
        if stream.answered and not stream.waiting and self._streams.get(number) is stream:
            self._h2.end_stream(number)
            if not stream.complete:
                # some clients lose an answer if this comes along with it (RFC 9113 section 8.1)
                self._clock.callLater(LINGER, self._refuse_rest, number)
            self._allowance += FOR_ANSWER
            self._ending = self._ending or self._closing()
            self._lose(stream)

    def _refuse_rest(self, number: int) -> None:
        """The rest of a request that is answered is not wanted."""
        if not self._closed:
            with contextlib.suppress(StreamClosedError):
                self._h2.reset_stream(number, ErrorCodes.NO_ERROR)
                self._write()

    def reset(self, stream: Stream | EventStream, code: ErrorCodes) -> None:
        """Ends a stream before its end."""
        if self._streams.get(stream.number) is not stream:
            return
        self._send(stream)
        with contextlib.suppress(StreamClosedError):  # the peer has reset it in the same bytes
            self._h2.reset_stream(stream.number, code)
        self._lose(stream)
        self._write()

    def _lose(self, stream: Stream | EventStream) -> None:
        self._forget(stream)
        stream.lose(Failure(connectionDone.value))

    def _forget(self, stream: Stream | EventStream) -> None:
        stream.stop_deadline()
        del self._streams[stream.number]
        if not self._streams and not self._closed:
            self._wait()
            self._rest(True)

    def _write(self) -> None:
        if data := self._h2.data_to_send():
            self.transport.write(data)

    # The end

    def _wait(self) -> None:
        """Something has moved: the timeout begins anew."""
        if self._closed:
            return
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._timed_out)
        else:
            self._timer.reset(self._timeout)

    def _timed_out(self) -> None:
        self._timer = None
        if any(each.complete and not each.answered for each in self._streams.values()):
            self._wait()  # relayd itself takes that long
        else:
            self.close()

    def close(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Ends the connection, with a GOAWAY that says why."""
        if not self._closed:
            self._h2.close_connection(code)
            self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._write()
        self._stop()
        self._lose_all()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        # TLS waits for the peer's own end
        self._timer = self._clock.callLater(LINGER, self._abort)

    def _abort(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self._closed = True
        self._stop()
        self._lose_all()

    def _lose_all(self) -> None:
        for stream in tuple(self._streams.values()):
            self._lose(stream)

    def _stop(self) -> None:
        for call in (self._timer, self._turn):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._turn = None
        self._unread = b""

    # The transport calls these (`IPushProducer`)

    def pauseProducing(self) -> None:
        """The peer does not read its answers: nothing of it is read meanwhile."""
        self._blocked = True
        if not self._closed:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer has read what was sent."""
        self._blocked = False
        if self._closed:
            return
        self.flush()
        if not self._blocked and self._turn is None:
            self._go_on()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` handles that."""
