from relayd.native.source cimport Source


cdef enum:
    SLICE = 500_000  # ns that the frames of one connection take before others have their turn


cdef class Inlet(Source):
    # first what each short frame touches, so that it lies in two lines of the cache
    cdef object _receive  # where there is an observer, an `_Observed` around `receive`
    cdef bytes _rest  # what was read and is not parsed yet
    cdef public int descriptor, longest
    cdef public bint alive, short
    cdef bint _closing, late
    cdef public long long received_count
    # two token buckets: frames and bytes that may come, since when, and how many a second
    cdef long long _frames, _bytes
    cdef double _frames_at, _bytes_at, _frame_rate, _byte_rate
    cdef object _seconds  # the clock of the rates
    cdef public object owner, transport
    cdef public Py_ssize_t missing
    cdef long long _skip, _bound  # of a frame that is skipped; bytes left until the peer is dropped

    cdef int feed_some(
        self, const char *data, Py_ssize_t size, bytes whole, long long until
    ) except -1
    cdef int feed_rest(self, long long until) except -1
    cdef int count_bytes(self, Py_ssize_t size) except -1
    cdef Py_ssize_t _parse(self, const char *data, Py_ssize_t size, bytes whole) except -1
    cdef Py_ssize_t _pass_over(self, const char *data, Py_ssize_t size) except -1
    cdef int _over_rate(self) except -1
