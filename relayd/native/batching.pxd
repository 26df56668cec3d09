cdef class Batching:
    cdef object seconds, call_later
    cdef double coalesce


cdef class Batched:
    cdef Batching _batching
    cdef object _call  # the `hub.Call` of the next batch, or of the next part of this one
    cdef double _served  # when the last batch began
    cdef double _began  # when the first came of those that wait
    cdef Py_ssize_t _size  # of all that waits, bytes
    cdef bint _serving

    cdef bint _serves_at_once(self) except -1
    cdef bint _fills(self, Py_ssize_t size) noexcept
    cdef int _begin(self) except -1
    cdef int _wait(self, double since) except -1
    cdef int _go_on(self) except -1
    cdef int _cancel(self) except -1
