# cython: language_level=3
"""What every client of the load generator does for every frame, compiled: it counts it.

In Python this took two thirds of the generator's time, and its slowness was measured as the servers'.
"""

from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport


cdef class Counter(WSListener):
    """A listener that counts text frames.

    Attributes:
        count: of them, so far.
    """

    cdef public long long count

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        """One more."""
        if frame.msg_type == WSMsgType.TEXT:
            self.count += 1
