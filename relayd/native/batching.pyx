# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The batching rule: what is quiet is served at once, what is busy in batches.

Sits under `fanout`, whose groups keep to it, and under `brokers.over_redis.groups`, whose channels
do. Something that was not served for `coalesce` seconds is quiet, and its next item goes out at
once. Otherwise the item waits, and a batch goes out `coalesce` seconds after the first one that
waits, or at once when `FULL` bytes wait. So a single item waits for nothing, no item waits longer
than `coalesce` for a batch to begin, and the cost of a batch is shared by all that is in it.

Re-entry: the clock is asked and given calls, and both must return without calling back. `Batch`
calls its `send` last, when nothing is left to do: that may call `add`, `flush` and `cancel`.
Descriptors: none.
Buffers: a `Batch` keeps the items that wait, and lets go of them when it hands them to `send`.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

cdef enum:
    FULL = 65536  # bytes of a batch that does not wait for more


cdef class Batching:
    """The clock and the waiting time that all share who are served by the same rule.

    Args:
        clock: `hub.Timing`.
        coalesce: seconds an item may wait for others while its like is busy; 0 to serve each at
            once.
    """

    def __init__(self, object clock, double coalesce):
        self.seconds = clock.seconds
        self.call_later = clock.callLater
        self.coalesce = coalesce


cdef class Batched:
    """Something that is served by the rule: says when; its subclass keeps the items and serves.

    A subclass has a method `due`, which is called when a batch is due (`_wait`) or the next part
    of the one that is being served (`_go_on`). While it serves somebody who may call back, it sets
    `_serving`: what comes meanwhile waits.
    """

    def __init__(self, Batching batching not None):
        self._batching = batching
        self._served = float("-inf")

    cdef bint _serves_at_once(self) except -1:
        """Whether an item that has come now is to be served at once. If not, a batch will be due."""
        cdef double now
        if self._call is not None or self._serving:
            return False
        now = self._batching.seconds()
        if now - self._served >= self._batching.coalesce:
            self._served = now
            return True
        self._wait(now)
        return False

    cdef bint _fills(self, Py_ssize_t size) noexcept:
        """An item of so many bytes waits from now on; whether so much waits that it is to go now."""
        self._size += size
        return self._size >= FULL and not self._serving

    cdef int _begin(self) except -1:
        """A batch begins to be served."""
        self.cancel()
        self._served = self._batching.seconds()
        return 0

    cdef int _wait(self, double since) except -1:
        """The next batch is due in `coalesce` seconds; the first of its items came at `since`."""
        self._began = since
        self._call = self._batching.call_later(self._batching.coalesce, self.due)
        return 0

    cdef int _go_on(self) except -1:
        """The next part of this batch is due when others have had their turn."""
        self._call = self._batching.call_later(0, self.due)
        return 0

    cpdef cancel(self):
        """Calls off the next batch, or the next part of this one."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()


cdef class Batch(Batched):
    """Items that go the same way, each batch in one call.

    Args:
        batching: the rule.
        send: takes a list of items, in the order in which they were added. It must not raise.
    """

    cdef object _send
    cdef list _items

    def __init__(self, Batching batching not None, object send):
        Batched.__init__(self, batching)
        self._send = send
        self._items = []

    def add(self, bytes item not None):
        """Sends an item: at once, or with its batch."""
        if self._serves_at_once():
            self._send([item])
            return
        self._items.append(item)
        if self._fills(PyBytes_GET_SIZE(item)):
            self.flush()

    def flush(self):
        """Sends what waits, now. No effect if nothing does."""
        self.cancel()
        if not self._items:
            return
        self._begin()
        items, self._items = self._items, []
        self._size = 0
        self._send(items)

    def due(self):
        """The batch is due."""
        self.flush()
