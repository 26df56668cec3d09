cdef class Sender:
    cdef int _descriptor

    cdef ssize_t _send(self, const char *data, Py_ssize_t size) noexcept


cdef class Recipient:
    cdef public object direct
    cdef public bint deflates, events, labelled, keeps_all
