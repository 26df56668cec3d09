from relayd.native.holding cimport Holding
from relayd.native.sending cimport Recipient


cdef class Place:
    cdef object member
    cdef Recipient recipient  # the member, if it is one
    cdef long long mark  # the number of a frame before which it has got all
    cdef bint left  # whether it has left the group; a batch that is being sent may still have it


cdef class Deliveries:
    cdef object observe, label, event
    cdef readonly long long delivered, batches
    cdef readonly double rate


cdef class Group(Holding):
    cdef readonly dict members
    cdef Deliveries _deliveries
    cdef bint _compresses, _labels, _events  # whether it is one within another, for such members
    cdef list _parts  # the groups within it, with members each; never changed; None without any
    cdef list _items  # not yet sent to everyone
    cdef long long _first  # the number of the first of them; all are counted
    cdef list _round  # the places of those that get the batch that is being sent
    cdef Py_ssize_t _next  # of them
    cdef long long _reach  # number up to which all of them get frames in this batch
    cdef double _arrived  # when the first frame came that is not of the batch that is being sent
    cdef double _spent  # seconds that the batch that is being sent has taken so far
    cdef unsigned int _at_once  # frames that were served at once
    cdef long long _frame_cost  # of the last batch: ns for each of its frames
    # what was joined last
    cdef long long _from, _to
    cdef object _joined_items
    cdef bytes _joined

    cpdef Py_ssize_t fan_out(self, object key, bytes payload) except -1
    cdef Group _part_for(self, Recipient recipient)
    cdef Py_ssize_t _accept(self, object key, bytes frame) except -1
    cdef int _begin_round(self) except -1
    cdef int _serve_some(self) except -1
    cdef int _serve_turn(self) except -1
    cdef int _catch_up(self, Place place) except -1
    cdef int _serve_at_once(self, object key, bytes frame, double began) except -1
    cdef int _send(self, Place place, object items, bytes frames) except -1


cdef class Publisher:
    cdef Group _group
    cdef object _key
