# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""How frames get to one member of a group: straight to its socket, or into its queue.

Sits under `fanout`, whose groups send to their members, and under `sockets.outbox`, whose
connections are members and have a `Sender`.

Re-entry: none; no function calls back.
Descriptors: the transport owns its socket. A `Sender` has only the number, never closes it, and is
ended before the socket is closed. System calls are made with Python's lock held: none can block.
Buffers: none. `Frames` keeps frames for as long as one of its members keeps it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)

cdef extern from "sys/socket.h" nogil:
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL

cdef extern from "sys/syscall.h" nogil:
    enum: SYS_sendto

cdef extern from "unistd.h" nogil:
    long syscall(long number, ...)


cdef class Sender:
    """Sends straight to a socket, for as long as its transport has it.

    Calling it with bytes returns how many of them the kernel took, and raises OSError if the
    connection is broken or `end` was called.
    """

    def __init__(self, int descriptor):
        self._descriptor = descriptor

    def end(self):
        """The socket is about to be closed; its descriptor will be another one's."""
        self._descriptor = -1

    def __call__(self, bytes frames not None):
        cdef ssize_t sent = self._send(PyBytes_AS_STRING(frames), PyBytes_GET_SIZE(frames))
        if sent < 0:
            PyErr_SetFromErrno(OSError)
        return sent

    cdef ssize_t _send(self, const char *data, Py_ssize_t size) noexcept:
        """As `send`, but 0 if the kernel takes nothing now."""
        # send(2) of glibc is a cancellation point (pthreads(7)): with threads, that is 40 ns more
        cdef ssize_t sent = syscall(
            SYS_sendto, self._descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, <size_t> 0
        )
        if sent < 0 and (errno == EAGAIN or errno == EINTR):
            return 0
        return sent


cdef class Recipient:
    """A member whose `direct` a group reads as a field of C, past any property of a subclass.

    Attributes:
        direct: a `Sender`, or what can be called like one; None while there is no straight way.
        deflates: whether its frames are compressed (`framing.deflated`); set before it joins.
        events: whether it gets server-sent events, not frames; set before it joins.
        labelled: whether its payloads name their senders; set before it joins.
        keeps_all: whether no newer frame may replace an older one that waits for it.
    """


class Frames(list):
    """Frames with their keys, in their order, for all members that get the same ones."""

    __slots__ = ("settled",)

    def settle(self):
        """What a member keeps that cannot take them now: computed once for all such members.

        Returns:
            The frames without a key, and their bytes; the newest frame of each key; and how many
            frames were replaced by a newer one of their key.
        """
        try:
            return self.settled
        except AttributeError:
            newest = {key: frame for key, frame in self if key is not None}
            rest = [frame for key, frame in self if key is None]
            replaced = len(self) - len(newest) - len(rest)
            self.settled = (rest, sum(map(len, rest)), newest, replaced)
            return self.settled
