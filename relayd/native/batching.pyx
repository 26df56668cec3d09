# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The batching rule: a receiver is served at once while the loop has time, else in batches.

Sits under `fanout`, whose groups follow the rule, and under `brokers.over_redis.groups`, whose
channels do. docs/decisions/0007-batching.md has the reasons and what else was tried.

The load is the level of a leaky bucket: each batch adds the seconds that sending it took, and
`SHARE` of each second drains. While the level is below `BURST`, a receiver may be served again as
soon as its last batch has been sent. Above, a gap follows each batch of a receiver: the time that
its batches take, times a factor that grows with the level, but `coalesce` at most. So the busy
receivers get equal shares of `SHARE`, and a receiver whose batches cost little does not wait for
those whose batches cost much. All items that come during the gap share the cost of one batch.

Items that come while a batch of their receiver is sent wait for the end of the loop's turn: all
sockets that are read in that turn share one batch. So do items that come within the same time after
a batch that takes `GRAIN` or more, and all items while the gap is `GRAIN` or more.

Re-entry: the clock must not call back from `seconds` and `callLater`. `send` of a `Batch` may call
`add`, whose items wait for the next batch; `flush` has no effect then.
Descriptors: none.
Buffers: a `Batch` keeps the items that wait and hands the list of them over to `send`.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

cdef enum:
    FULL = 65536  # bytes of a batch that does not wait for more

cdef double SHARE = 0.5  # of the loop's time, for sending batches
cdef double BURST = 0.004  # seconds of work up to which nothing waits
cdef double SLOPE = 0.003  # seconds of work above `BURST` for each time that a gap is a batch's cost
cdef double STEEPEST = 16  # the most that a gap is of a batch's cost
cdef double GRAIN = 50e-6  # seconds; a shorter gap is none, and shorter batches are timed rarely


cdef class Batching:
    """The clock, the bound and the load that many receivers share.

    Args:
        clock: `hub.Timing`.
        coalesce: seconds an item may wait for others while the loop is busy; 0 to serve each item
            at once.
        cost_elsewhere: seconds of work that each batch causes outside this process, as in Redis and
            in the processes that read from it; counted as if this process did it.
    """

    def __init__(self, object clock, double coalesce, double cost_elsewhere=0):
        self.seconds = clock.seconds
        self.call_later = clock.callLater
        self.coalesce = coalesce
        self._cost_elsewhere = cost_elsewhere
        self._at = float("-inf")

    cdef double gap(self, double cost, double now) noexcept:
        """Seconds from the end of a receiver's batch to the next one; `cost` is what one takes."""
        cdef double gap
        if cost == 0 or self._level == 0:
            return 0
        self._drain(now)
        gap = min((self._level - BURST) / SLOPE, STEEPEST) * cost
        return 0 if gap < GRAIN else min(gap, self.coalesce)

    cdef int charge(self, double cost, double now) except -1:
        """A batch was sent, which took `cost` seconds until `now`."""
        self._drain(now)
        self._level = min(self._level + cost, BURST + STEEPEST * SLOPE)
        return 0

    cdef int _drain(self, double now) except -1:
        """Lowers the level to what it is now."""
        self._level = max(self._level - SHARE * (now - self._at), 0)
        self._at = now
        return 0


cdef class Batched:
    """A receiver that follows the rule. It says when; its subclass keeps the items and sends them.

    A subclass has a method `due`, which is called when a batch is due (`_wait`) or the next part
    of the current one (`_go_on`). The subclass sets `_serving` while it sends to somebody who may
    call back, so that items that come meanwhile wait, and says after each batch what it took
    (`_served`).

    Args:
        batching: the clock, the bound and the load.
    """

    def __init__(self, Batching batching not None):
        self._batching = batching
        self._ended = float("-inf")

    cdef bint _serves_at_once(self, double *now) except -1:
        """Whether to send an item that has come now at once. If not, a batch will be due.

        Sets `now`, in seconds, if so.
        """
        cdef double since, gap
        if self._call is not None or self._serving:
            return False
        now[0] = self._batching.seconds()
        if self._batching.coalesce == 0:
            return True
        gap = self._batching.gap(self._cost, now[0])
        since = now[0] - self._ended
        if gap == 0 and (
            self._cost < GRAIN or since >= min(self._cost, self._batching.coalesce)
        ):
            return True
        self._wait(now[0], now[0])
        return False

    cdef bint _fills(self, Py_ssize_t size) noexcept:
        """Counts an item of `size` bytes that waits from now on; says whether the batch is full."""
        self._size += size
        return self._size >= FULL and not self._serving

    cdef bint _coarse(self) noexcept:
        """Whether a batch takes so long, or an unknown time, that each is measured."""
        return self._cost == 0 or self._cost >= GRAIN

    cdef int _served(self, double spent, double now) except -1:
        """A batch has been sent, which took `spent` seconds until `now`."""
        spent = max(spent, 0) + self._batching._cost_elsewhere
        if self._cost == 0:
            self._cost = spent
        else:
            # where another process had the core meanwhile, that is no cost of the batch
            spent = min(spent, 2 * self._cost + GRAIN)
            self._cost += (spent - self._cost) / 4
        self._ended = now
        self._batching.charge(spent, now)
        return 0

    cdef int _wait(self, double since, double now) except -1:
        """The next batch is due after its gap; the first of its items came at `since`."""
        cdef double due = self._ended + self._batching.gap(self._cost, now)
        self._began = since
        self._call = self._batching.call_later(max(due - now, 0), self.due)
        return 0

    cdef int _go_on(self) except -1:
        """The next part of the current batch is due as soon as other calls have had their turn."""
        self._call = self._batching.call_later(0, self.due)
        return 0

    cdef int _cancel(self) except -1:
        """Cancels the next batch, or the next part of the current one."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        return 0


cdef class Batch(Batched):
    """Items for one receiver that takes a batch in one call.

    Args:
        batching: the clock, the bound and the load.
        send: takes a list of items, in the order in which they were added. Must not raise.
    """

    cdef object _send
    cdef list _items

    def __init__(self, Batching batching not None, object send):
        Batched.__init__(self, batching)
        self._send = send
        self._items = []

    def add(self, bytes item not None):
        """Sends an item at once, or with its batch."""
        cdef double now
        if self._serves_at_once(&now):
            self._deliver([item], now)
            return
        self._items.append(item)
        if self._fills(PyBytes_GET_SIZE(item)):
            self.flush()

    def flush(self):
        """Sends the items that wait now. No effect if there is none."""
        if self._serving:
            return
        self._cancel()
        if not self._items:
            return
        items, self._items = self._items, []
        self._size = 0
        self._deliver(items, self._batching.seconds())

    def due(self):
        """The batch is due."""
        self.flush()

    cdef int _deliver(self, list items, double began) except -1:
        """Sends a batch, and notes what it took."""
        cdef double now
        self._serving = True
        try:
            self._send(items)
        finally:
            self._serving = False
        now = self._batching.seconds()
        self._served(now - began, now)
        if self._items and self._call is None:
            self._wait(now, now)
        return 0
