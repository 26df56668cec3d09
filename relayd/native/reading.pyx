# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Reads all readable sockets, and parses short text frames.

Sits under `sockets.poller`, which registers the sockets and ends a connection whose socket has
ended. `framing` parses a short frame; a `Passage` forwards its payload to a group. The owner of an
inlet parses all other bytes: longer frames, other kinds of frames, parts of frames.

Re-entry: `receive`, `parse`, `failed`, `ended`, an observer and the calls run inside the loop. They
may add, remove and end any inlet (the loop looks each up just before it reads it), set and cancel
calls, and release the `ReactorEpoll`. They must not read: no `poll`, no `read_ready`, no `read`, no
`feed` of the inlet that called them.
Descriptors: the poller owns the epoll instance of the sockets, the reactor its own instance, a
transport its socket. An inlet has only the number, and is removed before the socket is closed.
System calls are made with Python's lock held, since none can block; only a reactor's wait releases
it.
Buffers: all sockets are read into one buffer, which the next read overwrites. Payloads and parts
are copied out of it before they are passed on.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from relayd.native import give_way
from relayd.native.calls cimport Calls, monotonic
from relayd.native.fanout cimport Publisher
from relayd.native.framing cimport short_text

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)

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

cdef extern from *:
    """
    #include <errno.h>
    #include <linux/time_types.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    /* epoll_pwait2(2) waits for nanoseconds. Where the kernel does not have it (before Linux 5.11)
       or a sandbox refuses it, epoll_wait(2) waits for whole milliseconds, rounded up. */
    static int wait_for_events(int epoll, struct epoll_event *events, int most, long long ns)
    {
    #ifdef SYS_epoll_pwait2
        static int coarse = 0;
        if (!coarse && ns > 0) {
            struct __kernel_timespec timeout = {ns / 1000000000, ns % 1000000000};
            int count = syscall(SYS_epoll_pwait2, epoll, events, most, &timeout, NULL, 0);
            if (count >= 0 || (errno != ENOSYS && errno != EPERM))
                return count;
            coarse = 1;
        }
    #endif
        long long ms = ns <= 0 ? ns : (ns + 999999) / 1000000;
        return epoll_wait(epoll, events, most, ms > 2000000000 ? 2000000000 : (int) ms);
    }
    """
    int wait_for_events(int epoll, epoll_event *events, int most, long long ns) nogil

cdef enum:
    LONGEST_TURN = 5_000_000  # ns of reading; after that the reactor gets a turn
    READS = 16  # between two looks at the clock and at the calls
    CHUNK = 65536  # bytes of one read
    PART = 512  # bytes for the owner's parser before the next check for short frames

cdef char _buffer[CHUNK]


cdef class Inlet:
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
            most; 0 before the WebSocket is open.
        alive: set to True whenever bytes come; the keepalive clears it.
        received_count: messages that went to `receive`; the owner adds those that it parsed.
        transport: the transport of the socket, if a poller reads it.
        descriptor: the descriptor of that socket.
    """

    cdef public object owner, transport
    cdef object _receive  # where there is an observer, an `_Observed` around `receive`
    cdef public int descriptor, longest
    cdef public Py_ssize_t missing
    cdef public bint alive, short
    cdef public long long received_count

    def __init__(self, object owner):
        self.owner = owner
        self.longest = 0
        self.missing = 0
        self.short = False
        self.alive = True
        self.descriptor = -1

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

    def feed(self, bytes data not None):
        """Parses short frames, and passes all other bytes to the owner.

        For every input, both ways have the same effect; parsing here costs a tenth.
        """
        self._feed(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data)

    cdef int _feed(self, const char *data, Py_ssize_t size, bytes whole) except -1:
        cdef Py_ssize_t at = 0, end, part
        cdef bytes payload
        self.alive = True
        while at < size:
            if self.short:
                end = at
                payload = short_text(data, size, &end, self.longest)
                if payload is not None:
                    at = end
                    self.received_count += 1
                    try:
                        self._receive(payload, False)
                    except Exception:
                        self.owner.failed()
                    continue
            # only as much as the owner's parser needs to end the unusual frame
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


cdef class _Observed:
    """Notifies an observer of each message, then calls `receive`."""

    cdef readonly object observer, receive

    def __init__(self, object observer, object receive):
        self.observer = observer
        self.receive = receive

    def __call__(self, bytes payload, bint is_binary):
        self.observer.received(payload, is_binary)
        self.receive(payload, is_binary)


cdef class Passage:
    """The `receive` of a connection whose messages are only checked and published.

    Args:
        decode: converts bytes to a message; raises for invalid ones.
        encode: converts the message to bytes.
        publish: called with these bytes.
        otherwise: called like an inlet's `receive` with a payload that `decode` rejected.
    """

    cdef object _decode, _encode, _publish, _otherwise

    def __init__(self, object decode, object encode, object publish, object otherwise):
        self._decode = decode
        self._encode = encode
        self._publish = publish
        self._otherwise = otherwise

    def __call__(self, bytes payload, bint is_binary):
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


cdef class ReactorEpoll:
    """Replaces the epoll instance of a reactor, and reads the sockets in its place.

    The instance of the sockets contains the reactor's instance (epoll(7) allows that), so one wait
    serves both, and a socket costs only its own system calls. The reactor does not know of the
    sockets: its dispatch to one reader takes as long as relaying a pose to a few members, and an
    idle turn half as long. So the reactor gets a turn only when a descriptor of its own is ready, a
    call of its own is due, or a read or call has set one of its calls or stopped it.

    Args:
        reactor: an `EPollReactor`; its own instance is in use again after `release`.
        names: the attributes with that instance and the calls: `private.ReactorNames`.
        sockets: the epoll instance of the sockets.
        inlets: as for `read_ready`.
        ended: as for `read_ready`.
        calls: made by this loop when they are due.
    """

    cdef readonly object register, modify, unregister
    cdef object _reactor, _epoll, _sockets, _ended
    cdef str _epoll_name, _new_calls_name, _calls_name, _stopping_name
    cdef dict _inlets
    cdef Calls _calls
    cdef int _outer, _inner
    cdef bint _released

    def __init__(
        self,
        object reactor,
        object names,
        object sockets,
        dict inlets not None,
        object ended,
        Calls calls not None,
    ):
        self._reactor = reactor
        self._epoll_name, self._new_calls_name, self._calls_name, self._stopping_name = names
        self._epoll = getattr(reactor, self._epoll_name)
        self._sockets = sockets
        self._outer = sockets.fileno()
        self._inner = self._epoll.fileno()
        self._inlets = inlets
        self._ended = ended
        self._calls = calls
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        sockets.register(self._epoll, EPOLLIN)
        setattr(reactor, self._epoll_name, self)
        calls.begin()

    def release(self):
        """Restores the reactor's own instance, and passes the calls to the reactor."""
        self._released = True
        self._sockets.unregister(self._epoll)
        setattr(self._reactor, self._epoll_name, self._epoll)
        self._calls.end()

    def poll(self, double timeout, int most):
        """Reads sockets and makes calls until the reactor has something to do.

        Args:
            timeout: seconds until the first of the reactor's calls is due; below 0 without calls.
            most: the most descriptors to return.

        Returns:
            The ready descriptors of the reactor's instance, as `select.epoll.poll`.

        Raises:
            OSError: epoll_pwait2(2) or epoll_wait(2) failed; EINTR, too.
        """
        cdef epoll_event events[READS]
        cdef int count, n
        cdef long long now = monotonic(), end = 0, wait
        cdef long long due = -1 if timeout < 0 else now + <long long> (timeout * 1e9)
        cdef list reactor_calls = getattr(self._reactor, self._calls_name)
        cdef object first = reactor_calls[0] if reactor_calls else None
        cdef object time = first.time if reactor_calls else None
        cdef bint more = False, reactor_ready = False
        while True:
            wait = 0 if more else self._nanoseconds(due, now)
            if wait == 0:
                give_way()
                count = wait_for_events(self._outer, events, READS, 0)
            else:
                with nogil:
                    count = wait_for_events(self._outer, events, READS, wait)
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
            if count == READS:  # the turn is over; the reactor's instance may be ready behind these
                return self._epoll.poll(0, most)
            if 0 <= due <= now or not self._idle(first, time):
                return ()

    cdef long long _nanoseconds(self, long long due, long long now) noexcept:
        """How long to wait for the first call, ours or the reactor's; -1 without a limit."""
        cdef long long first = self._calls.first()
        if first < 0 or 0 <= due < first:
            first = due
        return -1 if first < 0 else max(first - now, 0)

    cdef bint _idle(self, object first, object time) except -1:
        """Whether reads and calls have left the reactor nothing to do.

        True if it is not stopping, has no new call, and has the same first call at the same time.
        """
        cdef list calls
        if getattr(self._reactor, self._new_calls_name):
            return False
        if getattr(self._reactor, self._stopping_name) or not self._reactor.running:
            return False
        calls = getattr(self._reactor, self._calls_name)
        return calls[0] is first and first.time == time if calls else first is None


def read_ready(int sockets, dict inlets, object ended):
    """Reads the sockets of an epoll instance that have something to read.

    Ends after `LONGEST_TURN`, so that other work gets a turn, above all the batches of the hub. The
    kernel begins with the sockets that were read longest ago.

    Args:
        sockets: the descriptor of the epoll instance.
        inlets: the inlets by the descriptors of their sockets.
        ended: called with an inlet whose socket has ended, and the reason: `CONNECTION_DONE`,
            `CONNECTION_LOST`, or the exception that its owner raised.
    """
    cdef epoll_event events[READS]
    cdef int count = READS, n
    cdef long long end = monotonic() + LONGEST_TURN
    while count == READS and monotonic() < end:
        count = wait_for_events(sockets, events, READS, 0)
        for n in range(count):
            _read_one(events[n].data.fd, inlets, ended)


def read(Inlet inlet not None, object ended):
    """Reads the socket of one inlet once, where another loop has found it readable.

    Args:
        inlet: the inlet.
        ended: as for `read_ready`.
    """
    _read(inlet, ended)


cdef int _read_one(int descriptor, dict inlets, object ended) except -1:
    # an inlet that was read before may have ended this one
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
            # if this propagated, the remaining calls would not be made
            ended(inlet, error)
    elif size == 0:
        ended(inlet, CONNECTION_DONE)
    elif errno != EAGAIN and errno != EINTR:
        ended(inlet, CONNECTION_LOST)
    return 0
