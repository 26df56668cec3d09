# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Delayed calls that are made by the loop that reads the sockets.

Sits under `reading`, which has that loop, and under `sockets.poller`, which offers the calls to the
groups of the hub, since these need many. The reactor would need one turn to notice a call and
another to make it.

Re-entry: a function that is called may call `callLater` and `Call.cancel`, and may pass the calls
back to the reactor (`end`).
Descriptors: none.
Buffers: none. A function is kept until it is called or cancelled, its `Call` until it is due.
"""

from heapq import heappop, heappush

from twisted.internet.error import AlreadyCalled, AlreadyCancelled

from relayd.logs import Logger

cdef extern from "time.h" nogil:
    enum: CLOCK_MONOTONIC
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)

cdef enum:
    LONGEST_TURN = 5_000_000  # ns of calls before sockets are read again

_log = Logger(namespace="relayd.sockets.poller")


cdef class Call:
    """A delayed call: the part of `IDelayedCall` that its callers need."""

    def active(self):
        """Whether the call is still pending."""
        return self._function is not None

    def cancel(self):
        """Cancels the call.

        Raises:
            AlreadyCalled: it was made.
            AlreadyCancelled: it was cancelled.
        """
        if self._function is None:
            raise AlreadyCalled() if self._made else AlreadyCancelled()
        self._function = None

    def __lt__(self, Call other not None):
        return self._due < other._due

    def __call__(self):
        """Makes the call, unless it was cancelled."""
        function, self._function = self._function, None
        if function is None:
            return
        self._made = True
        try:
            function()
        except BaseException:
            # if this propagated, the remaining calls would not be made
            _log.failure("a call that was due failed")


cdef class Calls:
    """Delayed calls: the part of `IReactorTime` that the groups of a hub need.

    The heap stays small, since a group has one pending call. A cancelled call stays in the heap
    until it is due.

    Args:
        reactor: makes the calls while no loop does.
    """

    def __init__(self, object reactor):
        self._reactor = reactor
        self._heap = []

    def seconds(self):
        """Seconds of the monotonic clock: clock_gettime(2), CLOCK_MONOTONIC."""
        return monotonic() / 1e9

    def callLater(self, double delay, object function not None):
        """Calls a function once, later, without arguments. Its exceptions are logged.

        Args:
            delay: seconds; the loop first ends the reads and calls in progress, and the kernel ends
                the wait up to 50 µs late (prctl(2), PR_SET_TIMERSLACK), or up to 1 ms without
                epoll_pwait2(2) and where the reactor makes the calls.
            function: called without arguments.

        Returns:
            A `Call`; the reactor's own where the reactor makes it.
        """
        cdef Call call
        if not self._in_loop:
            return self._reactor.callLater(delay, function)
        call = Call()
        call._due = monotonic() + <long long> (delay * 1e9)
        call._function = function
        heappush(self._heap, call)
        return call

    cdef void begin(self) noexcept:
        """From now on a loop makes the calls."""
        self._in_loop = True

    cdef int end(self) except -1:
        """From now on the reactor makes the calls, the pending ones included."""
        cdef Call call
        cdef long long now = monotonic()
        self._in_loop = False
        heap, self._heap = self._heap, []
        for call in heap:
            self._reactor.callLater(max(0, call._due - now) / 1e9, call)
        return 0

    cdef long long first(self) noexcept:
        """When the first call is due, by `monotonic`; below 0 if none is pending."""
        return (<Call> self._heap[0])._due if self._heap else -1

    cdef int make(self, long long now) except -1:
        """Makes the calls that are due at `now`, in their order, as long as a turn goes."""
        cdef long long end = now + LONGEST_TURN
        while self._heap and (<Call> self._heap[0])._due <= now:
            heappop(self._heap)()
            if monotonic() >= end:
                break
        return 0


cdef long long monotonic() noexcept:
    """Nanoseconds of the monotonic clock."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * <long long> 1_000_000_000 + now.tv_nsec
