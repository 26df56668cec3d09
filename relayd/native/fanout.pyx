# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Frames a message, and sends it to every member of a group.

Sits under `hub`, which says who is in which group, and under `outbox`, whose connections have a
`Sender`. Everything that is unusual is handed to them: a socket that takes only a part, a pose that
is wrong. System calls are made with Python's lock held, for none of them can block.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from relayd.logs import Logger

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object kind)

cdef extern from "sys/socket.h" nogil:
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL

cdef extern from "sys/syscall.h" nogil:
    enum: SYS_sendto

cdef extern from "unistd.h" nogil:
    long syscall(long number, ...)

cdef enum:
    FULL = 65536  # bytes of a batch that is sent without waiting for more
    TURN = 64  # members that get a batch before others have their turn
    SAMPLE = 16  # of frames that are served at once, one in so many is timed

_log = Logger(namespace="relayd.hub")


cdef class Sender:
    """Sends straight to a socket, for as long as its transport has it.

    Calling it with bytes returns how many of them the kernel took, and raises OSError if the
    connection is broken or `end` was called.
    """

    cdef int _descriptor

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
    """

    cdef public object direct


cdef class _Place:
    """What a member has in a group.

    Attributes:
        member: who.
        recipient: the member if it is a `Recipient`, else None.
        mark: the number of a frame before which it has got all.
        left: whether it has left the group; a batch that is being sent may still have its place.
    """

    cdef object member
    cdef Recipient recipient
    cdef long long mark
    cdef bint left


cdef class Batching:
    """When groups are served, and how much was: what all groups of a hub have in common.

    Args:
        clock: `hub.Timing`.
        coalesce: seconds a frame may wait for others in a busy group; 0 to serve each at once.
        latency: counts seconds (`tally.Buckets`).

    Attributes:
        delivered: frames handed to members so far, counted once for each member.
        batches: how often a group was served.
    """

    cdef object _seconds, _call_later, _observe
    cdef double _coalesce
    cdef readonly long long delivered, batches

    def __init__(self, object clock, double coalesce, object latency):
        self._seconds = clock.seconds
        self._call_later = clock.callLater
        self._coalesce = coalesce
        self._observe = latency.observe


cdef class Group:
    """The members of a group, and the frames that wait for its next batch.

    A batch goes to `TURN` members in one turn, one call. What is read between two turns is sent
    along to those that come later, so nobody waits for the others to be served.

    Attributes:
        members: `hub.Member`s in the order in which they came, each with its place.
    """

    cdef readonly dict members
    cdef Batching _batching
    cdef object _call  # the `hub.Call` of the next batch, or of the next turn of this one
    cdef list _items  # not yet sent to everyone
    cdef long long _first  # the number of the first of them; all are counted
    cdef Py_ssize_t _size  # of all of them, bytes
    cdef list _round  # the places of those that get the batch that is being sent
    cdef Py_ssize_t _next  # of them
    cdef long long _reach  # number up to which all of them get frames in this batch
    cdef bint _serving
    cdef double _began, _served
    cdef double _arrived  # when the first frame came that is not of the batch that is being sent
    # what was joined last
    cdef long long _from, _to
    cdef object _joined_items
    cdef bytes _joined

    def __init__(self, Batching batching not None):
        self.members = {}
        self._batching = batching
        self._items = []
        self._began = self._arrived = 0
        self._served = float("-inf")

    cpdef Py_ssize_t fan_out(self, object key, bytes payload) except -1:
        """Sends a payload, framed once: at once if the group is quiet, else with its next batch.

        Args:
            key: whose newest state this is, if older ones need not reach a member that reads
                slowly; None if each must.
            payload: JSON.

        Returns:
            How many members it goes to.
        """
        cdef bytes frame = text_frame(payload)
        cdef Batching batching = self._batching
        cdef double now
        if self._call is None and not self._serving:
            now = batching._seconds()
            if now - self._served >= batching._coalesce:
                self._served = now
                self._serve_at_once(key, frame)
                if batching.batches % SAMPLE == 0:
                    batching._observe(<double> batching._seconds() - now)
                return len(self.members)
            self._began = now
            self._call = batching._call_later(batching._coalesce, self._turn)
        elif self._round is not None and self._first + len(self._items) == self._reach:
            self._arrived = batching._seconds()
        self._items.append((key, frame))
        self._size += PyBytes_GET_SIZE(frame)
        if self._size >= FULL and not self._serving:
            self.cancel()
            self._begin()
            while self._round is not None:
                self._serve_some()
        return len(self.members)

    def add(self, object member):
        """A member gets what is sent from now on. No effect if it is in the group."""
        cdef _Place place
        if member in self.members:
            return
        place = _Place()
        place.member = member
        if isinstance(member, Recipient):
            place.recipient = member
        place.mark = self._first + <long long> len(self._items)
        self.members[member] = place

    def remove(self, object member):
        """A member gets nothing more. No effect if it is not in the group."""
        place = self.members.pop(member, None)
        if place is not None:
            (<_Place> place).left = True

    def catch_up(self, object member):
        """Sends a member what waits for the next batch, now. No effect on who is no member."""
        place = self.members.get(member)
        if place is not None:
            self._catch_up(<_Place> place)

    def cancel(self):
        """Calls off the next batch, or the next turn of this one."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _turn(self):
        """The next batch is due, or the next turn of the one that is being sent."""
        self._call = None
        if self._round is None:
            self._begin()
        self._serve_some()
        if self._round is not None and self.members:
            self._call = self._batching._call_later(0, self._turn)

    cdef int _begin(self) except -1:
        """Begins a batch."""
        self._batching.batches += 1
        self._served = self._batching._seconds()
        # a copy: a member that is too slow leaves the group while it is served
        self._round = list(self.members.values())
        self._next = 0
        self._reach = self._first + len(self._items)
        return 0

    cdef int _serve_some(self) except -1:
        """Serves the next members of the batch; ends it after the last."""
        cdef Py_ssize_t end = min(self._next + TURN, len(self._round)), n
        self._serving = True
        try:
            while self._next < end:
                self._next += 1
                self._catch_up(<_Place> self._round[self._next - 1])
        finally:
            self._serving = False
        if end < len(self._round):
            return 0
        self._round = self._joined_items = self._joined = None
        self._to = 0
        for n in range(self._reach - self._first):
            self._size -= PyBytes_GET_SIZE(<bytes> (<tuple> self._items[n])[1])
        del self._items[:self._reach - self._first]
        self._first = self._reach
        self._batching._observe(<double> self._batching._seconds() - self._began)
        if self._items and self.members:
            # they came meanwhile, and some members have got them
            self._began = self._arrived
            self._call = self._batching._call_later(self._batching._coalesce, self._turn)
        return 0

    cdef int _catch_up(self, _Place place) except -1:
        """Sends a member all frames that are kept and that it has not got."""
        cdef long long mark, end = self._first + len(self._items)
        mark = max(self._first, place.mark)
        if place.left or mark >= end:
            return 0
        place.mark = end
        if self._from != mark or self._to != end:
            self._from, self._to = mark, end
            self._joined_items = self._items[mark - self._first:]
            self._joined = b"".join([frame for _, frame in self._joined_items])
        self._batching.delivered += end - mark
        return self._send(place, self._joined_items, self._joined)

    cdef int _serve_at_once(self, object key, bytes frame) except -1:
        """Sends one frame to everyone."""
        cdef tuple items = ((key, frame),)
        self._batching.batches += 1
        self._batching.delivered += len(self.members)
        for place in list(self.members.values()):  # a copy, as in `_begin`
            self._send(<_Place> place, items, frame)
        return 0

    cdef int _send(self, _Place place, object items, bytes frames) except -1:
        """Sends whole frames, straight to the member's socket where it has a `direct`."""
        cdef ssize_t sent
        cdef object member = place.member, direct
        try:
            direct = member.direct if place.recipient is None else place.recipient.direct
            if type(direct) is Sender:
                sent = (<Sender> direct)._send(PyBytes_AS_STRING(frames), PyBytes_GET_SIZE(frames))
            elif direct is None:
                member.write_items(items, frames)
                return 0
            else:
                try:
                    sent = direct(frames)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    sent = -1
            if sent < 0:
                member.broken()
            elif sent < PyBytes_GET_SIZE(frames):
                member.interrupted(frames, sent)
        except Exception:
            # it is its own loss only: the others have their turn
            _log.failure("serving a member of a group failed")
        return 0


cdef class Publisher:
    """`Group.fan_out` of one group, with one key, for one of its members."""

    cdef Group _group
    cdef object _key

    def __init__(self, Group group not None, object key):
        self._group = group
        self._key = key

    def __call__(self, bytes payload not None):
        return self._group.fan_out(self._key, payload)


cdef class Passage:
    """Where the short frames of a connection go whose messages are only checked and passed on.

    Args:
        decode: bytes to a message; raises if they are none.
        encode: that message to bytes.
        publish: takes them.
        otherwise: takes what could not be decoded, as an inlet's `take` does.
    """

    cdef object _decode, _encode, _publish, _otherwise

    def __init__(self, object decode, object encode, object publish, object otherwise):
        self._decode = decode
        self._encode = encode
        self._publish = publish
        self._otherwise = otherwise

    def __call__(self, bytes payload, bint is_binary):
        try:
            message = self._decode(payload)
        except Exception:
            self._otherwise(payload, is_binary)
            return
        encoded = self._encode(message)
        if type(self._publish) is Publisher:
            (<Publisher> self._publish)._group.fan_out((<Publisher> self._publish)._key, encoded)
        else:
            self._publish(encoded)


cpdef bytes text_frame(bytes payload):
    """One complete unmasked text frame (RFC 6455 section 5.2: FIN, opcode 1)."""
    if payload is None:  # which Cython lets in as bytes
        raise TypeError("a payload is bytes, not None")
    cdef Py_ssize_t length = PyBytes_GET_SIZE(payload), head, n
    cdef bytes frame
    cdef unsigned char *to
    if length < 126:
        head = 2
    elif length < 65536:
        head = 4
    else:
        head = 10
    frame = PyBytes_FromStringAndSize(NULL, head + length)
    to = <unsigned char *> PyBytes_AS_STRING(frame)
    to[0] = 0x81
    to[1] = length if head == 2 else 126 if head == 4 else 127
    for n in range(2, head):
        to[n] = (<uint64_t> length >> (8 * (head - 1 - n))) & 0xFF
    memcpy(to + head, PyBytes_AS_STRING(payload), length)
    return frame
