# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The batching rule: a quiet receiver is served at once, a busy one in batches.

Sits under `fanout`, whose groups follow the rule, and under `brokers.over_redis.groups`, whose
channels do. A receiver is quiet when its last batch began `coalesce` seconds ago or more: the next
item goes out at once. Otherwise the item waits, and the batch goes out `coalesce` seconds after the
first item that waits, or at once when `FULL` bytes wait. So a single item is not delayed, no item
waits longer than `coalesce` for a batch to begin (or for `coalesce` from the end of a batch that was
being sent when it came), and all items of a batch share its cost.

Re-entry: the clock must not call back from `seconds` and `callLater`. A `Batch` is empty before it
calls its `send`, so `send` may call `add` and `flush`.
Descriptors: none.
Buffers: a `Batch` keeps the items that wait and hands the list of them over to `send`.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

cdef enum:
    FULL = 65536  # bytes of a batch that does not wait for more


cdef class Batching:
    """The clock and the waiting time that many receivers share.

    Args:
        clock: `hub.Timing`.
        coalesce: seconds an item may wait for others while its receiver is busy; 0 to serve each
            item at once.
    """

    def __init__(self, object clock, double coalesce):
        self.seconds = clock.seconds
        self.call_later = clock.callLater
        self.coalesce = coalesce


cdef class Batched:
    """A receiver that follows the rule. It says when; its subclass keeps the items and sends them.

    A subclass has a method `due`, which is called when a batch is due (`_wait`) or the next part
    of the current one (`_go_on`). The subclass sets `_serving` while it sends to somebody who may
    call back, so that items that come meanwhile wait.

    Args:
        batching: the clock and the waiting time.
    """

    def __init__(self, Batching batching not None):
        self._batching = batching
        self._served = float("-inf")

    cdef bint _serves_at_once(self) except -1:
        """Whether to send an item that has come now at once. If not, a batch will be due."""
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
        """Counts an item of `size` bytes that waits from now on; says whether the batch is full."""
        self._size += size
        return self._size >= FULL and not self._serving

    cdef int _begin(self) except -1:
        """A batch begins to go out."""
        self._cancel()
        self._served = self._batching.seconds()
        return 0

    cdef int _wait(self, double since) except -1:
        """The next batch is due in `coalesce` seconds; the first of its items came at `since`."""
        self._began = since
        self._call = self._batching.call_later(self._batching.coalesce, self.due)
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
        batching: the clock and the waiting time.
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
        if self._serves_at_once():
            self._send([item])
            return
        self._items.append(item)
        if self._fills(PyBytes_GET_SIZE(item)):
            self.flush()

    def flush(self):
        """Sends the items that wait now. No effect if there is none."""
        self._cancel()
        if not self._items:
            return
        self._begin()
        items, self._items = self._items, []
        self._size = 0
        self._send(items)

    def due(self):
        """The batch is due."""
        self.flush()
