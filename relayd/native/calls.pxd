cdef class Call:
    cdef long long _due
    cdef object _function
    cdef bint _made


cdef class Calls:
    cdef object _reactor
    cdef list _heap
    cdef bint _in_loop

    cdef void begin(self) noexcept
    cdef int end(self) except -1
    cdef long long first(self) noexcept
    cdef int make(self, long long now) except -1


cdef long long monotonic() noexcept
