# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Raw sockets under a load of poses: sends on a schedule, checks every frame that comes. Compiled.

One loop over epoll, in which nothing of Python runs: a few per cent of a core for what a thousand
messages a second are to two hundred viewers. `bench.raw` opens the sockets and reads the results.

Every pose has the same length, so that a frame is known by its first two bytes and its place:

    {"x":1000042,"y":1003.1415921,"z":1007}

x is 1,000,000 plus the sender's count; y is the time of sending, in seconds plus 1,000, to the
microsecond, with a last 1 that no server shortens away; z is 1,000 plus the number of the sender. A
frame with other bytes around these numbers counts as an error.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum: EPOLLIN, EPOLLOUT, EPOLL_CTL_ADD, EPOLL_CTL_MOD
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_pwait2(int epfd, epoll_event *events, int most, const timespec *timeout, void *mask)

cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, SOCK_STREAM, SOCK_NONBLOCK, MSG_DONTWAIT, MSG_NOSIGNAL
    struct sockaddr:
        pass
    int socket(int domain, int kind, int protocol)
    int connect(int fd, const sockaddr *address, uint32_t size)
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t send(int fd, const void *buffer, size_t size, int flags)

cdef extern from "<netinet/in.h>" nogil:
    enum: INADDR_LOOPBACK
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr
    unsigned short htons(unsigned short value)
    uint32_t htonl(uint32_t value)

cdef extern from "<sys/prctl.h>" nogil:
    enum: PR_SET_TIMERSLACK
    int prctl(int option, unsigned long value)

cdef extern from "<string.h>" nogil:
    void *memmem(const void *hay, size_t size, const void *needle, size_t length)

cdef extern from * nogil:
    int __builtin_clzll(unsigned long long value)

cdef enum:
    PAYLOAD = 39                 # bytes of a pose
    FRAME = 2 + PAYLOAD          # a server's frame has no mask
    MASKED = 6 + PAYLOAD         # a client's has one of 4 bytes (RFC 6455, section 5.3)
    EVENTS = 64                  # at a time, so that nothing that is due waits long
    CONNECTS = 16                # at a time, for the same reason
    READ = 262144                # bytes at a time
    KEPT = 512                   # of an incomplete frame, or of an answer's head
    BUCKETS = 2048 + 29 * 1024   # as bench.histogram has them
    FIRST_X = 1_000_000
    FIRST_Z = 1_000
    VIEWER = -1                  # a member that sends nothing
    NOBODY = -2                  # a member of no group

cdef enum State:
    CONNECTING, ASKED, OPEN, GONE

cpdef enum Until:
    TIME, DELIVERED, ANSWERED

cdef struct Seen:
    # What one member has of one sender: the count it has reached, and which of the last 64 came (the
    # anti-replay window of RFC 4303, section 3.4.3).
    uint64_t next
    uint64_t window

cdef struct Member:
    int fd
    int state
    int group
    int sender                   # its number, or VIEWER, or NOBODY
    int kept
    bint wants_out
    size_t skip                  # bytes that are left of a long frame
    Seen *seen                   # one for each sender of the group
    unsigned char rest[KEPT]

cdef struct Sender:
    int member
    int group
    double due, period           # seconds
    uint64_t count               # poses so far
    uint64_t owed                # due, but the server does not read
    int left                     # bytes of the last frame that the kernel did not take
    unsigned char mask[4]
    unsigned char frame[MASKED]

cdef struct Group:
    int members, first_sender, senders
    uint64_t due, sent           # poses
    uint64_t came, doubled, reordered
    uint64_t expected            # poses that were due within the window
    uint64_t *took               # a histogram of the latencies of these


cdef inline int64_t now_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000 + now.tv_nsec // 1_000


cdef inline int64_t number(const unsigned char *digits, int count) noexcept nogil:
    cdef int64_t value = 0
    cdef int n
    for n in range(count):
        value = 10 * value + (digits[n] - 48)
    return value


cdef inline void write_number(unsigned char *to, int count, int64_t value) noexcept nogil:
    cdef int n
    for n in range(count - 1, -1, -1):
        to[n] = <unsigned char>(48 + value % 10)
        value //= 10


cdef inline int bucket(int64_t took) noexcept nogil:
    cdef int exponent
    if took < 2048:
        return <int>took if took > 0 else 0
    exponent = 63 - __builtin_clzll(<unsigned long long>took)
    if exponent > 39:
        return BUCKETS - 1
    return 2048 + (exponent - 11) * 1024 + <int>((took >> (exponent - 10)) - 1024)


cdef void write_pose(unsigned char *to, uint64_t count, int64_t microseconds, int sender) noexcept nogil:
    memcpy(to, b'{"x":0000000,"y":0000.0000001,"z":0000}', PAYLOAD)
    write_number(to + 5, 7, FIRST_X + <int64_t>count)
    write_number(to + 17, 4, 1_000 + microseconds // 1_000_000)
    write_number(to + 22, 6, microseconds % 1_000_000)
    write_number(to + 34, 4, FIRST_Z + sender)


def pose(count: int, seconds: float, sender: int) -> bytes:
    """The payload of a pose, as `Streams` sends it."""
    cdef unsigned char payload[PAYLOAD]
    write_pose(payload, count, <int64_t>(seconds * 1e6), sender)
    return (<char *>payload)[:PAYLOAD]


cdef class Streams:
    """Connections of which some send poses on a schedule; each of them is read.

    Add the members of the groups, then `run`. What was counted may be read between two runs. A
    server that does not read blocks its senders; their poses stay due, carry the time when they
    were, and go out as soon as it reads again.

    Args:
        groups: how many.
        members: how many, of all groups together.
        comers: how many connections `storm` will make.

    Attributes:
        errors: frames that no member should have got.
        gone: connections that the server ended.
        opened: those of `storm` that were answered with 101.
        refused: those that were answered with something else, or not at all.
        last_opened: seconds from the first of `storm` to the last 101.
        late: the longest time that the generator was late for a pose in the window, in seconds.
    """

    cdef readonly uint64_t errors
    cdef readonly int gone, opened, refused
    cdef Member *_members
    cdef Sender *_senders
    cdef Group *_groups
    cdef int *_heap              # senders by the time when they are due
    cdef int _epoll, _grouped, _joined, _sending
    cdef int _comers, _begun     # of the storm: asked for, and of these connected so far
    cdef bint _ready, _sends
    cdef unsigned char *_buffer
    cdef int64_t _zero, _from, _to, _storm, _last_opened, _late
    cdef sockaddr_in _address
    cdef list _requests
    cdef char **_request
    cdef int *_request_size

    def __cinit__(self, int groups, int members, int comers=0):
        cdef int n
        self._members = <Member *>calloc(members + comers, sizeof(Member))
        self._senders = <Sender *>calloc(members, sizeof(Sender))
        self._heap = <int *>calloc(members, sizeof(int))
        self._groups = <Group *>calloc(groups, sizeof(Group))
        self._request = <char **>calloc(comers + 1, sizeof(char *))
        self._request_size = <int *>calloc(comers + 1, sizeof(int))
        self._buffer = <unsigned char *>calloc(1, KEPT + READ)
        for n in range(groups):
            self._groups[n].took = <uint64_t *>calloc(BUCKETS, sizeof(uint64_t))
        self._grouped = groups
        self._epoll = epoll_create1(0)
        self._from = self._to = -1
        self._zero = now_us()
        self._sends = True
        prctl(PR_SET_TIMERSLACK, 1)  # nanosecond; the usual 50 us would make every pose late

    def __dealloc__(self):
        cdef int n
        for n in range(self._joined + self._begun):
            free(self._members[n].seen)
            if self._members[n].state != GONE:
                close(self._members[n].fd)
        for n in range(self._grouped):
            free(self._groups[n].took)
        free(self._members)
        free(self._senders)
        free(self._heap)
        free(self._groups)
        free(self._request)
        free(self._request_size)
        free(self._buffer)
        close(self._epoll)

    @property
    def last_opened(self):
        return (self._last_opened - self._storm) / 1e6

    @property
    def late(self):
        return self._late / 1e6

    def add(self, int fd, int group, double phase=0, double period=0, mask=b"\x00\x00\x00\x00"):
        """Adds a member, whose descriptor is ours from now on; all of a group's, then the next's.

        Args:
            fd: of a socket on which the handshake is through and nothing was read since.
            group: which of the groups.
            phase: seconds from the first run to its first pose.
            period: seconds between its poses; 0 if it sends none.
            mask: 4 bytes for its frames.
        """
        cdef int n = self._joined
        cdef Member *member = &self._members[n]
        cdef Sender *sender
        cdef int place
        member.fd, member.group, member.state, member.sender = fd, group, OPEN, VIEWER
        self._joined += 1
        self._groups[group].members += 1
        self._watch(n, EPOLLIN, EPOLL_CTL_ADD)
        if period:
            place = self._sending
            sender = &self._senders[place]
            member.sender = place
            sender.member, sender.group = n, group
            sender.due, sender.period = phase * 1e6, period * 1e6
            for index in range(4):
                sender.mask[index] = mask[index]
            if not self._groups[group].senders:
                self._groups[group].first_sender = place
            self._groups[group].senders += 1
            self._heap[place] = place
            self._sending += 1

    def storm(self, int port, list requests):
        """Connects so many clients to 127.0.0.1 while `run` runs, as fast as it can.

        Args:
            port: whom to.
            requests: the head of each one's handshake, as bytes.
        """
        memset(&self._address, 0, sizeof(sockaddr_in))
        self._address.sin_family = AF_INET
        self._address.sin_port = htons(<unsigned short>port)
        self._address.sin_addr.s_addr = htonl(INADDR_LOOPBACK)
        self._requests = requests  # keeps the bytes
        for n, request in enumerate(requests):
            self._request[n] = PyBytes_AS_STRING(request)
            self._request_size[n] = <int>PyBytes_GET_SIZE(request)
        self._comers = len(requests)
        self._storm = self._last_opened = now_us()

    def window(self, double seconds):
        """Latencies are noted of poses that are due from now on, for so many seconds."""
        self._from = now_us() - self._zero
        self._to = self._from + <int64_t>(seconds * 1e6)
        self._late = 0

    def end_window(self):
        """Of later poses none is noted; returns how many seconds the window had."""
        self._to = min(self._to, now_us() - self._zero)
        return (self._to - self._from) / 1e6

    def stop(self):
        """No further pose is due."""
        self._sends = False

    def counts(self, int group):
        """What there is of a group: sent, due, came, doubled, reordered, expected.

        `sent`: poses that went out. `due`: those that had to. `came`: frames of poses that its
        members got, `doubled` and `reordered` of them. `expected`: deliveries of the poses that
        were due within the window.
        """
        cdef Group *g = &self._groups[group]
        return g.sent, g.due, g.came, g.doubled, g.reordered, g.expected * g.members

    def took(self, int group):
        """The histogram of a group's latencies, for `bench.histogram`."""
        return [self._groups[group].took[n] for n in range(BUCKETS)]

    def came(self):
        """Frames of poses that all members got."""
        return sum(self._groups[n].came for n in range(self._grouped))

    def run(self, double seconds, int until=TIME):
        """Sends and reads for so long.

        Args:
            seconds: at most.
            until: DELIVERED ends it once every pose that was due is with every member, ANSWERED once
                all clients of the storm have an answer.

        Raises:
            OSError: epoll does not work here.
        """
        cdef int result
        if not self._ready:
            self._make_ready()
        with nogil:
            result = self._run(now_us() + <int64_t>(seconds * 1e6), until)
        if result < 0:
            raise OSError(-result, "epoll_pwait2")

    cdef _make_ready(self):
        """Everything that takes all members to be known; the schedule begins."""
        cdef int n
        cdef double now = now_us() - self._zero
        cdef Member *member
        for n in range(self._joined):
            member = &self._members[n]
            member.seen = <Seen *>calloc(self._groups[member.group].senders + 1, sizeof(Seen))
        for n in range(self._sending):
            self._senders[n].due += now
        for n in range(self._sending // 2 - 1, -1, -1):
            self._sift(n)
        self._ready = True

    cdef void _watch(self, int n, uint32_t events, int operation) noexcept nogil:
        cdef epoll_event event
        event.events = events
        event.data.u64 = n
        epoll_ctl(self._epoll, operation, self._members[n].fd, &event)

    cdef void _sift(self, int place) noexcept nogil:
        """Moves the sender at a place of the heap down to where it belongs."""
        cdef int own = self._heap[place], child
        cdef double due = self._senders[own].due
        while True:
            child = 2 * place + 1
            if child >= self._sending:
                break
            if (child + 1 < self._sending
                    and self._senders[self._heap[child + 1]].due < self._senders[self._heap[child]].due):
                child += 1
            if self._senders[self._heap[child]].due >= due:
                break
            self._heap[place] = self._heap[child]
            place = child
        self._heap[place] = own

    cdef int _run(self, int64_t end, int until) noexcept nogil:
        cdef epoll_event events[EVENTS]
        cdef timespec wait
        cdef int64_t now, rest
        cdef int found, n
        while True:
            if self._begun < self._comers:
                self._connect_some()
            if self._sends and self._sending:
                self._send_what_is_due()
            now = now_us()
            if now >= end:
                return 0
            if until == DELIVERED and self._delivered():
                return 0
            if until == ANSWERED and self.opened + self.refused == self._comers:
                return 0
            rest = end - now
            if self._sends and self._sending:
                rest = min(rest, <int64_t>self._senders[self._heap[0]].due + self._zero - now)
            if rest < 0 or self._begun < self._comers:
                rest = 0
            wait.tv_sec, wait.tv_nsec = rest // 1_000_000, rest % 1_000_000 * 1_000
            found = epoll_pwait2(self._epoll, events, EVENTS, &wait, NULL)
            if found < 0 and errno != EINTR:
                return -errno
            for n in range(found):
                self._serve(<int>events[n].data.u64, events[n].events)

    cdef bint _delivered(self) noexcept nogil:
        cdef int n
        cdef Group *group
        for n in range(self._grouped):
            group = &self._groups[n]
            if group.came - group.doubled < group.due * group.members:
                return False
        return True

    cdef void _serve(self, int n, uint32_t events) noexcept nogil:
        cdef Member *member = &self._members[n]
        if member.state == CONNECTING:
            self._ask(n)
            return
        if events & EPOLLOUT and member.wants_out:
            self._send_what_is_owed(&self._senders[member.sender])
        if events & ~EPOLLOUT:
            self._read(n)

    # Sending.

    cdef void _send_what_is_due(self) noexcept nogil:
        cdef int64_t now = now_us() - self._zero, due
        cdef int n
        cdef Sender *sender
        while True:
            n = self._heap[0]
            sender = &self._senders[n]
            if sender.due > now:
                return
            due = <int64_t>sender.due
            sender.due += sender.period
            self._groups[sender.group].due += 1
            if self._members[sender.member].state == GONE:
                self._expect(sender, due)
            elif self._members[sender.member].wants_out:
                self._expect(sender, due)
                sender.owed += 1
            else:
                self._late = max(self._late, now - due)
                now = now_us() - self._zero
                self._expect(sender, now)
                if not self._send(sender, n, now):
                    self._members[sender.member].wants_out = True
                    self._watch(sender.member, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD)
            self._sift(0)

    cdef void _expect(self, Sender *sender, int64_t stamp) noexcept nogil:
        if self._from <= stamp < self._to:
            self._groups[sender.group].expected += 1

    cdef bint _send(self, Sender *sender, int n, int64_t stamp) noexcept nogil:
        """One pose; False if the kernel did not take all of it, which is then owed."""
        cdef unsigned char *frame = sender.frame
        cdef int index
        frame[0], frame[1] = 0x81, 0x80 | PAYLOAD
        memcpy(frame + 2, sender.mask, 4)
        write_pose(frame + 6, sender.count, stamp, n)
        for index in range(PAYLOAD):
            frame[6 + index] ^= sender.mask[index & 3]
        sender.count += 1
        self._groups[sender.group].sent += 1
        sender.left = MASKED
        return self._flush(sender)

    cdef bint _flush(self, Sender *sender) noexcept nogil:
        cdef ssize_t taken = send(
            self._members[sender.member].fd, sender.frame + MASKED - sender.left, sender.left,
            MSG_DONTWAIT | MSG_NOSIGNAL,
        )
        if taken > 0:
            sender.left -= taken
        return sender.left == 0

    cdef void _send_what_is_owed(self, Sender *sender) noexcept nogil:
        cdef Member *member = &self._members[sender.member]
        cdef int64_t stamp
        if sender.left and not self._flush(sender):
            return
        while sender.owed:
            stamp = <int64_t>(sender.due - sender.owed * sender.period)
            sender.owed -= 1
            if not self._send(sender, member.sender, stamp):
                return
        member.wants_out = False
        self._watch(sender.member, EPOLLIN, EPOLL_CTL_MOD)

    # Reading.

    cdef void _read(self, int n) noexcept nogil:
        cdef Member *member = &self._members[n]
        cdef unsigned char *data = self._buffer
        cdef ssize_t size
        cdef int64_t now
        cdef size_t rest, used
        memcpy(data, member.rest, member.kept)
        size = recv(member.fd, data + member.kept, READ, MSG_DONTWAIT)
        if size <= 0:
            if size == 0 or (errno != EAGAIN and errno != EINTR):
                self._lose(n)
            return
        now = now_us() - self._zero
        rest = member.kept + size
        member.kept = 0
        if member.state == ASKED:
            used = self._answer(n, data, rest, now)
            if used == 0:
                return
            data, rest = data + used, rest - used
        while rest:
            if member.skip:
                used = min(rest, member.skip)
                member.skip -= used
            elif rest >= FRAME and data[0] == 0x81 and data[1] == PAYLOAD:
                self._check(member, data + 2, now)
                used = FRAME
            else:
                used = self._other(n, data, rest)
                if used == 0:
                    break
            data, rest = data + used, rest - used
        if rest:
            memcpy(member.rest, data, rest)
            member.kept = <int>rest

    cdef void _lose(self, int n) noexcept nogil:
        cdef Member *member = &self._members[n]
        if member.state == ASKED or member.state == CONNECTING:
            self.refused += 1
        else:
            self.gone += 1
        member.state = GONE
        close(member.fd)

    cdef void _check(self, Member *member, const unsigned char *data, int64_t now) noexcept nogil:
        """A frame of a pose: whose it is, whether it was to come now, how long it took."""
        cdef int64_t sender = number(data + 34, 4) - FIRST_Z
        cdef int64_t count = number(data + 5, 7) - FIRST_X
        cdef int64_t stamp = (number(data + 17, 4) - 1_000) * 1_000_000 + number(data + 22, 6)
        cdef Group *group
        cdef Seen *seen
        cdef uint64_t age
        if member.sender == NOBODY:
            self.errors += 1
            return
        group = &self._groups[member.group]
        sender -= group.first_sender
        if (not 0 <= sender < group.senders or count < 0 or data[0] != c'{' or data[38] != c'}'
                or data[12] != c',' or data[28] != c'1'):
            self.errors += 1
            return
        group.came += 1
        seen = &member.seen[sender]
        if <uint64_t>count >= seen.next:
            age = count - seen.next
            seen.window = (seen.window << (age + 1)) | 1 if age < 63 else 1
            seen.next = count + 1
        else:
            age = seen.next - 1 - count
            if age < 64 and not seen.window >> age & 1:
                seen.window |= <uint64_t>1 << age
                group.reordered += 1
            else:  # what is older than 64 may have been late instead; this is the worse of the two
                group.doubled += 1
                return
        if self._from <= stamp < self._to:
            group.took[bucket(now - stamp)] += 1

    cdef size_t _other(self, int n, unsigned char *data, size_t size) noexcept nogil:
        """Another frame, or the beginning of one: the bytes that are done with, or 0 to wait."""
        cdef Member *member = &self._members[n]
        cdef size_t head = 2, length
        cdef int index
        cdef unsigned char pong[6 + 125]
        if size < 2:
            return 0
        length = data[1] & 0x7F
        if length > 125:
            head = 4 if length == 126 else 10
            if size < head:
                return 0
            length = 0
            for index in range(2, <int>head):
                length = length << 8 | data[index]
        elif size < head + length:
            return 0
        if data[0] == 0x89:
            pong[0], pong[1] = 0x8A, 0x80 | <unsigned char>length
            memset(pong + 2, 0, 4)
            memcpy(pong + 6, data + 2, length)
            send(member.fd, pong, 6 + length, MSG_DONTWAIT | MSG_NOSIGNAL)
        elif data[0] & 0x0F < 8:
            self.errors += 1
        member.skip = head + length
        head = min(size, member.skip)
        member.skip -= head
        return head

    # The storm.

    cdef void _connect_some(self) noexcept nogil:
        cdef int left = CONNECTS, n, fd
        while left and self._begun < self._comers:
            n = self._joined + self._begun
            self._begun += 1
            left -= 1
            fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
            self._members[n].fd = fd
            self._members[n].sender = NOBODY
            self._members[n].state = CONNECTING
            if connect(fd, <sockaddr *>&self._address, sizeof(sockaddr_in)) == 0 or errno == EINPROGRESS:
                self._watch(n, EPOLLOUT, EPOLL_CTL_ADD)
            else:
                self._lose(n)

    cdef void _ask(self, int n) noexcept nogil:
        """The connection stands, or failed: the request, which always fits into an empty buffer."""
        cdef Member *member = &self._members[n]
        cdef int place = n - self._joined
        cdef ssize_t size = self._request_size[place]
        if send(member.fd, self._request[place], size, MSG_DONTWAIT | MSG_NOSIGNAL) != size:
            self._lose(n)
            return
        member.state = ASKED
        self._watch(n, EPOLLIN, EPOLL_CTL_MOD)

    cdef size_t _answer(self, int n, unsigned char *data, size_t size, int64_t now) noexcept nogil:
        """The head of the server's answer: its length, or 0 if it is not all there or not a 101."""
        cdef Member *member = &self._members[n]
        cdef unsigned char *end = <unsigned char *>memmem(data, size, b"\r\n\r\n", 4)
        if end == NULL and size <= KEPT:
            memcpy(member.rest, data, size)
            member.kept = <int>size
            return 0
        if end == NULL or memcmp(data, b"HTTP/1.1 101", 12) != 0:
            self._lose(n)
            return 0
        member.state = OPEN
        self.opened += 1
        self._last_opened = now + self._zero
        return end + 4 - data
