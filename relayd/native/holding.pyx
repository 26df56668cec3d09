# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""A receiver that holds the connections that send to it, while it has too much.

Sits under `fanout`, whose groups are such receivers. A connection that is held is not read. One is
held for either of two reasons: `FULL` bytes wait for the next batch of the receiver; or more
messages came than its rate allows, of which two seconds' worth may come at once.

Re-entry: `hold` and `let_go` of a source may stop and begin its reading; they call no receiver.
Descriptors: none.
Buffers: none; it keeps the sources that it holds.
"""

from relayd.native.batching cimport Batched, Batching
from relayd.native.source cimport Source, being_read

cdef double REFILL = 0.02  # seconds that senders beyond the rate of their group wait at least
cdef double BURST = 2  # seconds' worth of a group's rate that may come at once


cdef class Holding(Batched):
    """A receiver, whose subclass counts the messages and bytes that come, and sends them.

    Args:
        batching: the clock, the bound and the load.
        rate: messages a second that may come from connections; 0 for no limit.
    """

    def __init__(self, Batching batching not None, double rate):
        Batched.__init__(self, batching)
        self._rate = rate
        self._allowed = <long long> (BURST * rate)
        self._allowed_at = batching.seconds()

    cdef int _hold(self, Source source) except -1:
        """Has nothing more read from a sender until the group has sent what waits."""
        if self._held is None:
            self._held = []
        for held in self._held:
            if held is source:
                return 0
        self._held.append(source)
        source.hold()
        return 0

    cdef int _let_go(self) except -1:
        """Lets the senders go on, unless too much waits or came."""
        if self._held is None or self._size >= FULL or self._refill is not None:
            return 0
        held, self._held = self._held, None
        for source in held:
            (<Source> source).let_go()
        return 0

    cdef int _over_rate(self) except -1:
        """Lets as many messages come as time has passed for; holds the sender if that is none."""
        cdef double now = self._batching.seconds(), rate = self._rate
        cdef Source source = being_read()
        cdef long long tokens = <long long> min((now - self._allowed_at) * rate, BURST * rate)
        if tokens > 0:
            self._allowed = min(self._allowed + tokens, <long long> (BURST * rate))
            self._allowed_at = now
        if self._allowed < 0 and source is not None:
            self._hold(source)
            if self._refill is None:
                self._refill = self._batching.call_later(
                    max(-self._allowed / rate, REFILL), self.refilled
                )
        return 0

    def refilled(self):
        """Some time has passed since more came than the rate of the group."""
        self._refill = None
        self._let_go()

    cdef int _let_all_go(self) except -1:
        """Lets all senders go on, for good."""
        refill, self._refill = self._refill, None
        if refill is not None and refill.active():
            refill.cancel()
        return self._let_go()
