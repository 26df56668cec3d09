# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Reads all readable sockets in fair turns.

Sits under `sockets.poller`, which registers the sockets and ends a connection whose socket has
ended. `inlet` parses what came. docs/decisions/0009-fair-turns.md has the reasons for the turns.

A turn reads first those that owe little (`source`), each for a slice of time at most, and then, for
`LATE_TURN` at most, those that owe much or have bytes left from an earlier slice: whoever owes
least comes first.

Re-entry: `receive`, `parse`, `failed`, `ended`, an observer and the calls run inside the loop. They
may add, remove and end any inlet (the loop looks each up just before it reads it), set and cancel
calls, and release the `ReactorEpoll`. They must not read: no `poll`, no `read_ready`, no `read_one`.
Descriptors: the poller owns the epoll instance of the sockets, the reactor its own instance, a
transport its socket. An inlet has only the number, and is removed before the socket is closed.
System calls are made with Python's lock held, since none can block; only a reactor's wait releases
it.
Buffers: all sockets are read into one buffer, which the next read overwrites.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from relayd.native import give_way
from relayd.native.calls cimport Calls, monotonic
from relayd.native.inlet cimport SLICE, Inlet

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
    LATE_TURN = 2_000_000  # ns of reading those that owe much, before calls get a turn
    READS = 16  # sockets that the kernel is asked for at a time
    CHUNK = 65536  # bytes of one read

cdef char _buffer[CHUNK]


cdef class Turns:
    """Reads the sockets of an epoll instance, so that each connection has its turn.

    Args:
        sockets: the descriptor of the epoll instance.
        inlets: the inlets by the descriptors of their sockets.
        ended: called with an inlet whose socket has ended, and the reason: `CONNECTION_DONE`,
            `CONNECTION_LOST`, or the exception that its owner raised.
    """

    cdef dict _inlets
    cdef object _ended
    cdef int _sockets, _next, _count
    cdef epoll_event _events[READS]
    cdef list _late  # those that owe much or have bytes that wait
    cdef int other  # the reactor's own instance, if the sockets' instance contains it
    cdef bint other_ready

    def __init__(self, int sockets, dict inlets not None, object ended):
        self._sockets = sockets
        self._inlets = inlets
        self._ended = ended
        self._late = []
        self.other = -1

    @property
    def busy(self):
        """Whether something is left to read, whatever the kernel says."""
        return self.has_more()

    def read_ready(self):
        """Reads what is ready, as long as a turn goes."""
        cdef long long end = monotonic() + LONGEST_TURN
        cdef bint full = True
        while full and monotonic() < end:
            full = self.wait(0) == READS
            self.read_fresh(end)
            self.read_late()

    def read_one(self, Inlet inlet not None):
        """Reads the socket of one inlet, where another loop has found it readable."""
        self._read(inlet, monotonic())

    def later(self, Inlet inlet not None):
        """Parses bytes of an inlet that wait, when others have had their turn.

        No effect if none wait.
        """
        if inlet._rest is not None:
            self._put_off(inlet)

    cdef bint has_more(self) noexcept:
        return self._next < self._count or len(self._late) > 0

    cdef int wait(self, long long ns) noexcept:
        """Waits for sockets, unless some are left; returns how many are ready, below 0 on errors.

        Args:
            ns: nanoseconds at most; below 0 for ever. Other threads run meanwhile, unless it is 0.
        """
        if self._next < self._count:
            return READS
        self._next = 0
        if ns == 0:
            self._count = wait_for_events(self._sockets, self._events, READS, 0)
        else:
            with nogil:
                self._count = wait_for_events(self._sockets, self._events, READS, ns)
        return self._count

    cdef int read_fresh(self, long long end) except -1:
        """Reads the ready sockets until `end`; puts those off that owe much."""
        cdef long long now = monotonic()
        cdef int descriptor
        cdef Inlet inlet
        while self._next < self._count:
            descriptor = self._events[self._next].data.fd
            self._next += 1
            if descriptor == self.other:
                self.other_ready = True
                continue
            # an inlet that was read before may have ended this one
            found = self._inlets.get(descriptor)
            if found is None:
                continue
            inlet = <Inlet> found
            if inlet.late:
                continue
            if inlet.owes(now):
                self._put_off(inlet)
                continue
            now = self._read(inlet, now)
            if now >= end:
                break
        return 0

    cdef int read_late(self) except -1:
        """Reads those that were put off: at least one of them, for `LATE_TURN` at most."""
        cdef long long now, end
        cdef Inlet inlet
        if not self._late:
            return 0
        now = monotonic()
        end = now + LATE_TURN
        # each of those that are late now has one slice at most
        cdef list turn = self._late
        self._late = []
        while turn:
            inlet = _least(turn, now)
            inlet.late = False
            if self._inlets.get(inlet.descriptor) is inlet:
                now = self._read(inlet, now)
                if now >= end:
                    break
        turn.extend(self._late)
        self._late = turn
        return 0

    cdef int _put_off(self, Inlet inlet) except -1:
        if not inlet.late:
            inlet.late = True
            self._late.append(inlet)
        return 0

    cdef long long _read(self, Inlet inlet, long long began) except -1:
        """Reads and parses for a slice of time; charges the inlet for it. Returns the time."""
        cdef ssize_t size
        cdef long long now
        try:
            if inlet._rest is not None:
                inlet.feed_rest(began + SLICE)
            else:
                size = recv(inlet.descriptor, _buffer, CHUNK, MSG_DONTWAIT)
                if size > 0:
                    inlet.count_bytes(size)
                    inlet.feed_some(_buffer, size, None, began + SLICE)
                elif size == 0:
                    self._ended(inlet, CONNECTION_DONE)
                elif errno != EAGAIN and errno != EINTR:
                    self._ended(inlet, CONNECTION_LOST)
        except BaseException as error:
            # if this propagated, the remaining calls would not be made
            self._ended(inlet, error)
        now = monotonic()
        inlet.charge(now - began, now)
        if inlet._rest is not None:
            self._put_off(inlet)
        return now


cdef Inlet _least(list late, long long now):
    """Takes out the inlet that owes least; of two, the one that is late for longer."""
    cdef Py_ssize_t n, least = 0
    for n in range(len(late)):
        (<Inlet> late[n]).owes(now)
        if (<Inlet> late[n])._owed < (<Inlet> late[least])._owed:
            least = n
    return late.pop(least)


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
        turns: reads them.
        calls: made by this loop when they are due.
    """

    cdef readonly object register, modify, unregister
    cdef object _reactor, _epoll, _sockets
    cdef dict _attributes  # the reactor's: a look-up in it takes a fraction of `getattr`
    cdef str _epoll_name, _new_calls_name, _calls_name, _stopping_name
    cdef Turns _turns
    cdef Calls _calls
    cdef bint _released

    def __init__(
        self,
        object reactor,
        object names,
        object sockets,
        Turns turns not None,
        Calls calls not None,
    ):
        self._reactor = reactor
        self._attributes = reactor.__dict__
        self._epoll_name, self._new_calls_name, self._calls_name, self._stopping_name = names
        self._epoll = getattr(reactor, self._epoll_name)
        self._sockets = sockets
        self._turns = turns
        turns.other = self._epoll.fileno()
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
        cdef int count
        cdef long long now = monotonic(), end = 0, wait
        cdef long long due = -1 if timeout < 0 else now + <long long> (timeout * 1e9)
        cdef list reactor_calls = self._attributes[self._calls_name]
        cdef object first = reactor_calls[0] if reactor_calls else None
        cdef object time = first.time if reactor_calls else None
        cdef bint more = False
        cdef Turns turns = self._turns
        while True:
            wait = 0 if more or turns.has_more() else self._nanoseconds(due, now)
            if wait == 0:
                give_way()
            count = turns.wait(wait)
            if not more:
                end = monotonic() + LONGEST_TURN
            if count < 0:
                PyErr_SetFromErrno(OSError)
            turns.read_fresh(end)
            turns.read_late()
            self._calls.make(monotonic())
            if self._released:
                return ()
            if turns.other_ready:
                turns.other_ready = False
                return self._epoll.poll(0, most)
            now = monotonic()
            more = count == READS or turns.has_more()
            if more and now < end:
                continue
            if more:  # the turn is over; the reactor's instance may be ready behind these
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
        if self._attributes[self._new_calls_name]:
            return False
        if self._attributes[self._stopping_name] or not self._attributes["running"]:
            return False
        calls = self._attributes[self._calls_name]
        return calls[0] is first and first.time == time if calls else first is None
