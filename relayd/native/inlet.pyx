# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The bytes that come from one connection: parses short text frames, a slice of time at a turn.

Sits under `reading`, whose loops read the sockets. `framing` parses a short frame; a `Passage`
forwards its payload to a group. The owner of an inlet parses all other bytes: longer frames, other
kinds of frames, parts of frames.

Re-entry: `receive`, `parse`, `failed`, `over_rate`, an observer, `stop` and `go_on` may add, remove
and end any inlet. They must not `feed` the inlet that called them, but for the bytes behind the
head of the handshake that opened it.
Descriptors: an inlet has only the number, and is removed before the socket is closed.
Buffers: payloads and parts are copied out of the buffer before they are passed on; so are the bytes
that wait for the next slice.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr

from relayd.native.calls cimport monotonic
from relayd.native.fanout cimport Publisher
from relayd.native.framing cimport CLOSE, OPCODE, client_frame_size, short_text
from relayd.native.source cimport Source, begin_reading

cdef enum:
    PART = 512  # bytes for the owner's parser before the next check for short frames
    NO_LIMIT = 0x7FFF_FFFF_FFFF_FFFF

cdef double BURST = 2  # seconds' worth of frames or bytes that may come at once

TURN = SLICE
"""Nanoseconds that the frames of one connection take before others have their turn."""


cdef class Inlet(Source):
    """The bytes of one connection.

    Attributes:
        owner: parses all other bytes (`sockets.poller.Owner`).
        receive: called with the payload of every short text frame, and False: not binary.
        observer: notified of each of these payloads first (`sockets.observer.Observer`), or None.
        short: whether the next byte begins a frame: the WebSocket is open and the owner's parser
            holds nothing.
        missing: bytes that are known to be missing of a frame of which the owner's parser holds a
            part; 0 if it holds none.
        longest: bytes of payload that a short frame may have, `framing.LONGEST_SHORT_PAYLOAD` at
            most; 0 before the WebSocket is open, and where the owner's parser does not show its
            position.
        alive: set to True whenever bytes come; the keepalive clears it.
        received_count: messages that went to `receive`; the owner adds those that it parsed.
        transport: the transport of the socket, if a poller reads it.
        descriptor: the descriptor of that socket.
    """

    def __init__(self, object owner):
        self.owner = owner
        self.longest = 0
        self.missing = 0
        self.short = False
        self.alive = True
        self.descriptor = -1
        self._frames = self._bytes = NO_LIMIT

    @property
    def receive(self):
        if type(self._receive) is _Observed:
            return (<_Observed> self._receive).receive
        return self._receive

    @receive.setter
    def receive(self, receive):
        self._receive = receive if self.observer is None else _Observed(self.observer, receive)

    @property
    def observer(self):
        return (<_Observed> self._receive).observer if type(self._receive) is _Observed else None

    @observer.setter
    def observer(self, observer):
        receive = self.receive
        self._receive = receive if observer is None else _Observed(observer, receive)

    @property
    def waits(self):
        """Whether bytes that were read wait for the next slice."""
        return self._rest is not None

    def stop(self):
        self.owner.hold_reading()

    def go_on(self):
        self.owner.read_on()

    def limit(self, double frames, double size, object seconds):
        """Limits what may come. The owner's `over_rate` is called when more does.

        Two seconds' worth may come at once.

        Args:
            frames: a second, of every kind, fragments and control frames too; 0 for no limit.
            size: bytes a second; 0 for no limit.
            seconds: returns the time in seconds.
        """
        self._seconds = seconds
        self._frame_rate, self._byte_rate = frames, size
        self.allow()

    def allow(self):
        """Lets two seconds' worth of frames and bytes come from now on."""
        if self._frame_rate > 0:
            self._frames = <long long> max(1, BURST * self._frame_rate)
            self._frames_at = self._seconds()
        if self._byte_rate > 0:
            self._bytes = <long long> max(1, BURST * self._byte_rate)
            self._bytes_at = self._seconds()

    def count_frame(self):
        """Counts a frame that the owner's parser has read."""
        self._frames -= 1
        if self._frames < 0:
            self._over_rate()

    def close(self, long long bound):
        """Parses nothing more but the peer's close, since the owner has sent its own.

        Args:
            bound: bytes that may still come; then the owner's `abort` is called.
        """
        if not self._closing:
            self._closing = True
            self._bound = bound

    def feed(self, bytes data not None, long long slice=SLICE):
        """Parses short frames, and passes all other bytes to the owner.

        For every input, both ways have the same effect; parsing here costs a tenth.

        Args:
            data: bytes that came, behind those that wait.
            slice: nanoseconds of parsing; at least one frame is parsed. Further bytes wait for the
                next call, as they do when a group holds the connection.

        Returns:
            Whether all bytes were parsed.
        """
        cdef long long until = monotonic() + slice
        if data:
            self.count_bytes(PyBytes_GET_SIZE(data))
            if self._rest is not None:
                data = self._rest + data
                self._rest = None
            if self.holds:
                self._rest = data
        if self.holds:
            return self._rest is None
        if self._rest is not None:
            self.feed_rest(until)
        else:
            self.feed_some(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data, until)
        return self._rest is None

    cdef int feed_rest(self, long long until) except -1:
        """Parses the bytes that wait, until a time by `monotonic`."""
        cdef bytes rest = self._rest
        self._rest = None
        return self.feed_some(PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest), rest, until)

    cdef int feed_some(
        self, const char *data, Py_ssize_t size, bytes whole, long long until
    ) except -1:
        """Parses bytes, until a time by `monotonic`. `whole` is the same bytes, or None."""
        cdef Py_ssize_t at = 0
        cdef bytes payload
        self.alive = True
        begin_reading(self)
        try:
            while at < size:
                if self._closing:
                    at += self._pass_over(data + at, size - at)
                else:
                    payload = short_text(data, size, &at, self.longest) if self.short else None
                    if payload is not None:
                        self.received_count += 1
                        self._frames -= 1
                        if self._frames < 0:
                            self._over_rate()
                        if not self._closing:
                            try:
                                self._receive(payload, False)
                            except Exception:
                                self.owner.failed()
                    else:
                        at += self._parse(data + at, size - at, whole if at == 0 else None)
                if at < size and (self.holds or monotonic() >= until):
                    self._rest = PyBytes_FromStringAndSize(data + at, size - at)
                    break
        finally:
            begin_reading(None)
        return 0

    cdef Py_ssize_t _parse(self, const char *data, Py_ssize_t size, bytes whole) except -1:
        """Passes bytes to the owner's parser: only as many as it needs to end an unusual frame."""
        cdef Py_ssize_t part = size
        if self.longest > 0 or self._closing:
            part = min(part, self.missing if self.missing > 0 else PART)
        self.missing = 0
        if whole is None or part < size:
            whole = PyBytes_FromStringAndSize(data, part)
        self.owner.parse(whole)
        return part

    cdef Py_ssize_t _pass_over(self, const char *data, Py_ssize_t size) except -1:
        """Skips the rest of a frame, or the next frame unless it is a close; returns its bytes."""
        cdef Py_ssize_t part = size
        cdef long long frame
        if self._skip > 0:
            part = min(size, self._skip)
            self._skip -= part
        elif self.longest == 0 or self.missing > 0:
            part = self._parse(data, size, None)
        else:
            frame = client_frame_size(data, size)
            if frame == 0 or data[0] & OPCODE == CLOSE:
                part = self._parse(data, size if frame == 0 else min(size, frame), None)
            else:
                part = min(size, frame)
                self._skip = frame - part
        self._bound -= part
        if self._bound < 0:
            self.owner.abort()
            return size
        return part

    cdef int count_bytes(self, Py_ssize_t size) except -1:
        """Counts bytes that came."""
        self._bytes -= size
        if self._bytes < 0:
            self._over_rate()
        return 0

    cdef int _over_rate(self) except -1:
        """Fills the buckets for the time that has passed; calls the owner if one is empty still."""
        cdef double now = self._seconds()
        _fill(&self._frames, &self._frames_at, self._frame_rate, now)
        _fill(&self._bytes, &self._bytes_at, self._byte_rate, now)
        if (self._frames < 0 or self._bytes < 0) and not self._closing:
            self.owner.over_rate()
        return 0


cdef int _fill(long long *left, double *since, double rate, double now) except -1:
    """Fills a token bucket (`rate` a second) with whole tokens for the time since it was filled."""
    cdef double tokens = (now - since[0]) * rate
    if rate <= 0:
        return 0
    if tokens >= max(1, BURST * rate):
        tokens = max(1, BURST * rate)
        since[0] = now
    else:
        tokens = <double> <long long> tokens
        since[0] += tokens / rate
    left[0] += <long long> tokens
    return 0


cdef class _Observed:
    """Notifies an observer of each message, then calls `receive`."""

    cdef readonly object observer, receive

    def __init__(self, object observer, object receive):
        self.observer = observer
        self.receive = receive

    def __call__(self, bytes payload, bint is_binary):
        self.observer.received(payload, is_binary)
        self.receive(payload, is_binary)


cdef bint has_minus_zero(const char *at, Py_ssize_t size) noexcept nogil:
    """Whether bytes have `-0` without a fraction, exponent or digit behind it."""
    cdef const char *end = at + size
    while at < end:
        at = <const char *> memchr(at, c"-", end - at)
        if at == NULL:
            return False
        at += 1
        if at < end and at[0] == c"0":
            if at + 1 == end or not (at[1] in (c".", c"e", c"E") or c"0" <= at[1] <= c"9"):
                return True
    return False


cdef class Passage:
    """The `receive` of a connection whose messages are only checked and published.

    Args:
        decode: converts bytes to a message; raises for invalid ones.
        encode: converts the message to bytes.
        publish: called with these bytes.
        otherwise: called like an inlet's `receive` with a payload that `decode` rejected, or that
            has the integer -0, whose sign no Python int keeps.
    """

    cdef object _decode, _encode, _publish, _otherwise

    def __init__(self, object decode, object encode, object publish, object otherwise):
        self._decode = decode
        self._encode = encode
        self._publish = publish
        self._otherwise = otherwise

    def __call__(self, bytes payload, bint is_binary):
        if has_minus_zero(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)):
            self._otherwise(payload, is_binary)
            return
        try:
            message = self._decode(payload)
        except Exception:
            self._otherwise(payload, is_binary)
            return
        encoded = self._encode(message)
        if type(self._publish) is Publisher:
            (<Publisher> self._publish)._group.fan_out((<Publisher> self._publish)._key, encoded)
        else:
            self._publish(encoded)
