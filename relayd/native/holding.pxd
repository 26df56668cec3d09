from relayd.native.batching cimport Batched
from relayd.native.source cimport Source

cdef enum:
    FULL = 65536  # bytes that wait when a receiver begins to hold its senders


cdef class Holding(Batched):
    cdef double _rate
    cdef list _held  # the sources that it holds; None for none
    cdef long long _allowed  # messages that may come yet
    cdef double _allowed_at  # when they were counted
    cdef object _refill  # the `hub.Call` that lets those go that sent beyond the rate

    cdef int _hold(self, Source source) except -1
    cdef int _let_go(self) except -1
    cdef int _let_all_go(self) except -1
    cdef int _over_rate(self) except -1
