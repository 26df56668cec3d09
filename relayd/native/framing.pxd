# The parts of a head, and the reader of short frames: inline, since it runs for every frame.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

cdef enum:
    # the first byte
    FINAL = 0x80
    COMPRESSED = 0x40  # RSV1: the payload is compressed (RFC 7692 section 6)
    OPCODE = 0x0F
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    # the second byte
    MASKED = 0x80
    LENGTH = 0x7F
    TWO_BYTES = 126  # the length is in the next two bytes
    EIGHT_BYTES = 127  # the length is in the next eight
    # bytes of a head, a mask left out
    HEAD = 2
    HEAD_16 = 4
    HEAD_64 = 10
    MASK = 4  # bytes of a mask
    LONGEST_SHORT = 125  # bytes of the longest payload whose length is in the second byte

cpdef bytes text_frame(bytes payload)
cdef long long client_frame_size(const char *data, Py_ssize_t left) noexcept
cpdef bytes deflated(bytes frame)


cdef inline bytes short_text(const char *data, Py_ssize_t size, Py_ssize_t *at, int longest):
    """The payload of a masked, final text frame of at most `longest` bytes; moves `at` behind it.

    None for anything else: another kind of frame, a part of one, or a payload that is not UTF-8.

    Args:
        data: bytes from the socket.
        size: the number of them.
        at: where in them the frame begins.
        longest: bytes of payload, `LONGEST_SHORT` at most.
    """
    cdef const unsigned char *frame = <const unsigned char *> data + at[0]
    cdef Py_ssize_t left = size - at[0], length, n
    cdef uint32_t mask
    cdef uint64_t mask8, eight, high = 0
    cdef bytes payload
    cdef char *to
    if left < HEAD + MASK or frame[0] != (FINAL | TEXT):
        return None
    length = frame[1] - MASKED
    if length < 0 or length > longest or left < HEAD + MASK + length:
        return None
    payload = PyBytes_FromStringAndSize(NULL, length)
    to = PyBytes_AS_STRING(payload)
    memcpy(&mask, frame + HEAD, MASK)
    mask8 = (<uint64_t> mask << 32) | mask
    n = 0
    while n + 8 <= length:
        memcpy(&eight, frame + HEAD + MASK + n, 8)
        eight ^= mask8
        high |= eight
        memcpy(to + n, &eight, 8)
        n += 8
    while n < length:
        to[n] = frame[HEAD + MASK + n] ^ frame[HEAD + (n & 3)]
        high |= <unsigned char> to[n]
        n += 1
    if high & <uint64_t> 0x8080808080808080:  # a byte that is not ASCII
        try:
            PyUnicode_DecodeUTF8(to, length, NULL)
        except UnicodeDecodeError:
            return None
    at[0] += HEAD + MASK + length
    return payload
