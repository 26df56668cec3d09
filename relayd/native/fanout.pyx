# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Frames a message once and sends it to every member of a group.

Sits under `hub`, which says who is in which group. The members send through `sending`. `batching` says when a group is served; this module joins the frames of a batch and
sends them. A member handles whatever is unusual: a socket that takes only a part, or is broken.

A group that has a batch's worth of bytes waiting holds the connections that send to it until the
batch is sent; so does a group that gets more than its rate (`holding`).

Re-entry: a member's `direct`, `write_items`, `interrupted` and `broken` may call any group, also
the one that is serving: `add`, `remove`, `cancel`, `fan_out`, and `catch_up` of a member that
leaves. While a group serves its members, `fan_out` keeps the frame for the next batch.
Descriptors: none; a `sending.Sender` has the number of a socket.
Buffers: a group keeps a frame until its batch has reached the last member, and the joined frames of
a batch until then or until a member needs others. A member that could not send everything gets the
whole bytes object and may keep it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from relayd.logs import Logger
from relayd.native.sending import Frames
from relayd.native.batching cimport Batching
from relayd.native.framing cimport deflated, text_frame
from relayd.native.holding cimport FULL, Holding
from relayd.native.sending cimport Recipient, Sender
from relayd.native.source cimport Source, being_read

cdef enum:
    TURN = 64  # members that get a batch before others have their turn
    GLANCE = 8  # members that get a batch between two looks at the clock
    MOST = 1048576  # bytes that wait when a group is served in the call of whoever cannot be held
    SAMPLE = 16  # of a group's frames that are served at once, one in so many is timed

cdef double LONGEST_TURN = 0.002  # seconds of serving a batch before others have their turn

_log = Logger(namespace="relayd.hub")


cdef class Place:
    """The place of a member in a group."""


cdef class Deliveries:
    """How much was served, and how quickly, by all groups of a hub.

    Args:
        latency: counts seconds (`tally.Buckets`).
        rate: messages a second that a group takes from connections; 0 for no limit.
        label: puts the name of the sender into a payload, given the key and the payload.
        event: makes a server-sent event of a payload.

    Attributes:
        delivered: frames handed to members so far, counted once for each member.
        batches: how often a group was served.
    """

    def __init__(self, object latency, double rate=0, object label=None, object event=None):
        self.observe = latency.observe
        self.label = label
        self.event = event
        self.rate = rate


cdef class Group(Holding):
    """The members of a group, and the frames that wait for its next batch.

    A batch goes to `TURN` members in one turn, one call, or to as many as `LONGEST_TURN` suffices
    for. What is read between two turns is sent along to those that come later, so nobody waits for
    the others to be served.

    While `FULL` bytes wait, the group holds every connection that sends to it. Publishers that
    cannot be held (the store, Redis, the HTTP API) serve the group themselves when `MOST` wait.

    Args:
        batching: the clock, the bound and the load.
        deliveries: counts; has the rate of each group.

    Attributes:
        members: `hub.Member`s in the order in which they came, each with its place. Those that get
            other frames than most are in groups of their own within this one (`_part_for`).
    """

    def __init__(self, Batching batching not None, Deliveries deliveries not None):
        Holding.__init__(self, batching, deliveries.rate)
        self.members = {}
        self._deliveries = deliveries
        self._items = []
        self._arrived = 0

    cpdef Py_ssize_t fan_out(self, object key, bytes payload) except -1:
        """Sends a payload, framed once: at once while the loop has time, else with a batch.

        Args:
            key: whose newest state this is, if older ones need not reach a member that reads
                slowly; None if each must.
            payload: JSON.

        Returns:
            How many members it goes to.
        """
        cdef bytes frame = text_frame(payload)
        cdef Py_ssize_t count = 0
        cdef Group part
        if self._parts is None:
            return self._accept(key, frame)
        for part in self._parts:
            if part._compresses:
                count += part._accept(key, deflated(frame))
            elif part._events:
                count += part._accept(key, self._deliveries.event(payload))
            else:
                count += part.fan_out(key, self._deliveries.label(key, payload))
        return count + self._accept(key, frame) if self.members else count

    cdef Py_ssize_t _accept(self, object key, bytes frame) except -1:
        """Serves the members with a frame: at once, or with the next batch."""
        cdef double now = 0
        cdef Source source
        self._allowed -= 1
        if self._allowed < 0 and self._rate > 0:
            self._over_rate()
        if self._serves_at_once(&now):
            if len(self.members) <= TURN or self._batching.coalesce == 0:
                self._serve_at_once(key, frame, now)
            else:
                self._items.append((key, frame))
                self._size += PyBytes_GET_SIZE(frame)
                self._began = now
                self._begin_round()
                self._serve_turn()
            return len(self.members)
        if self._round is not None and self._first + len(self._items) == self._reach:
            self._arrived = self._batching.seconds()
        self._items.append((key, frame))
        self._size += PyBytes_GET_SIZE(frame)
        source = being_read()
        if source is not None:
            source._owed += self._frame_cost
            if self._size >= FULL:
                self._hold(source)
        elif self._size >= MOST and not self._serving:
            self._cancel()
            self._begin_round()
            while self._round is not None:
                self._serve_some()
        return len(self.members)

    def add(self, object member):
        """A member gets what is sent from now on. No effect if it is in the group."""
        cdef Place place
        cdef Recipient recipient = member if isinstance(member, Recipient) else None
        cdef Group part = None if recipient is None else self._part_for(recipient)
        if part is not None:
            part.add(member)
            return
        if member in self.members:
            return
        place = Place()
        place.member = member
        place.recipient = recipient
        place.mark = self._first + <long long> len(self._items)
        self.members[member] = place

    cdef Group _part_for(self, Recipient recipient):
        """The group within this one for members that get such frames; None if they are usual."""
        cdef Group part
        cdef bint labels = recipient.labelled and not self._labels
        cdef bint compresses = recipient.deflates and not self._compresses and not labels
        cdef bint events = recipient.events and not self._events and not labels
        if not (labels or compresses or events):
            return None
        for part in self._parts or ():
            if part._compresses == compresses and part._events == events:
                return part
        part = Group(self._batching, self._deliveries)
        part._labels, part._compresses, part._events = labels or self._labels, compresses, events
        self._parts = [*(self._parts or ()), part]
        return part

    def remove(self, object member):
        """A member gets nothing more. No effect if it is not in the group."""
        place = self.members.pop(member, None)
        if place is not None:
            (<Place> place).left = True
        elif self._parts is not None:
            for part in self._parts:
                part.remove(member)
                if not part.size():
                    part.cancel()
            self._parts = [part for part in self._parts if part.size()] or None

    def catch_up(self, object member):
        """Sends a member what waits for the next batch, now. No effect on who is no member."""
        place = self.members.get(member)
        if place is not None:
            self._catch_up(<Place> place)
        for part in self._parts or ():
            part.catch_up(member)

    def cancel(self):
        """Cancels the next batch, or the next turn of the current one: the group has ended."""
        for part in self._parts or ():
            part.cancel()
        self._cancel()
        self._size = 0
        self._let_all_go()

    def has(self, object member):
        """Whether it is in the group."""
        return member in self.members or any([part.has(member) for part in self._parts or ()])

    def size(self):
        """The number of members."""
        return len(self.members) + sum([part.size() for part in self._parts or ()])

    def due(self):
        """The next batch is due, or the next turn of the one that is being sent."""
        self._call = None
        if self._round is None:
            self._begin_round()
        self._serve_turn()

    cdef int _serve_turn(self) except -1:
        """Serves the next members of the batch; those after them are served in the next turn."""
        self._serve_some()
        if self._round is not None and self.members:
            self._go_on()
        return 0

    cdef int _begin_round(self) except -1:
        """Begins a batch: those who are members now get what waits now."""
        self._deliveries.batches += 1
        if self._round is None:
            self._spent = 0
        # a copy: a member that is too slow leaves the group while it is served
        self._round = list(self.members.values())
        self._next = 0
        self._reach = self._first + len(self._items)
        return 0

    cdef int _serve_some(self) except -1:
        """Serves the next members of the batch; ends it after the last."""
        cdef Py_ssize_t end = min(self._next + TURN, len(self._round)), n
        cdef double began = self._batching.seconds(), now
        self._serving = True
        try:
            while self._next < end:
                self._next += 1
                self._catch_up(<Place> self._round[self._next - 1])
                if self._next % GLANCE == 0 and self._batching.seconds() - began >= LONGEST_TURN:
                    break
        finally:
            self._serving = False
        now = self._batching.seconds()
        self._spent += now - began
        if self._next < len(self._round):
            return 0
        self._round = self._joined_items = self._joined = None
        self._to = 0
        for n in range(self._reach - self._first):
            self._size -= PyBytes_GET_SIZE(<bytes> (<tuple> self._items[n])[1])
        if self._reach > self._first:
            self._frame_cost = <long long> (self._spent * 1e9 / (self._reach - self._first))
        del self._items[:self._reach - self._first]
        self._first = self._reach
        self._deliveries.observe(now - self._began)
        self._served(self._spent, now)
        if self._items and self.members:
            # they came meanwhile, and some members have got them
            self._wait(self._arrived, now)
        if self._held is not None:
            self._let_go()
        return 0

    cdef int _catch_up(self, Place place) except -1:
        """Sends a member all frames that are kept and that it has not got."""
        cdef long long mark, end = self._first + len(self._items)
        mark = max(self._first, place.mark)
        if place.left or mark >= end:
            return 0
        place.mark = end
        if self._from != mark or self._to != end:
            self._from, self._to = mark, end
            self._joined_items = Frames(self._items[mark - self._first:])
            self._joined = b"".join([frame for _, frame in self._joined_items])
        self._deliveries.delivered += end - mark
        return self._send(place, self._joined_items, self._joined)

    cdef int _serve_at_once(self, object key, bytes frame, double began) except -1:
        """Sends one frame to everyone in one turn. What that took is measured, or known well."""
        cdef tuple items = ((key, frame),)
        cdef bint timed
        cdef double now
        self._deliveries.batches += 1
        self._deliveries.delivered += len(self.members)
        self._serving = True
        try:
            for place in list(self.members.values()):  # a copy, as in `_begin_round`
                if not (<Place> place).left:
                    self._send(<Place> place, items, frame)
        finally:
            self._serving = False
        # its own frames, for of groups that are served in turn, one in 16 may always be the same's
        timed = self._at_once % SAMPLE == 0
        self._at_once += 1
        if timed or self._coarse():
            now = self._batching.seconds()
            if timed:
                self._deliveries.observe(now - began)
            self._served(now - began, now)
        else:
            now = self._ended = began
            self._batching.charge(self._cost, now)
        if self._items and self.members and self._call is None:
            # a member caused them while it was served
            self._wait(now, now)
        return 0

    cdef int _send(self, Place place, object items, bytes frames) except -1:
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
            # only this member loses the frame: the remaining members are served
            _log.failure("serving a member of a group failed")
        return 0


cdef class Publisher:
    """`Group.fan_out` of one group, with one key, for one of its members."""

    def __init__(self, Group group not None, object key):
        self._group = group
        self._key = key

    def __call__(self, bytes payload not None):
        return self._group.fan_out(self._key, payload)
