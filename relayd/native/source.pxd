cdef class Source:
    cdef readonly int holds  # groups that hold it
    cdef long long _owed  # ns of the loop's time that it has caused and that are not forgiven yet
    cdef long long _at  # the time up to which some are forgiven, ns

    cdef int charge(self, long long spent, long long now) except -1
    cdef bint owes(self, long long now) noexcept
    cdef int hold(self) except -1
    cdef int let_go(self) except -1


cdef Source being_read()
cdef int begin_reading(Source source) except -1
