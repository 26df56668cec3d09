cdef enum:
    LONGEST_SHORT = 125

cpdef bytes text_frame(bytes payload)
cdef bytes short_text(const char *data, Py_ssize_t size, Py_ssize_t *at, int longest)
