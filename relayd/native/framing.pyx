# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""WebSocket frame heads (RFC 6455 section 5.2): the only code of relayd that reads or writes them.

Sits under `reading`, which parses short frames, under `fanout`, which frames a payload for a
group, and under all modules that send or read a frame in Python. Autobahn reads every other frame
of a client, and writes its own pongs and closes. The parts of a head are in framing.pxd, with
`short_text`, which is compiled into the loop of `reading`.

Re-entry: none; no function calls back.
Descriptors: none.
Buffers: the caller owns its bytes, and no reference to them is kept. Results are copies,
except for `payload_of`, which returns a view that keeps its frame alive.
"""

import zlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

LONGEST_SHORT_PAYLOAD = LONGEST_SHORT
"""Bytes of the longest payload whose length stands in the second byte, as for control frames."""
LONGEST_REASON = LONGEST_SHORT - 2
"""Bytes of the longest reason in a close frame, behind two bytes of code (section 5.5.1)."""
OPCODE_NAMES = {
    0x0: "continuation",
    0x1: "text",
    0x2: "binary",
    0x8: "close",
    0x9: "ping",
    0xA: "pong",
}
"""The name of each opcode."""
PING_FRAME = bytes((FINAL | PING, 0))
"""A complete unmasked ping without a payload (section 5.5.2)."""


cpdef bytes text_frame(bytes payload):
    """One complete unmasked text frame.

    Args:
        payload: UTF-8, which is not checked.
    """
    return _frame(FINAL | TEXT, payload)


cpdef bytes deflated(bytes frame):
    """A frame with its payload compressed (RFC 7692 section 7.2.1); the frame if that is not less.

    A payload of up to `LONGEST_SHORT_PAYLOAD` bytes is left as it is: 15 bytes less, which is what
    a pose would save, are little beside the 66 that TCP, IP and Ethernet put before it, and cost
    3 us for each frame. Without context takeover, nothing that was sent before helps. The window is
    no larger than the payload, and the fastest level is used: 4 us for 200 bytes instead of 38.

    Args:
        frame: a whole unmasked frame.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
    if size <= HEAD + LONGEST_SHORT or (<unsigned char> frame[0]) & COMPRESSED:
        return frame
    payload = payload_of(frame)
    cdef int bits = min(max((<object> len(payload)).bit_length(), 9), 15)
    stream = zlib.compressobj(1, zlib.DEFLATED, -bits, min(bits - 7, 8))
    cdef bytes packed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
    if PyBytes_GET_SIZE(packed) - 4 >= len(payload):
        return frame
    return _frame((<unsigned char> frame[0]) | COMPRESSED, packed[:-4])


def binary_frame(bytes payload):
    """One complete unmasked binary frame."""
    return _frame(FINAL | BINARY, payload)


def read_frames(bytes data not None):
    """Opcode and payload of each frame, as a list; a compressed payload is inflated.

    Args:
        data: whole unmasked frames, one after another, as relayd sends them.

    Raises:
        ValueError: the last frame is not whole, one is masked, or a payload cannot be inflated.
    """
    cdef const unsigned char *first = <const unsigned char *> PyBytes_AS_STRING(data)
    cdef Py_ssize_t at = 0, size = PyBytes_GET_SIZE(data), start, length
    cdef list found = []
    while at < size:
        start = _read_head(first + at, size - at, &length)
        payload = PyBytes_FromStringAndSize(<const char *> first + at + start, length)
        if first[at] & COMPRESSED:
            payload = _inflated(payload)
        found.append((first[at] & OPCODE, payload))
        at += start + length
    return found


cdef bytes _inflated(bytes payload):
    """The payload of a frame that `deflated` wrote. Raises ValueError for any other bytes."""
    try:
        return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
    except zlib.error as error:
        raise ValueError("a payload is not compressed") from error


def payload_of(bytes frame not None):
    """The payload of a whole unmasked frame, as a view of it.

    Raises:
        ValueError: the frame is not whole, or masked.
    """
    cdef Py_ssize_t length, start = _read_head(
        <const unsigned char *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), &length
    )
    return memoryview(frame)[start:start + length]


def missing_of_head(bytes data not None):
    """The number of bytes that the head of a client's frame still lacks, at least 1.

    Args:
        data: the first bytes of the head. Without the byte that holds the length, the shortest head
            that a client sends is assumed.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), head = HEAD
    cdef int length
    if size > 1:
        length = data[1] & LENGTH
        if length == TWO_BYTES:
            head = HEAD_16
        elif length == EIGHT_BYTES:
            head = HEAD_64
    return max(head + MASK - size, 1)


cdef long long client_frame_size(const char *data, Py_ssize_t left) noexcept:
    """Bytes of the client's frame that begins here, its head included; 0 if its head is not whole.

    Args:
        data: bytes from the socket.
        left: the number of them.
    """
    cdef const unsigned char *frame = <const unsigned char *> data
    cdef Py_ssize_t head = HEAD, n
    cdef uint64_t length
    if left < HEAD:
        return 0
    length = frame[1] & LENGTH
    if length == TWO_BYTES:
        head = HEAD_16
    elif length == EIGHT_BYTES:
        head = HEAD_64
    if left < head:
        return 0
    if head > HEAD:
        length = 0
        for n in range(HEAD, head):
            length = length << 8 | frame[n]
    if frame[1] & MASKED:
        head += MASK
    return head + <long long> min(length, <uint64_t> 1 << 62)


cdef bytes _frame(unsigned char first, bytes payload):
    """One complete unmasked frame; its length takes the fewest bytes, as the RFC demands."""
    if payload is None:  # Cython accepts None as bytes
        raise TypeError("a payload is bytes, not None")
    cdef Py_ssize_t length = PyBytes_GET_SIZE(payload), head, n
    cdef bytes frame
    cdef unsigned char *to
    if length <= LONGEST_SHORT:
        head = HEAD
    elif length < 1 << 16:
        head = HEAD_16
    else:
        head = HEAD_64
    frame = PyBytes_FromStringAndSize(NULL, head + length)
    to = <unsigned char *> PyBytes_AS_STRING(frame)
    to[0] = first
    to[1] = length if head == HEAD else TWO_BYTES if head == HEAD_16 else EIGHT_BYTES
    for n in range(2, head):
        to[n] = (<uint64_t> length >> (8 * (head - 1 - n))) & 0xFF
    memcpy(to + head, PyBytes_AS_STRING(payload), length)
    return frame


cdef Py_ssize_t _read_head(
    const unsigned char *frame, Py_ssize_t left, Py_ssize_t *length
) except -1:
    """Where the payload of a whole unmasked frame begins; sets `length` to the payload's length.

    Args:
        left: bytes that may be read from `frame` on.

    Raises:
        ValueError: the frame is not whole, or masked.
    """
    cdef Py_ssize_t head = HEAD, n
    cdef uint64_t told = frame[1] if left >= HEAD else 0
    if told & MASKED:
        raise ValueError("a frame is masked")
    if told == TWO_BYTES:
        head = HEAD_16
    elif told == EIGHT_BYTES:
        head = HEAD_64
    if left >= head > HEAD:
        told = 0
        for n in range(HEAD, head):
            told = told << 8 | frame[n]
    if left < head or told > <uint64_t> (left - head):
        raise ValueError("a frame is not whole")
    length[0] = told
    return head
