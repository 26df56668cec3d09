# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Reads what came in on all sockets, and takes short text frames apart.

Sits under `inlet`, which says what is read, and ends what has ended. Everything else is handed to an inlet's owner: a frame
that is not short, a part of one, the end of a socket. System calls are made with Python's lock
held, for none of them can block; only a reactor's wait lets it go.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from relayd.native import give_way
from relayd.native.calls cimport Calls, monotonic

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

cdef extern from "sys/socket.h" nogil:
    enum: MSG_DONTWAIT
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)

cdef extern from "sys/epoll.h" nogil:
    enum: EPOLLIN
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int descriptor, epoll_event *events, int most, int timeout)

cdef enum:
    LONGEST_TURN = 5_000_000  # ns; then the reactor has its turn
    READS = 16  # between two looks at the clock and at the calls
    CHUNK = 65536  # bytes of one read
    PART = 512  # bytes that are parsed before the next look whether short frames follow

cdef char _buffer[CHUNK]


cdef class Inlet:
    """The bytes of one connection.

    Attributes:
        owner: gets what is not read here: `inlet.Owner`.
        take: gets the payload of every short text frame, and False: it is not binary.
        short: whether the next byte begins a frame: the WebSocket is open and the owner's parser
            holds nothing.
        missing: bytes, as far as known, that are still to come of a frame of which the owner's
            parser holds a part; 0 if it holds none.
        longest: bytes of payload that a short frame may have, 125 at most; 0 before the WebSocket
            is open.
        heard: set whenever bytes come.
        taken: messages that went to `take`; the owner counts its own here, too.
        transport: whose socket is read, where the poller does it.
        descriptor: that socket's.
    """

    cdef public object owner, take, transport
    cdef public int descriptor, longest
    cdef public Py_ssize_t missing
    cdef public bint heard, short
    cdef public long long taken

    def __init__(self, object owner):
        self.owner = owner
        self.longest = 0
        self.missing = 0
        self.short = False
        self.heard = True
        self.descriptor = -1

    def feed(self, bytes data not None):
        """Reads bytes that came in: short frames here, the rest is for the owner.

        Both ways have the same effect for every input; the short one costs a tenth.
        """
        self._feed(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data)

    cdef int _feed(self, const char *data, Py_ssize_t size, bytes whole) except -1:
        cdef Py_ssize_t at = 0, end, part
        cdef bytes payload
        self.heard = True
        while at < size:
            if self.short:
                end = at
                payload = _short_frame(data, size, &end, self.longest)
                if payload is not None:
                    at = end
                    self.taken += 1
                    try:
                        self.take(payload, False)
                    except Exception:
                        self.owner.failed()
                    continue
            # what is unusual is soon over: the parser gets no more than it needs to say so
            part = size - at
            if self.longest > 0:
                part = min(part, self.missing if self.missing > 0 else PART)
            self.missing = 0
            end = at + part
            if whole is None or part < size:
                self.owner.parse(PyBytes_FromStringAndSize(data + at, part))
            else:
                self.owner.parse(whole)
            at = end
        return 0


cdef bytes _short_frame(const char *data, Py_ssize_t size, Py_ssize_t *at, int longest):
    """The payload of a masked, final text frame of at most `longest` bytes; moves `at` behind it.

    None if there is anything else: another kind of frame, a part of one, or a payload that is not
    UTF-8.
    """
    cdef const unsigned char *frame = <const unsigned char *> data + at[0]
    cdef Py_ssize_t left = size - at[0], length, n
    cdef uint32_t mask
    cdef uint64_t mask8, eight, high = 0
    cdef bytes payload
    cdef char *to
    if left < 6 or frame[0] != 0x81:
        return None
    length = frame[1] - 0x80
    if length < 0 or length > longest or left < 6 + length:
        return None
    payload = PyBytes_FromStringAndSize(NULL, length)
    to = PyBytes_AS_STRING(payload)
    memcpy(&mask, frame + 2, 4)
    mask8 = (<uint64_t> mask << 32) | mask
    n = 0
    while n + 8 <= length:
        memcpy(&eight, frame + 6 + n, 8)
        eight ^= mask8
        high |= eight
        memcpy(to + n, &eight, 8)
        n += 8
    while n < length:
        to[n] = frame[6 + n] ^ frame[2 + (n & 3)]
        high |= <unsigned char> to[n]
        n += 1
    if high & <uint64_t> 0x8080808080808080:
        try:
            PyUnicode_DecodeUTF8(to, length, NULL)
        except UnicodeDecodeError:
            return None
    at[0] += 6 + length
    return payload


cdef class ReactorEpoll:
    """Takes the place of the epoll instance of a reactor, and reads sockets past the reactor.

    The reactor's instance is one of the descriptors in the instance of the sockets (epoll(7) allows
    it), so there is one wait for all, and a socket costs nothing but its own system calls. For the
    reactor the sockets are not there: its way to one reader takes as long as relaying a pose to a
    few members, and a turn with nothing to do half as long. So it gets a turn only when something
    of its own is ready or due, or what was read or called has set a call or ended it. This leans on
    attributes of `ReactorBase` that are private: `_newTimedCalls`, `_pendingTimedCalls` (a heap),
    `_started`, `_justStopped`, and on `EPollReactor._poller`.

    Args:
        reactor: an `EPollReactor`; its own instance is in use again after `release`.
        sockets: the epoll instance of the sockets.
        inlets: as of `read_ready`.
        ended: the same.
        calls: are made here, whenever they are due.
    """

    cdef readonly object register, modify, unregister
    cdef object _reactor, _epoll, _sockets, _ended
    cdef dict _inlets
    cdef Calls _calls
    cdef int _outer, _inner
    cdef bint _released

    def __init__(
        self,
        object reactor,
        object sockets,
        dict inlets not None,
        object ended,
        Calls calls not None,
    ):
        self._reactor = reactor
        self._epoll = reactor._poller
        self._sockets = sockets
        self._outer = sockets.fileno()
        self._inner = self._epoll.fileno()
        self._inlets = inlets
        self._ended = ended
        self._calls = calls
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        for name in ("_newTimedCalls", "_pendingTimedCalls", "_started", "_justStopped"):
            getattr(reactor, name)  # another version of Twisted that has none fails here
        sockets.register(self._epoll, EPOLLIN)
        reactor._poller = self
        calls.begin()

    def release(self):
        """Gives the reactor its own instance back, and the calls."""
        self._released = True
        self._sockets.unregister(self._epoll)
        self._reactor._poller = self._epoll
        self._calls.end()

    def poll(self, double timeout, int most):
        """Reads sockets and makes calls until the reactor has something to do; returns what it is.

        Args:
            timeout: seconds until the first of the reactor's calls is due; below 0 if there is
                none.
            most: how many descriptors the reactor wants to hear of.

        Returns:
            As `select.epoll.poll`.

        Raises:
            OSError: epoll_wait(2) failed; EINTR, too.
        """
        cdef epoll_event events[READS]
        cdef int count, n, milliseconds
        cdef long long now = monotonic(), end = 0
        cdef long long due = -1 if timeout < 0 else now + <long long> (timeout * 1e9)
        cdef list reactor_calls = self._reactor._pendingTimedCalls
        cdef object first = reactor_calls[0] if reactor_calls else None
        cdef object time = first.time if reactor_calls else None
        cdef bint more = False, reactor_ready = False
        while True:
            milliseconds = 0 if more else self._milliseconds(due, now)
            if milliseconds == 0:
                give_way()
                count = epoll_wait(self._outer, events, READS, 0)
            else:
                with nogil:
                    count = epoll_wait(self._outer, events, READS, milliseconds)
            if not more:
                end = monotonic() + LONGEST_TURN
            if count < 0:
                PyErr_SetFromErrno(OSError)
            for n in range(count):
                if events[n].data.fd == self._inner:
                    reactor_ready = True
                else:
                    _read_one(events[n].data.fd, self._inlets, self._ended)
            self._calls.make(monotonic())
            if self._released:
                return ()
            if reactor_ready:
                return self._epoll.poll(0, most)
            now = monotonic()
            more = count == READS and now < end
            if more:
                continue
            if count == READS:  # the turn is over; the reactor's instance may be behind these
                return self._epoll.poll(0, most)
            if 0 <= due <= now or not self._idle(first, time):
                return ()

    cdef int _milliseconds(self, long long due, long long now) noexcept:
        """How long to wait: until the first call, ours or the reactor's; below 0 for ever."""
        cdef long long first = self._calls.first()
        if first < 0 or 0 <= due < first:
            first = due
        return -1 if first < 0 else (max(first - now, 0) + 999_999) // 1_000_000

    cdef bint _idle(self, object first, object time) except -1:
        """Whether what was read or called gave the reactor nothing to do.

        That is no end, no new call, and the same first one at the same time.
        """
        cdef list calls
        if self._reactor._newTimedCalls:
            return False
        if self._reactor._justStopped or not self._reactor._started:
            return False
        calls = self._reactor._pendingTimedCalls
        return calls[0] is first and first.time == time if calls else first is None


def read_ready(int sockets, dict inlets, object ended):
    """Reads the sockets of an epoll instance that have something to read.

    All of them, or as many as `LONGEST_TURN` allows, so that everything else has its turn, the
    batches of the hub above all. The kernel begins with those whose turn was longest ago.

    Args:
        sockets: the descriptor of the epoll instance.
        inlets: those that are read, by the descriptors of their sockets.
        ended: called with an inlet whose socket has ended, and with why: `CONNECTION_DONE`,
            `CONNECTION_LOST`, or whatever was raised out of its owner.
    """
    cdef epoll_event events[READS]
    cdef int count = READS, n
    cdef long long end = monotonic() + LONGEST_TURN
    while count == READS and monotonic() < end:
        count = epoll_wait(sockets, events, READS, 0)
        for n in range(count):
            _read_one(events[n].data.fd, inlets, ended)


cdef int _read_one(int descriptor, dict inlets, object ended) except -1:
    # one that was read before may have ended it
    found = inlets.get(descriptor)
    if found is not None:
        _read(<Inlet> found, ended)
    return 0


cdef int _read(Inlet inlet, object ended) except -1:
    cdef ssize_t size = recv(inlet.descriptor, _buffer, CHUNK, MSG_DONTWAIT)
    if size > 0:
        try:
            inlet._feed(_buffer, size, None)
        except BaseException as error:
            # raised further, it would be the others' loss, too
            ended(inlet, error)
    elif size == 0:
        ended(inlet, CONNECTION_DONE)
    elif errno != EAGAIN and errno != EINTR:
        ended(inlet, CONNECTION_LOST)
    return 0
