"""Frames pending for one connection: written directly to a socket, or through a transport."""

import errno
import socket
from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet import reactor, tcp
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater

from relayd.drops import DropReason, Drops
from relayd.sockets.outbox import BufferedOutbox, Item, Outbox, SocketOutbox, build_outbox
from tests.unit.fakes import BUFFER, FakeObserver, Transport, failure, has_fired, success

LIMIT = 1000
HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Kernel:
    """The socket of a `tcp.Connection`, with room for so many bytes; None for any number."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.error: OSError | None = None
        self.taken = b""

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        if self.room is None:
            self.taken += data
            return len(data)
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "no room")
        part = bytes(data[: self.room])
        self.taken += part
        self.room -= len(part)
        return len(part)

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return 99


class Reactor:
    """Who wants to write, and what is to be called soon."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()
        self.calls: list[Callable[..., Any]] = []

    def removeReader(self, reader: Any) -> None:  # noqa: N802
        """Nobody reads here."""

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> None:  # noqa: N802
        self.calls.append(call)

    def addWriter(self, writer: Any) -> None:  # noqa: N802
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:  # noqa: N802
        self.writers.discard(writer)


class Box:
    """An outbox, what its peer has read, and how often it overflowed."""

    outbox: Outbox
    name: ClassVar[str]

    def __init__(self, limit: int, then: Callable[[], None]) -> None:
        self.overflows = 0
        self.drops = Drops()
        self.limit = limit
        self._then = then

    def overflowed(self) -> None:
        self.overflows += 1
        # the outbox is empty by now
        assert self.outbox.waiting == 0
        self._then()

    @property
    def arrived(self) -> bytes:
        """What the peer has read."""
        raise NotImplementedError

    @property
    def handed(self) -> bytes:
        """What has left the outbox."""
        raise NotImplementedError

    def write_past(self, data: bytes) -> None:
        """Writes to the transport, behind what the outbox handed to it."""
        raise NotImplementedError

    def read_some(self) -> None:
        """The peer reads what has left the outbox now, and then no more."""
        raise NotImplementedError

    def read(self) -> None:
        """The peer reads everything, and goes on reading."""
        raise NotImplementedError


class SocketBox(Box):
    """On Twisted's own `tcp.Connection` over a socket in memory."""

    name = "socket"

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        peer_reads: bool = True,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(limit, then)
        self.kernel = Kernel()
        self.reactor = Reactor()
        self.transport: Any = tcp.Connection(
            self.kernel,  # type: ignore[arg-type]
            Protocol(),
            self.reactor,  # type: ignore[arg-type]
        )
        self.transport.connected = 1
        self.transport.write(HANDSHAKE)
        self.outbox = build_outbox(self.transport, limit, self.overflowed, self.drops)
        assert type(self.outbox) is SocketOutbox
        self.turn()
        if not peer_reads:
            self.kernel.room = 0

    def turn(self) -> None:
        """The reactor writes while the kernel has room."""
        while self.transport in self.reactor.writers and self.kernel.room != 0:
            assert self.transport.doWrite() is None

    def allow(self, size: int) -> None:
        """The kernel takes so many bytes more."""
        assert self.kernel.room is not None
        self.kernel.room += size
        self.turn()

    @property
    def arrived(self) -> bytes:
        assert self.kernel.taken.startswith(HANDSHAKE)
        return self.kernel.taken[len(HANDSHAKE) :]

    @property
    def _buffered(self) -> bytes:
        transport = self.transport
        return b"".join([transport.dataBuffer[transport.offset :], *transport._tempDataBuffer])

    @property
    def handed(self) -> bytes:
        return self.arrived + self._buffered

    def write_past(self, data: bytes) -> None:
        self.transport.write(data)

    def read_some(self) -> None:
        self.allow(len(self._buffered))

    def read(self) -> None:
        self.kernel.room = None
        self.turn()


class BufferedBox(Box):
    """On a transport that pauses as TCP and TLS do."""

    name = "buffered"

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        peer_reads: bool = True,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(limit, then)
        self.transport = Transport(Clock(), peer_reads=peer_reads)
        self.outbox = build_outbox(self.transport, limit, self.overflowed, self.drops)
        assert type(self.outbox) is BufferedOutbox

    @property
    def arrived(self) -> bytes:
        return self.transport.arrived

    @property
    def handed(self) -> bytes:
        return self.transport.arrived + self.transport._waiting

    def write_past(self, data: bytes) -> None:
        self.transport.write(data)

    def read_some(self) -> None:
        self.transport.read_some()

    def read(self) -> None:
        self.transport.read()


KINDS: list[type[Any]] = [SocketBox, BufferedBox]
both = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def fill(box: Box) -> bytes:
    """Writes as much as the transport takes before it pauses; returns it."""
    filling = b"." * (BUFFER + 1)
    box.outbox.write(filling)
    return filling


def items(*pairs: tuple[Hashable | None, bytes]) -> tuple[tuple[Item, ...], bytes]:
    """What `write_items` is called with."""
    return pairs, b"".join(frame for _, frame in pairs)


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def box(request: pytest.FixtureRequest) -> Box:
    """An outbox whose peer reads."""
    made: Box = request.param()
    return made


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def full(request: pytest.FixtureRequest) -> Box:
    """An outbox whose peer does not read and whose transport is full."""
    made: Box = request.param(peer_reads=False)
    fill(made)
    return made


# -- while the peer reads


def test_frames_go_straight_to_a_transport_that_takes_them(box: Box) -> None:
    for number in range(100):
        box.outbox.write(b"%d," % number)
    assert box.arrived == b"".join(b"%d," % number for number in range(100))
    assert box.outbox.waiting == 0


def test_items_go_straight_to_a_transport_that_takes_them(box: Box) -> None:
    """A peer that reads misses no item."""
    box.outbox.write_items(*items(("a", b"1"), (None, b"2"), ("a", b"3")))
    assert box.arrived == b"123"
    assert (box.outbox.waiting, box.outbox.replaced) == (0, 0)


def test_a_frame_larger_than_the_limit_goes_to_a_transport_that_takes_it(box: Box) -> None:
    box.outbox.write(b"x" * (LIMIT + 1))
    assert box.overflows == 0
    assert len(box.arrived) == LIMIT + 1


def test_drained_fires_at_once_while_the_peer_reads(box: Box) -> None:
    box.outbox.write(b"x")
    success(box.outbox.drained())


# -- while it does not


def test_frames_wait_here_while_the_transport_is_full(full: Box) -> None:
    full.outbox.write(b"one")
    full.outbox.write(b"two")
    assert full.outbox.waiting == 6
    full.read()
    assert full.arrived.endswith(b".onetwo")
    assert full.outbox.waiting == 0


@both
def test_the_order_is_kept_across_many_pauses(kind: type[Any]) -> None:
    box = kind(limit=1 << 20, peer_reads=False)
    frames = [b"<%d>" % number + b"." * 20_000 for number in range(40)]
    for frame in frames[:20]:
        box.outbox.write(frame)
    for frame in frames[20:]:
        box.read_some()
        box.outbox.write(frame)
    box.read()
    assert box.arrived == b"".join(frames)


def test_frames_up_to_the_limit_may_wait(full: Box) -> None:
    for _ in range(5):
        full.outbox.write(b"x" * (LIMIT // 10))
        full.outbox.write_items(*items((None, b"x" * (LIMIT // 10))))
    assert (full.outbox.waiting, full.overflows) == (LIMIT, 0)


def test_an_overflowing_frame_and_all_pending_frames_are_dropped(full: Box) -> None:
    full.outbox.write(b"x" * LIMIT)
    full.outbox.write(b"y")
    assert (full.outbox.waiting, full.overflows) == (0, 1)
    full.read()
    assert set(full.arrived) == set(b".")


def test_an_overflowing_item_and_all_pending_items_are_dropped(full: Box) -> None:
    full.outbox.write_items(*items(("a", b"x" * 500), (None, b"x" * 500)))
    full.outbox.write_items(*items(("b", b"y")))
    assert (full.outbox.waiting, full.overflows) == (0, 1)
    full.read()
    assert set(full.arrived) == set(b".")


def test_a_frame_larger_than_the_limit_does_not_wait(full: Box) -> None:
    full.outbox.write(b"x" * (LIMIT + 1))
    assert (full.outbox.waiting, full.overflows) == (0, 1)


def test_dropped_frames_are_counted_by_reason(full: Box) -> None:
    full.outbox.write_items(*items(("a", b"1"), ("a", b"2"), ("b", b"3"), (None, b"4")))
    assert full.drops.counts() == {"replaced": 1, "too_slow": 0, "redis_away": 0, "invalid": 0}
    full.outbox.write_items(*items(("a", b"x" * LIMIT)))
    assert full.overflows == 1
    # the two newest poses, one of which did not fit, and the frame that must not be replaced
    assert full.drops.counts() == {"replaced": 2, "too_slow": 3, "redis_away": 0, "invalid": 0}
    assert full.drops[DropReason.TOO_SLOW] == 3


def test_an_outbox_reports_its_overflow_once(full: Box) -> None:
    for _ in range(5):
        full.outbox.write(b"x" * (LIMIT + 1))
        full.outbox.write_items(*items(("a", b"x" * (LIMIT + 1))))
    assert (full.outbox.waiting, full.overflows) == (0, 1)


@pytest.mark.parametrize("key", [None, "b"])
@both
def test_no_item_of_a_batch_is_kept_behind_the_overflowing_one(
    kind: type[Any], key: str | None
) -> None:
    """A connection that overflows is closed in the middle of the batch."""
    made: list[Box] = []
    made.append(kind(peer_reads=False, then=lambda: made[0].outbox.finish()))
    [box] = made
    fill(box)
    box.outbox.write_items(*items(("a", b"x" * (LIMIT + 1)), (key, b"y"), ("a", b"z")))
    assert (box.outbox.waiting, box.overflows) == (0, 1)
    box.read()
    assert set(box.arrived) == set(b".")


@both
def test_bytes_that_were_read_make_room(kind: type[Any]) -> None:
    box = kind(peer_reads=False)
    fill(box)
    box.outbox.write(b"x" * LIMIT)
    box.read_some()
    box.outbox.write(b"y" * LIMIT)
    assert box.overflows == 0


def test_drained_fires_for_every_waiter_once_the_outbox_is_empty(full: Box) -> None:
    full.outbox.write(b"x")
    waiting = [full.outbox.drained() for _ in range(2)]
    assert [has_fired(deferred) for deferred in waiting] == [False, False]
    full.read()
    for deferred in waiting:
        success(deferred)


@both
def test_a_peer_that_reads_a_little_is_handed_a_little(kind: type[Any]) -> None:
    """The rest waits here, where it is bounded and can be let go."""
    box = kind(limit=1 << 20, peer_reads=False)
    frames = [fill(box) for _ in range(4)]
    for number in range(3, 0, -1):
        assert box.outbox.waiting == number * len(frames[0])
        box.read_some()


@both
def test_many_small_frames_are_handed_over_about_64_kib_at_a_time(kind: type[Any]) -> None:
    box = kind(limit=1 << 20, peer_reads=False)
    fill(box)
    for _ in range(200):
        box.outbox.write(b"s" * 1000)
    before = box.outbox.waiting
    box.read_some()
    assert BUFFER <= before - box.outbox.waiting <= 2 * BUFFER


@both
def test_drained_does_not_fire_when_pending_frames_fill_the_transport_again(
    kind: type[Any],
) -> None:
    box = kind(limit=1 << 20, peer_reads=False)
    fill(box)
    fill(box)
    drained = box.outbox.drained()
    box.read_some()
    assert not has_fired(drained)
    box.read_some()
    success(drained)


def test_a_writer_that_waits_for_drained_may_write_and_wait_again(full: Box) -> None:
    seen: list[int] = []

    def next_page(_: None) -> None:
        seen.append(full.outbox.waiting)
        if len(seen) < 3:
            fill(full)
            full.outbox.drained().addCallback(next_page)

    full.outbox.drained().addCallback(next_page)
    for number in range(1, 4):
        assert len(seen) == number - 1
        full.read_some()
    assert seen == [0, 0, 0]


def test_a_member_that_gave_up_waiting_does_not_disturb_the_others(full: Box) -> None:
    gave_up, patient = full.outbox.drained(), full.outbox.drained()
    gave_up.cancel()
    failure(gave_up, CancelledError)
    full.read()
    success(patient)


# -- newer frames in the place of older ones


def test_a_newer_frame_takes_the_place_of_an_older_one_of_its_key(full: Box) -> None:
    full.outbox.write_items(*items(("a", b"old"), ("b", b"other")))
    full.outbox.write_items(*items(("a", b"newer")))
    full.outbox.write_items(*items(("a", b"new")))
    assert (full.outbox.waiting, full.outbox.replaced) == (8, 2)
    full.read()
    assert full.arrived.lstrip(b".") == b"newother"


def test_within_one_batch_the_newest_of_a_key_is_kept(full: Box) -> None:
    full.outbox.write_items(*items(("a", b"1"), ("a", b"2"), ("a", b"3")))
    assert (full.outbox.waiting, full.outbox.replaced) == (1, 2)
    full.read()
    assert full.arrived.endswith(b".3")


def test_a_frame_without_a_key_is_never_replaced(full: Box) -> None:
    for number in range(3):
        full.outbox.write_items(*items((None, b"%d" % number), ("a", b"a")))
    full.outbox.write(b"3")
    assert (full.outbox.waiting, full.outbox.replaced) == (5, 2)
    full.read()
    assert sorted(full.arrived.lstrip(b".")) == sorted(b"0123a")
    assert full.arrived.replace(b"a", b"").endswith(b".0123")


def test_a_pose_that_the_transport_took_is_not_replaced(full: Box) -> None:
    full.outbox.write_items(*items(("a", b"1")))
    full.read_some()
    full.outbox.write_items(*items(("a", b"2")))
    full.read()
    assert full.arrived.endswith(b".12")
    assert full.outbox.replaced == 0


def test_a_replacement_counts_with_its_own_length(full: Box) -> None:
    for _ in range(10):
        full.outbox.write_items(*items(("a", b"x" * LIMIT)))
    assert (full.outbox.waiting, full.overflows, full.outbox.replaced) == (LIMIT, 0, 9)
    full.outbox.write_items(*items(("a", b"x")))
    assert full.outbox.waiting == 1


# -- the end


def test_clear_drops_only_frames_pending_in_the_outbox(full: Box) -> None:
    full.outbox.write(b"x")
    full.outbox.write_items(*items(("a", b"y")))
    full.outbox.clear()
    assert full.outbox.waiting == 0
    full.read()
    assert len(full.arrived) == BUFFER + 1


def test_finish_hands_over_everything_though_the_peer_does_not_read(full: Box) -> None:
    full.outbox.write(b"one")
    full.outbox.write_items(*items(("a", b"two")))
    full.outbox.finish()
    assert full.outbox.waiting == 0
    full.write_past(b"close")
    full.read()
    assert full.arrived.endswith(b".onetwoclose")


@pytest.mark.parametrize("length", [1, BUFFER])
@both
def test_finish_hands_over_more_than_a_transport_takes_at_once(
    kind: type[Any], length: int
) -> None:
    box = kind(limit=1 << 20, peer_reads=False)
    fill(box)
    for byte in range(9):
        box.outbox.write(b"%d" % byte * length)
    box.outbox.finish()
    box.read()
    assert box.arrived[BUFFER + 1 :] == b"".join(b"%d" % byte * length for byte in range(9))


def test_a_finished_outbox_accepts_no_frame(full: Box) -> None:
    full.outbox.finish()
    full.outbox.write(b"x" * (LIMIT + 1))
    full.outbox.write_items(*items((None, b"x"), ("a", b"y")))
    assert (full.outbox.waiting, full.overflows) == (0, 0)
    full.read()
    full.outbox.write(b"x")
    full.outbox.write_items(*items((None, b"x"), ("a", b"y")))
    assert set(full.arrived) == set(b".")


def test_finishing_an_empty_outbox_writes_nothing(box: Box) -> None:
    box.outbox.finish()
    box.outbox.finish()
    assert box.arrived == b""
    box.outbox.write(b"x")
    assert box.arrived == b""
    assert box.outbox.direct is None


def test_drained_of_a_finished_outbox_is_cancelled(box: Box) -> None:
    box.outbox.finish()
    failure(box.outbox.drained(), CancelledError)


def test_a_writer_that_waits_on_a_finished_outbox_is_cancelled_by_its_close(full: Box) -> None:
    drained = full.outbox.drained()
    full.outbox.finish()
    full.read()
    full.outbox.close()
    failure(drained, CancelledError)


def test_close_cancels_waiters_and_drops_pending_frames(full: Box) -> None:
    full.outbox.write(b"x")
    waiting = [full.outbox.drained() for _ in range(2)]
    full.outbox.close()
    for deferred in waiting:
        failure(deferred, CancelledError)
    assert full.outbox.waiting == 0


def test_a_closed_outbox_accepts_no_frame_and_does_not_overflow(full: Box) -> None:
    full.outbox.close()
    full.outbox.write(b"x" * (LIMIT + 1))
    full.outbox.write_items(*items(("a", b"x" * (LIMIT + 1))))
    assert (full.outbox.waiting, full.overflows) == (0, 0)


def test_drained_of_a_closed_outbox_is_cancelled(full: Box) -> None:
    """A caller that is too late must not wait for ever."""
    full.outbox.close()
    failure(full.outbox.drained(), CancelledError)


# -- straight to the socket


def test_nothing_overtakes_the_answer_to_the_handshake() -> None:
    box = SocketBox(peer_reads=False)
    box.kernel.taken = b""
    box.transport.write(HANDSHAKE)
    outbox = SocketOutbox(box.transport, LIMIT, box.overflowed, box.drops)
    assert outbox.direct is None
    outbox.write(b"first")
    assert outbox.waiting == 5
    box.read()
    assert box.arrived == b"first"
    assert outbox.direct is not None


def test_an_outbox_unblocks_by_itself_when_the_buffer_of_the_transport_is_empty() -> None:
    """The reactor is asked for a turn, for no write would."""
    box = SocketBox()
    outbox = SocketOutbox(box.transport, LIMIT, box.overflowed, box.drops)
    assert outbox.direct is None
    box.turn()
    assert outbox.direct is not None


def test_a_write_to_a_peer_that_reads_does_not_involve_the_reactor() -> None:
    box = SocketBox()
    box.outbox.write(b"x")
    assert box.reactor.writers == set()
    assert box.transport.producer is None


@given(st.integers(0, 10))
def test_the_rest_that_the_kernel_did_not_take_is_sent_first(room: int) -> None:
    box = SocketBox(peer_reads=False)
    box.kernel.room = room
    box.outbox.write(b"0123456789")
    assert box.arrived == b"0123456789"[:room]
    assert (box.outbox.direct is None) == (room < 10)
    box.kernel.room = 0
    box.outbox.write(b"next")
    box.read()
    assert box.arrived == b"0123456789next"
    assert box.outbox.direct is not None


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EBADF])
def test_no_frame_is_written_to_a_dead_socket(number: int) -> None:
    box = SocketBox()
    box.kernel.error = OSError(number, "dead")
    box.outbox.write(b"x")
    assert box.outbox.direct is None
    box.kernel.error = None
    box.outbox.write(b"y")
    box.outbox.write_items(*items(("a", b"y")))
    box.turn()
    assert (box.arrived, box.outbox.waiting, box.overflows) == (b"", 0, 0)
    failure(box.outbox.drained(), CancelledError)
    # and its owner is about to hear of it
    assert box.transport.reactor.calls == [box.transport.connectionLost]


def test_a_closed_outbox_keeps_no_reference_to_the_socket() -> None:
    """Its number may belong to another connection by then."""
    box = SocketBox()
    box.outbox.close()
    assert box.outbox.direct is None


def test_other_transports_have_no_direct_way() -> None:
    secured = SocketBox()
    secured.transport.TLS = True
    # Twisted hands a producer to its TLS layer then
    secured.transport.protocol.registerProducer = lambda producer, streaming: None
    assert (
        type(build_outbox(secured.transport, LIMIT, secured.overflowed, secured.drops))
        is BufferedOutbox
    )
    assert BufferedBox().outbox.direct is None


# -- an observer


def test_an_observer_sees_frames_written_directly_and_pending_frames() -> None:
    box = SocketBox(peer_reads=False)
    straight = box.outbox.direct
    observer = box.outbox.observer = FakeObserver()
    box.kernel.room = 2
    box.outbox.write(b"one")
    box.outbox.write(b"two")
    box.outbox.write_items(*items(("a", b"three")))
    box.read()
    assert box.outbox.direct is not None
    assert box.outbox.direct(b"four") == 4  # as a group does it
    box.outbox.write_items(*items((None, b"five")))
    assert [(frames, waits) for _, frames, waits in observer.events] == [
        (b"one", False),
        (b"two", True),
        (b"three", True),
        (b"four", False),
        (b"five", False),
    ]
    assert box.arrived == b"onetwothreefourfive"
    box.outbox.observer = None
    assert box.outbox.direct == straight
    box.outbox.write(b"six")
    assert len(observer.events) == 5


def test_an_observer_that_replaces_another_sees_frames_alone() -> None:
    box = SocketBox()
    first, second = FakeObserver(), FakeObserver()
    box.outbox.observer = first
    box.outbox.observer = second
    box.outbox.write(b"x")
    assert (first.events, second.events) == ([], [("sent", b"x", False)])


# -- any mix of it all

HEADER = 9
KEYS: tuple[Hashable | None, ...] = (None, "a", "b", "c")


def make_frame(number: int, key: Hashable | None, length: int) -> bytes:
    """A frame that says which one it is and how long it is."""
    filling = bytes([number % 251]) * length
    return number.to_bytes(4) + bytes([KEYS.index(key)]) + length.to_bytes(4) + filling


def read_frames(data: bytes) -> Iterator[int]:
    """The numbers of the frames; each must be whole."""
    while data:
        number, length = int.from_bytes(data[:4]), int.from_bytes(data[5:HEADER])
        assert data[HEADER : HEADER + length] == bytes([number % 251]) * length
        yield number
        data = data[HEADER + length :]


class Traffic(RuleBasedStateMachine):
    """Everything an outbox may meet, beside the list of what was written.

    What has left the outbox says what must wait: every frame without a key behind it, and the
    newest of each key.
    """

    kind: type[Any]

    @initialize(limit=st.sampled_from([200, 150_000, 1 << 30]))
    def begin(self, limit: int) -> None:
        self.box = self.kind(limit=limit, peer_reads=False, then=self.overflowed)
        self.outbox: Outbox = self.box.outbox
        self.written: list[tuple[Hashable | None, bytes]] = []
        self.lost = False
        self.observer = FakeObserver()
        self.observed: list[bytes] = []

    def overflowed(self) -> None:
        self.lost = True
        self.outbox.finish()

    def is_free(self) -> bool:
        drained = self.outbox.drained()
        free = drained.called and not self.outbox.finished
        drained.addErrback(lambda _: None)
        drained.cancel()
        return free

    def new(self, key: Hashable | None, length: int) -> tuple[Hashable | None, bytes]:
        return key, make_frame(len(self.written), key, length)

    def check_free(self, written: list[tuple[Hashable | None, bytes]], free: bool) -> None:
        """What is written to a peer that reads leaves at once, all of it."""
        if free:
            assert self.box.handed.endswith(b"".join(frame for _, frame in written))
            assert self.outbox.waiting == 0

    @rule(observed=st.booleans())
    def observe(self, observed: bool) -> None:
        self.outbox.observer = self.observer if observed else None

    def note(self, frames: bytes) -> None:
        """The observer must hear of it, once."""
        if self.outbox.observer is not None:
            self.observed.append(frames)

    @rule(length=st.one_of(st.integers(0, 100), st.integers(0, 40_000)))
    def write(self, length: int) -> None:
        if self.outbox.finished:
            before = self.box.handed
            self.outbox.write(b"too late")
            assert self.box.handed == before
            return
        free = self.is_free()
        item = self.new(None, length)
        self.written.append(item)
        self.note(item[1])
        self.outbox.write(item[1])
        self.check_free([item], free)

    @rule(
        batch=st.lists(
            st.tuples(
                st.sampled_from(KEYS), st.one_of(st.integers(0, 100), st.integers(0, 40_000))
            ),
            min_size=1,
            max_size=5,
        )
    )
    def serve(self, batch: list[tuple[Hashable | None, int]]) -> None:
        """As the hub does it."""
        start = len(self.written)
        for key, length in batch:
            self.written.append(self.new(key, length))
        made = self.written[start:]
        if self.outbox.finished:
            del self.written[start:]
            self.outbox.write_items(made, b"".join(frame for _, frame in made))
            return
        free, frames = self.is_free(), b"".join(frame for _, frame in made)
        self.note(frames)
        if self.outbox.direct is None:
            self.outbox.write_items(made, frames)
        else:
            try:
                sent = self.outbox.direct(frames)
            except BlockingIOError:
                sent = 0
            if sent != len(frames):
                self.outbox.interrupted(frames, sent)
        self.check_free(made, free)

    @rule(size=st.one_of(st.integers(1, 50), st.integers(1, 200_000)))
    def take(self, size: int) -> None:
        """The kernel takes any number of bytes."""
        if self.kind is SocketBox:
            self.box.allow(size)
        else:
            self.box.read_some()

    @rule()
    def read_some(self) -> None:
        self.box.read_some()

    @rule(often=st.integers(0, 3))
    def finish(self, often: int) -> None:
        """Seldom, for nothing comes after it."""
        if often == 3:
            self.outbox.finish()

    @invariant()
    def it_adds_up(self) -> None:
        assert [frames for _, frames, _ in self.observer.events] == self.observed
        numbers = list(read_frames(self.box.handed))
        keys = [self.written[number][0] for number in numbers]
        for key in KEYS:
            of_key = [number for number, other in zip(numbers, keys, strict=True) if other == key]
            assert of_key == sorted(set(of_key))
        handed = set(numbers)
        waiting: dict[Hashable, int] = {}
        replaced = 0
        for number, (key, frame) in enumerate(self.written):
            if number not in handed:
                place = number if key is None else key
                replaced += place in waiting
                waiting[place] = len(frame)
            elif key is not None:
                # nothing older of this key waits any more
                replaced += waiting.pop(key, None) is not None
        assert self.box.overflows == self.lost
        if self.lost:
            assert self.outbox.waiting == 0
            return
        assert self.outbox.replaced == replaced
        assert self.outbox.waiting == sum(waiting.values()) <= self.box.limit
        assert not waiting or not self.outbox.finished

    def teardown(self) -> None:
        """In the end the peer reads, and all that may be expected arrives."""
        if not hasattr(self, "box"):
            return
        drained = None if self.outbox.finished else self.outbox.drained()
        self.box.read()
        self.it_adds_up()
        assert self.outbox.waiting == 0
        assert self.box.arrived == self.box.handed
        arrived = set(read_frames(self.box.arrived))
        if not self.lost:
            newest = {key: number for number, (key, _) in enumerate(self.written)}
            for number, (key, _) in enumerate(self.written):
                assert number in arrived or (key is not None and newest[key] > number)
            assert self.outbox.replaced == len(self.written) - len(arrived)
            assert all(number in arrived for number in newest.values())
        if drained is not None:
            success(drained)
            self.outbox.observer = None
            self.outbox.write(b"straight on")
            assert self.box.arrived.endswith(b"straight on")


@both
def test_every_byte_arrives_in_order_whatever_happens(kind: type[Any]) -> None:
    class Of(Traffic):
        pass

    Of.kind = kind
    run_state_machine_as_test(
        Of,
        settings=settings(
            max_examples=300, stateful_step_count=30, derandomize=True, database=None
        ),
    )


# -- on the reactor


class Far:
    """A socket pair: a real Twisted connection here, a peer there that reads when it is told to."""

    def __init__(self, family: socket.AddressFamily) -> None:
        if family == socket.AF_INET:
            with socket.create_server(("127.0.0.1", 0)) as server:
                self.peer = socket.create_connection(server.getsockname())
                here, _ = server.accept()
        else:
            here, self.peer = socket.socketpair(family)
        with here:
            here.setblocking(False)
            here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
            self.peer.setblocking(False)
            self.protocol = Protocol()
            factory = Factory.forProtocol(lambda: self.protocol)
            reactor.adoptStreamConnection(here.fileno(), family, factory)  # type: ignore[attr-defined]
        self.arrived = b""

    async def turn(self) -> None:
        """The reactor does what is due."""
        await deferLater(reactor, 0)

    async def read(self, size: int) -> None:
        """The peer reads until it has so many bytes."""
        while len(self.arrived) < size:
            try:
                data = self.peer.recv(size - len(self.arrived))
            except BlockingIOError:
                await self.turn()
                continue
            assert data, "the connection has ended"
            self.arrived += data

    async def end(self) -> None:
        self.peer.close()
        transport: Any = self.protocol.transport
        transport.abortConnection()
        while transport.connected:
            await self.turn()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@pytest_twisted.ensureDeferred
async def test_every_byte_arrives_in_order_through_a_real_socket(
    family: socket.AddressFamily,
) -> None:
    """A peer that does not read, reads a little, then reads all; and all over again."""
    far = Far(family)
    transport: Any = far.protocol.transport
    transport.write(HANDSHAKE)
    outbox = build_outbox(transport, 1 << 30, lambda: pytest.fail("overflow"), Drops())
    assert type(outbox) is SocketOutbox
    expected, number = HANDSHAKE, 0

    def write(length: int) -> None:
        nonlocal expected, number
        frame = b"<%d>" % number + bytes([number % 256]) * length
        number += 1
        expected += frame
        if number % 3 == 0 and outbox.direct is not None:
            try:
                sent = outbox.direct(frame)
            except BlockingIOError:
                sent = 0
            if sent != len(frame):
                outbox.interrupted(frame, sent)
        elif number % 3 == 1:
            outbox.write_items([(None, frame)], frame)
        else:
            outbox.write(frame)

    try:
        for _ in range(4):
            write(10)
            await far.read(len(expected))
            success(outbox.drained())
            assert outbox.direct is not None
            for length in (100, 5_000, 200_000, 1, 300_000, 3_000, 70_000, 0):
                write(length)
                await far.turn()
            assert outbox.waiting > 0
            drained = outbox.drained()
            await far.read(len(expected) // 2)
            write(50_000)
            await far.read(len(expected))
            await drained
            assert far.arrived == expected
            assert outbox.waiting == 0
        write(10)
        write(1_000_000)
        write(20_000)
        write(20_000)
        outbox.finish()
        transport.write(b"close")
        await far.read(len(expected) + 5)
        assert far.arrived == expected + b"close"
    finally:
        outbox.close()
        await far.end()


@pytest_twisted.ensureDeferred
async def test_the_newest_frame_of_each_key_arrives_through_a_real_socket() -> None:
    far = Far(socket.AF_INET)
    outbox = build_outbox(far.protocol.transport, 1 << 20, lambda: pytest.fail("overflow"), Drops())
    try:
        await far.turn()
        filling = b"." * 1_000_000
        outbox.write(filling)
        for number in range(1000):
            key = "abc"[number % 3]
            await far.turn() if number % 100 == 0 else None
            outbox.write_items(*items((key, b"<%s%d>" % (key.encode(), number))))
        expected = filling + b"<a999><b997><c998>"
        assert (outbox.waiting, outbox.replaced) == (18, 997)
        await far.read(len(expected))
        assert far.arrived == expected
    finally:
        outbox.close()
        await far.end()


@pytest_twisted.ensureDeferred
async def test_no_frame_is_written_to_a_reset_connection() -> None:
    far = Far(socket.AF_INET)
    outbox = build_outbox(far.protocol.transport, LIMIT, lambda: pytest.fail("overflow"), Drops())
    await far.turn()
    success(outbox.drained())
    far.peer.close()
    try:
        for _ in range(5):
            outbox.write(b"x" * 100)
        assert outbox.direct is None
        assert outbox.waiting == 0
    finally:
        outbox.close()
        await far.end()
