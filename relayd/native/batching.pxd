cdef class Batching:
    cdef object seconds, call_later
    cdef double coalesce
    cdef double _cost_elsewhere
    cdef double _level  # of the leaky bucket at `_at`, seconds of work
    cdef double _at

    cdef double gap(self, double cost, double now) noexcept
    cdef int charge(self, double cost, double now) except -1
    cdef int _drain(self, double now) except -1


cdef class Batched:
    cdef Batching _batching
    cdef object _call  # the `hub.Call` of the next batch, or of the next part of this one
    cdef double _cost  # of a batch, seconds of work: a moving average
    cdef double _ended  # when the last batch had been sent
    cdef double _began  # when the first item came of those that wait
    cdef Py_ssize_t _size  # of all items that wait, bytes
    cdef bint _serving

    cdef bint _serves_at_once(self, double *now) except -1
    cdef bint _fills(self, Py_ssize_t size) noexcept
    cdef bint _coarse(self) noexcept
    cdef int _served(self, double spent, double now) except -1
    cdef int _wait(self, double since, double now) except -1
    cdef int _go_on(self) except -1
    cdef int _cancel(self) except -1
