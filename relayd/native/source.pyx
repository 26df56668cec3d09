# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""A connection as the cause of work: the time it owes to others, and whether it is held.

Sits under `inlet`, whose connections are sources, under `reading`, which reads the sources that owe
much after all others, and under `fanout`, whose groups hold the senders of what they cannot send
yet. docs/decisions/0009-fair-turns.md has the reasons.

Re-entry: `held` and `released` may call whatever a transport's `pauseProducing` and
`resumeProducing` may; they must not read.
Descriptors: none.
Buffers: none. The source that is being read is kept until the next one is.
"""

cdef enum:
    OWED = 2_000_000  # ns; a source that owes more is read after the others
    MOST_OWED = 200_000_000  # ns; so that whoever behaves is forgiven within some seconds
    FORGIVEN = 64  # of so many ns that pass, one of what is owed is forgiven

cdef Source _being_read = None


cdef class Source:
    """What causes work for the loop. It owes the loop's time that was spent on it.

    A subclass stops reading in `stop` and reads on in `go_on`.

    Attributes:
        holds: how many groups hold it; it is not read meanwhile.
    """

    cdef int charge(self, long long spent, long long now) except -1:
        """The loop spent `spent` ns on it, until `now`."""
        self.owes(now)
        self._owed = min(self._owed + spent, MOST_OWED)
        return 0

    cdef bint owes(self, long long now) noexcept:
        """Whether it owes so much that others are read first."""
        if self._owed:
            self._owed = max(self._owed - (now - self._at) // FORGIVEN, 0)
        self._at = now
        return self._owed > OWED

    cdef int hold(self) except -1:
        """A group holds it from now on."""
        self.holds += 1
        if self.holds == 1:
            self.stop()
        return 0

    cdef int let_go(self) except -1:
        """A group that held it holds it no more."""
        self.holds -= 1
        if self.holds == 0:
            self.go_on()
        return 0

    def stop(self):
        """A group holds it: nothing more is read."""

    def go_on(self):
        """No group holds it any more."""


cdef Source being_read():
    """The source whose bytes are being parsed; None while other work is done."""
    return _being_read


cdef int begin_reading(Source source) except -1:
    """The bytes of a source are parsed from now on; None: they have been."""
    global _being_read
    _being_read = source
    return 0
