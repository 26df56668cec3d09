"""Groups, fan-out and batches."""

import errno
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from websockets.frames import Opcode

from relayd.drops import Drops
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.native.framing import text_frame
from relayd.native.inlet import Inlet
from relayd.native.sending import Frames
from relayd.sockets.outbox import Item, build_outbox
from tests.unit.fakes import BUFFER, InletOwner, Transport, logged_lines, mask_frame, parse_frames

COALESCE = 0.005
BUSY = 1.0
"""Seconds that a batch costs elsewhere: so many that `COALESCE` follow each batch."""


class Slow:
    """A member that has no direct way, and keeps what it was sent.

    Args:
        then: called with each write after it was kept.
    """

    direct: Callable[[bytes], int] | None = None

    def __init__(self, then: Callable[[bytes], object] = lambda frames: None) -> None:
        self.writes: list[bytes] = []
        self.items: list[list[Item]] = []
        self.given: list[Sequence[Item]] = []
        self.rests: list[tuple[bytes, int]] = []
        self.breaks = 0
        self._then = then

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        assert b"".join(frame for _, frame in items) == frames
        self.items.append(list(items))
        self.given.append(items)
        self.writes.append(frames)
        self._then(frames)

    def interrupted(self, frames: bytes, sent: int) -> None:
        self.rests.append((frames, sent))

    def broken(self) -> None:
        self.breaks += 1

    @property
    def payloads(self) -> list[bytes]:
        """The payloads of the frames, read by `websockets`."""
        return [payload for frames in self.writes for _, payload in parse_frames(frames)]


class Member(Slow):
    """A member that takes everything straight away.

    Args:
        takes: how many bytes of each write; an error to raise instead; None for all.
    """

    def __init__(
        self,
        then: Callable[[bytes], object] = lambda frames: None,
        takes: int | OSError | None = None,
    ) -> None:
        super().__init__(then)
        self.takes = takes
        self.direct = self.send

    def send(self, frames: bytes) -> int:
        if isinstance(self.takes, OSError):
            raise self.takes
        self.writes.append(frames)
        self._then(frames)
        return len(frames) if self.takes is None else self.takes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Hub:
    """A hub that serves every frame at once."""
    return Hub(Batching(clock, 0))


@pytest.fixture
def batching(clock: Clock) -> Hub:
    """A hub that makes batches."""
    return Hub(Batching(clock, COALESCE, BUSY))


# -- members


def test_a_payload_is_delivered_once_to_every_member_as_one_text_frame(hub: Hub) -> None:
    here, there = [Member(), Slow(), Member()], Member()
    for member in here:
        hub.join("camera/a", member)
    hub.join("camera/b", there)
    assert hub.fan_out("camera/a", b'{"x":1}') == 3
    for member in here:
        assert [parse_frames(frame) for frame in member.writes] == [[(Opcode.TEXT, b'{"x":1}')]]
    assert there.writes == []


def test_every_member_gets_the_same_object(hub: Hub) -> None:
    """A frame is built once."""
    members = [Member(), Slow(), Member()]
    for member in members:
        hub.join("g", member)
    hub.fan_out("g", b"{}")
    assert len({id(member.writes[0]) for member in members}) == 1


def test_members_are_served_in_the_order_of_their_joins(hub: Hub) -> None:
    served: list[int] = []

    def note(number: int) -> Callable[[bytes], None]:
        return lambda frames: served.append(number)

    for number in range(6):
        hub.join("g", (Member, Slow)[number % 2](note(number)))
    hub.fan_out("g", b"{}")
    assert served == [0, 1, 2, 3, 4, 5]


def test_a_member_that_joins_twice_counts_once(hub: Hub) -> None:
    member = Member()
    hub.join("g", member)
    hub.join("g", member)
    assert hub.fan_out("g", b"{}") == 1
    assert len(member.writes) == 1
    hub.leave("g", member)
    assert hub.size("g") == 0


def test_a_payload_for_a_group_without_members_is_delivered_to_nobody(
    batching: Hub, clock: Clock
) -> None:
    assert batching.fan_out("g", b"{}") == 0
    assert list(batching) == []
    assert clock.getDelayedCalls() == []


def test_a_client_that_left_gets_nothing(hub: Hub) -> None:
    stays, leaves = Member(), Member()
    hub.join("g", stays)
    hub.join("g", leaves)
    hub.leave("g", leaves)
    assert hub.fan_out("g", b"{}") == 1
    assert (len(stays.writes), len(leaves.writes)) == (1, 0)


def test_leaving_a_group_without_being_a_member_changes_nothing(hub: Hub) -> None:
    member = Member()
    hub.join("g", member)
    hub.leave("g", Member())
    hub.leave("other", member)
    assert hub.size("g") == 1
    assert list(hub) == ["g"]


@pytest.mark.parametrize("kind", [Member, Slow])
def test_a_member_that_leaves_while_it_is_served_does_not_affect_other_members(
    hub: Hub, kind: type[Slow]
) -> None:
    first, last = Member(), Member()
    leaver = kind(lambda frames: hub.leave("g", leaver))
    for member in (first, leaver, last):
        hub.join("g", member)
    hub.fan_out("g", b"1")
    hub.fan_out("g", b"2")
    assert [m.payloads for m in (first, leaver, last)] == [[b"1", b"2"], [b"1"], [b"1", b"2"]]


def test_the_group_may_end_while_it_is_served(hub: Hub) -> None:
    members: list[Slow] = []

    def everybody_leaves(frames: bytes) -> None:
        for member in members:
            hub.leave("g", member)

    members.extend([Member(everybody_leaves), Slow()])
    for member in members:
        hub.join("g", member)
    hub.fan_out("g", b"{}")
    assert list(hub) == []


# -- the direct way


def test_bytes_that_the_kernel_does_not_take_are_handed_back_and_the_other_members_are_served(
    hub: Hub,
) -> None:
    """The kernel accepts all bytes, a part, none, or reports a dead socket."""
    frame = text_frame(b"hello")
    part, none = Member(takes=3), Member(takes=BlockingIOError(errno.EAGAIN, "full"))
    dead, last = Member(takes=OSError(errno.EPIPE, "dead")), Member()
    for member in (part, none, dead, last):
        hub.join("g", member)
    assert hub.fan_out("g", b"hello") == 4
    assert (part.rests, part.breaks) == ([(frame, 3)], 0)
    assert (none.rests, none.breaks) == ([(frame, 0)], 0)
    assert (dead.rests, dead.breaks) == ([], 1)
    assert (last.writes, last.rests, last.breaks) == ([frame], [], 0)


def test_a_member_that_lost_its_direct_way_is_served_through_its_transport(hub: Hub) -> None:
    member = Member()
    hub.join("g", member)
    hub.fan_out("g", b"1")
    member.direct = None
    hub.fan_out("g", b"2", "key")
    assert member.payloads == [b"1", b"2"]
    assert member.items == [[("key", text_frame(b"2"))]]


@pytest.mark.parametrize("takes", [0, 3, BlockingIOError(errno.EAGAIN, "full")])
def test_a_batch_that_is_interrupted_is_handed_back_as_a_whole(
    batching: Hub, clock: Clock, takes: int | OSError
) -> None:
    member = Member()
    batching.join("g", member)
    batching.fan_out("g", b"0")
    member.takes = takes
    batching.fan_out("g", b"1")
    batching.fan_out("g", b"2")
    clock.advance(COALESCE)
    sent = takes if isinstance(takes, int) else 0
    assert member.rests == [(text_frame(b"1") + text_frame(b"2"), sent)]


# -- batches


def test_a_group_is_served_at_once_while_the_loop_has_time(clock: Clock) -> None:
    hub, member = Hub(Batching(clock, COALESCE)), Member()
    hub.join("g", member)
    for number in range(3):
        hub.fan_out("g", b"%d" % number)
        assert member.payloads[-1] == b"%d" % number
        assert clock.getDelayedCalls() == []


def test_a_busy_group_gets_one_write_with_the_frames_in_their_order(
    batching: Hub, clock: Clock
) -> None:
    members = [Member(), Slow()]
    for member in members:
        batching.join("g", member)
    for number in range(5):
        assert batching.fan_out("g", b"%d" % number) == 2
    assert [member.payloads for member in members] == [[b"0"], [b"0"]]
    clock.advance(COALESCE)
    for member in members:
        assert member.payloads == [b"0", b"1", b"2", b"3", b"4"]
        assert len(member.writes) == 2
    assert clock.getDelayedCalls() == []


def test_a_batch_of_a_busy_group_begins_one_coalescing_time_after_the_one_before(
    batching: Hub, clock: Clock
) -> None:
    member = Member()
    batching.join("g", member)
    batching.fan_out("g", b"0")
    clock.advance(COALESCE * 0.25)
    batching.fan_out("g", b"1")
    clock.advance(COALESCE * 0.5)
    batching.fan_out("g", b"2")
    assert member.payloads == [b"0"]
    clock.advance(COALESCE * 0.26)
    assert member.payloads == [b"0", b"1", b"2"]
    batching.fan_out("g", b"3")
    assert member.payloads == [b"0", b"1", b"2"]


def test_a_publisher_delivers_to_the_same_group_as_fan_out(batching: Hub, clock: Clock) -> None:
    member = Slow()
    batching.join("g", member)
    publish = batching.publisher("g", "a")
    assert publish(b"0") == 1
    batching.fan_out("g", b"1", "b")
    assert publish(b"2") == 1
    clock.advance(COALESCE)
    assert [[key for key, _ in items] for items in member.items] == [["a"], ["b", "a"]]
    assert member.payloads == [b"0", b"1", b"2"]


def test_a_publisher_of_an_unknown_group_reaches_nobody(hub: Hub) -> None:
    publish = hub.publisher("g")
    assert publish(b"0") == 0
    assert len(hub) == 0


def test_groups_do_not_wait_for_each_other(batching: Hub) -> None:
    members = {name: Member() for name in "ab"}
    for name, member in members.items():
        batching.join(name, member)
        batching.fan_out(name, b"{}")
        assert member.payloads == [b"{}"]


@given(st.lists(st.floats(0, 0.01), min_size=1, max_size=40))
def test_no_frame_waits_longer_than_the_coalescing_time(pauses: list[float]) -> None:
    """Whenever frames come: in their order, in time, and not more than one write a batch."""
    clock = Clock()
    hub, sent, came = Hub(Batching(clock, COALESCE, BUSY)), list[float](), list[float]()
    member = Member(lambda frames: came.extend([clock.seconds()] * len(parse_frames(frames))))
    hub.join("g", member)
    for number, pause in enumerate(pauses):
        # in steps, for a Clock runs what is due at the end of a step
        for _ in range(10):
            clock.advance(pause / 10)
        sent.append(clock.seconds())
        hub.fan_out("g", b"%d" % number)
    for _ in range(10):
        clock.advance(COALESCE / 10)
    assert member.payloads == [b"%d" % number for number in range(len(pauses))]
    late = [end - begin for begin, end in zip(sent, came, strict=True)]
    assert max(late) <= COALESCE + 0.001 + 1e-9
    span = clock.seconds() - sent[0]
    assert len(member.writes) <= span / COALESCE + 2


def test_without_coalescing_every_frame_is_served_at_once(hub: Hub, clock: Clock) -> None:
    member = Member()
    hub.join("g", member)
    for number in range(5):
        hub.fan_out("g", b"%d" % number)
        assert len(member.writes) == number + 1
    assert clock.getDelayedCalls() == []


def test_a_megabyte_from_publishers_that_cannot_be_held_does_not_wait(
    batching: Hub, clock: Clock
) -> None:
    member = Member()
    batching.join("g", member)
    batching.fan_out("g", b"0")
    payload = b"x" * (BUFFER // 4 - 4)
    for _ in range(63):
        batching.fan_out("g", payload)
    assert len(member.writes) == 1
    batching.fan_out("g", payload)
    assert [len(frames) for frames in member.writes[1:]] == [16 * BUFFER]
    assert clock.getDelayedCalls() == []
    batching.fan_out("g", b"1")
    assert len(member.writes) == 2
    clock.advance(COALESCE)
    assert len(member.writes) == 3


class Sending(InletOwner):
    """A connection that publishes what comes to a group, and its inlet (`sockets.poller.Owner`).

    Attributes:
        held: whether a group holds it.
    """

    held: bool

    def __init__(self, hub: Hub, group: str = "g") -> None:
        self.inlet = Inlet(self)
        self.inlet.longest, self.inlet.short = 125, True
        self.inlet.receive = lambda payload, is_binary: self._publish(hub, group, payload)
        self.held = False

    @staticmethod
    def _publish(hub: Hub, group: str, payload: bytes) -> None:
        hub.fan_out(group, payload)

    def send(self, payload: bytes, count: int = 1) -> bool:
        """Sends frames; whether all were parsed."""
        return self.inlet.feed(mask_frame(1, payload) * count, 10**12)

    def is_held(self) -> bool:
        """Whether a group holds it."""
        return self.held

    def hold_reading(self) -> None:
        assert not self.held
        self.held = True

    def read_on(self) -> None:
        assert self.held
        self.held = False


def test_a_sender_waits_while_64_kib_wait_for_the_batch_of_its_group(
    batching: Hub, clock: Clock
) -> None:
    member, sender = Member(), Sending(batching)
    batching.join("g", member)
    fits = BUFFER // 127
    assert sender.send(b"x" * 125, fits)  # the first goes out at once
    assert not sender.is_held()
    assert not sender.send(b"x" * 125, 10)
    assert sender.is_held()
    assert len(member.writes) == 1
    clock.advance(COALESCE)
    assert not sender.is_held()
    assert sum(map(len, member.writes)) == 127 * (fits + 2)
    assert sender.inlet.feed(b"", 10**12)
    clock.advance(COALESCE)
    assert sum(map(len, member.writes)) == 127 * (fits + 10)


def test_nobody_else_waits_for_the_senders_of_a_full_group(batching: Hub, clock: Clock) -> None:
    batching.join("g", Member())
    batching.join("h", Member())
    busy, quiet = Sending(batching), Sending(batching, "h")
    busy.send(b"x" * 125, 1000)
    assert busy.is_held()
    assert quiet.send(b"x", 100)
    assert not quiet.is_held()


def test_senders_go_on_when_their_group_ends(batching: Hub, clock: Clock) -> None:
    member, sender = Member(), Sending(batching)
    batching.join("g", member)
    sender.send(b"x" * 125, 1000)
    assert sender.is_held()
    batching.leave("g", member)
    assert not sender.is_held()
    assert clock.getDelayedCalls() == []


def test_a_group_takes_no_more_from_its_senders_than_its_rate(clock: Clock) -> None:
    hub, member = Hub(Batching(clock, 0), 10), Member()
    hub.join("g", member)
    sender, other = Sending(hub), Sending(hub)
    assert not sender.send(b"x", 100)
    assert sender.is_held()
    assert len(member.writes) == 21  # two seconds' worth, and the one that was too many
    assert not other.send(b"x", 2)
    assert other.is_held()
    for _ in range(5):
        clock.advance(1)
        assert not sender.is_held()
        assert not sender.inlet.feed(b"", 10**12)
        assert sender.is_held()
    assert 21 + 5 * 10 <= len(member.writes) <= 21 + 5 * 12


def test_a_group_without_a_rate_takes_all(clock: Clock) -> None:
    hub, member = Hub(Batching(clock, 0)), Member()
    hub.join("g", member)
    assert Sending(hub).send(b"x", 10_000)
    assert len(member.writes) == 10_000


def test_a_batch_is_settled_once_for_all_members_that_cannot_take_it(
    batching: Hub, clock: Clock
) -> None:
    slow = [Slow(), Slow()]
    for member in slow:
        batching.join("g", member)
    batching.fan_out("g", b"0", "a")
    for key in ("a", "b", "a", None, "b", None):
        batching.fan_out("g", str(key).encode(), key)
    clock.advance(COALESCE)
    first, second = (member.given[1] for member in slow)
    assert first is second
    assert isinstance(first, Frames)
    assert isinstance(second, Frames)
    rest, size, newest, replaced = first.settle()
    assert [payload for frame in rest for _, payload in parse_frames(frame)] == [b"None", b"None"]
    assert size == sum(map(len, rest))
    assert list(newest) == ["a", "b"]
    assert replaced == 2
    assert first.settle() is second.settle()


def test_pending_frames_are_passed_to_members_with_their_keys(batching: Hub, clock: Clock) -> None:
    member = Slow()
    batching.join("g", member)
    batching.fan_out("g", b"0", "a")
    batching.fan_out("g", b"1", "b")
    batching.fan_out("g", b"2")
    batching.fan_out("g", b"3", "b")
    clock.advance(COALESCE)
    assert [[key for key, _ in items] for items in member.items] == [["a"], ["b", None, "b"]]


def test_a_new_member_gets_only_frames_sent_after_its_join(batching: Hub, clock: Clock) -> None:
    old, new = Member(), Member()
    batching.join("g", old)
    batching.fan_out("g", b"0")
    batching.fan_out("g", b"1")
    batching.join("g", new)
    assert old.payloads == [b"0"]  # nor is a batch broken by it
    batching.fan_out("g", b"2")
    clock.advance(COALESCE)
    assert (old.payloads, new.payloads) == ([b"0", b"1", b"2"], [b"2"])


def test_a_leaving_member_gets_the_frames_sent_before_and_none_after(
    batching: Hub, clock: Clock
) -> None:
    stays, leaves = Member(), Member()
    batching.join("g", stays)
    batching.join("g", leaves)
    batching.fan_out("g", b"0")
    batching.fan_out("g", b"1")
    batching.leave("g", leaves)
    assert leaves.payloads == [b"0", b"1"]
    batching.fan_out("g", b"2")
    clock.advance(COALESCE)
    assert (stays.payloads, leaves.payloads) == ([b"0", b"1", b"2"], [b"0", b"1"])


def test_nothing_is_due_in_a_group_that_ended(batching: Hub, clock: Clock) -> None:
    member = Member()
    batching.join("g", member)
    batching.fan_out("g", b"0")
    batching.fan_out("g", b"1")
    batching.leave("g", member)
    assert clock.getDelayedCalls() == []
    assert list(batching) == []
    batching.join("g", member)
    batching.fan_out("g", b"2")
    assert member.payloads == [b"0", b"1", b"2"]


def test_a_member_that_joins_before_the_channel_is_dropped_stays_a_member(
    batching: Hub, clock: Clock
) -> None:
    """A slow one is closed and leaves when it is served."""
    slow = Slow(lambda frames: batching.leave("g", slow) if b"1" in frames else None)
    batching.join("g", slow)
    batching.fan_out("g", b"0")
    batching.fan_out("g", b"1")
    new = Member()
    batching.join("g", new)
    assert batching.fan_out("g", b"2") == 2
    clock.advance(COALESCE)
    assert batching.size("g") == 1
    assert new.payloads == [b"2"]
    batching.leave("g", new)
    assert list(batching) == []


def test_a_member_dropped_while_it_leaves_has_left(batching: Hub, clock: Clock) -> None:
    """To serve what waits before it leaves may drop it."""
    slow = Slow(lambda frames: batching.leave("g", slow) if b"1" in frames else None)
    batching.join("g", slow)
    batching.fan_out("g", b"0")
    batching.fan_out("g", b"1")
    batching.leave("g", slow)
    assert list(batching) == []
    assert slow.payloads == [b"0", b"1"]
    assert clock.getDelayedCalls() == []


def test_every_member_may_be_dropped_while_one_leaves(batching: Hub, clock: Clock) -> None:
    members: list[Slow] = []

    def everybody_leaves(frames: bytes) -> None:
        for member in members if b"1" in frames else ():
            batching.leave("g", member)

    members.extend(Slow(everybody_leaves) for _ in range(3))
    for member in members:
        batching.join("g", member)
    batching.fan_out("g", b"0")
    batching.fan_out("g", b"1")
    batching.leave("g", members[1])
    assert list(batching) == []
    assert clock.getDelayedCalls() == []


# -- any mix

NAMES = "abc"
steps = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("send"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 3)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("coalesce", [0, COALESCE])
def test_empty_groups_are_removed_and_members_miss_no_frame(coalesce: float) -> None:
    """Whatever joins and leaves: groups are those that have members; members miss nothing."""

    @given(steps)
    def check(steps: list[tuple[str, str, int]]) -> None:
        clock = Clock()
        hub, expected = Hub(Batching(clock, coalesce, BUSY)), dict[str, list[int]]()
        members = [Member(), Slow(), Member(), Slow()]
        # by group, for groups do not wait for each other
        due: list[dict[str, list[bytes]]] = [{name: [] for name in NAMES} for _ in members]
        for count, (what, name, number) in enumerate(steps):
            there = expected.setdefault(name, [])
            if what == "join":
                hub.join(name, members[number])
                if number not in there:
                    there.append(number)
            elif what == "leave":
                hub.leave(name, members[number])
                if number in there:
                    there.remove(number)
            elif what == "send":
                payload = b"%s%d" % (name.encode(), count)
                assert hub.fan_out(name, payload, number) == len(there)
                for other in there:
                    due[other][name].append(payload)
            else:
                clock.advance(number / 1000)
            kept = {name: numbers for name, numbers in expected.items() if numbers}
            assert sorted(hub) == sorted(kept)
            assert len(hub) == len(kept)
            assert [hub.size(name) for name in NAMES] == [len(kept.get(name, [])) for name in NAMES]
        clock.advance(COALESCE)
        assert clock.getDelayedCalls() == []
        for member, theirs in zip(members, due, strict=True):
            for name in NAMES:
                got = [p for p in member.payloads if p.startswith(name.encode())]
                assert got == theirs[name]

    check()


def test_a_slow_member_gets_the_newest_of_each_key_and_fast_members_get_all(
    batching: Hub, clock: Clock
) -> None:
    """With real outboxes."""
    transports = [Transport(clock), Transport(clock, peer_reads=False)]
    outboxes = [build_outbox(transport, 1000, lambda: None, Drops()) for transport in transports]
    for outbox in outboxes:
        batching.join("g", outbox)
    outboxes[1].write(text_frame(b"." * BUFFER))
    keys: list[Hashable] = ["a", "b"]
    for number in range(100):
        batching.fan_out("g", b"%d" % number, keys[number % 2])
        clock.advance(COALESCE / 3)
    clock.advance(COALESCE)
    transports[1].read()
    quick, slow = ([payload for _, payload in parse_frames(t.arrived)] for t in transports)
    assert quick == [b"%d" % number for number in range(100)]
    assert sorted(slow[1:]) == [b"98", b"99"]
    assert outboxes[1].replaced == 98


def test_frames_that_wait_for_one_member_are_sent_on_request(batching: Hub, clock: Clock) -> None:
    """An answer to that member can then follow; frames for all other members stay pending."""
    here, too, there = Member(), Member(), Member()
    batching.join("here", here)
    batching.join("here", too)
    batching.join("there", there)
    for group in ("here", "there"):
        for payload in (b"0", b"1", b"2"):
            batching.fan_out(group, payload)
    batching.catch_up("here", here)
    batching.catch_up("here", there)
    batching.catch_up("nowhere", here)
    assert here.payloads == [b"0", b"1", b"2"]
    assert too.payloads == there.payloads == [b"0"]
    batching.fan_out("here", b"3")
    clock.advance(COALESCE)
    assert here.payloads == too.payloads == [b"0", b"1", b"2", b"3"]
    assert there.payloads == [b"0", b"1", b"2"]
    assert clock.getDelayedCalls() == []


# -- batches to many members

TICK = 1e-6


class Turns(Clock):
    """As a reactor has it, what is to be called without a delay comes in the next turn."""

    def callLater(  # noqa: N802
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        return super().callLater(delay or TICK, callable, *args, **kw)


def make_busy(hub: Hub, clock: Clock, members: Sequence[Slow]) -> None:
    """Puts members into a busy group: they have got a frame, `0`, and another one waits, `1`."""
    for member in members:
        hub.join("g", member)
    hub.fan_out("g", b"0")
    for _ in range(len(members) // 64 + 1):
        clock.advance(TICK)
    assert all(member.payloads for member in members)
    hub.fan_out("g", b"1")


def busy(hub: Hub, clock: Clock, count: int) -> list[Member]:
    """The members of a busy group."""
    members = [Member() for _ in range(count)]
    make_busy(hub, clock, members)
    return members


def test_a_batch_to_many_takes_turns_and_later_members_get_newer_frames_in_it() -> None:
    clock = Turns()
    batching = Hub(Batching(clock, COALESCE, BUSY))
    members = busy(batching, clock, 150)
    clock.advance(COALESCE)
    assert [len(member.payloads) for member in members] == [2] * 64 + [1] * 86
    batching.fan_out("g", b"2")
    clock.advance(TICK)
    assert [len(member.payloads) for member in members] == [2] * 64 + [3] * 64 + [1] * 22
    clock.advance(TICK)
    assert [len(member.payloads) for member in members] == [2] * 64 + [3] * 86
    # what came meanwhile makes no batch of its own for those that have it
    clock.advance(COALESCE)
    clock.advance(TICK)
    clock.advance(TICK)
    for member in members:
        assert member.payloads == [b"0", b"1", b"2"]
    assert [len(member.writes) for member in members] == [3] * 64 + [2] * 86
    assert clock.getDelayedCalls() == []
    assert batching.delivered == 450


def test_a_batch_that_a_full_one_takes_over_counts_as_load_with_all_its_turns() -> None:
    clock, cost = Turns(), 25e-6
    hub = Hub(Batching(clock, COALESCE))

    def take_time(frames: bytes) -> None:
        clock.rightNow += cost

    for _ in range(128):
        hub.join("g", Member(take_time))
    hub.fan_out("g", b"0")  # 64 members have it now, in 1.6 ms
    hub.fan_out("g", b"x" * (1 << 20))  # all members, in 3.2 ms more: above the 4 ms without a gap
    hub.fan_out("g", b"1")
    (call,) = clock.getDelayedCalls()
    assert call.getTime() - clock.seconds() > 50 * TICK


@pytest.mark.parametrize("count", [2, 4, 16])
def test_groups_that_are_served_in_turn_all_count_as_load(count: int) -> None:
    """Each is measured again after it has grown, whichever of all frames are its own."""
    clock = Turns()
    hub, members = Hub(Batching(clock, COALESCE)), dict[str, Member]()

    def take_time(frames: bytes) -> None:
        clock.rightNow += 5e-6

    for number in range(count):
        name = f"g{number}"
        members[name] = Member(take_time)
        hub.join(name, members[name])
        hub.fan_out(name, b"0")
    for name in members:
        for _ in range(59):  # a batch takes 0.3 ms now
            hub.join(name, Member(take_time))
    for _ in range(200):
        for name in members:
            hub.fan_out(name, b"1")
            clock.advance(0)
    assert max(len(member.writes) for member in members.values()) < 100


def test_a_member_that_leaves_between_two_turns_of_a_batch_gets_no_more_of_it() -> None:
    clock = Turns()
    batching = Hub(Batching(clock, COALESCE, BUSY))
    members = busy(batching, clock, 130)
    clock.advance(COALESCE)
    batching.leave("g", members[100])
    batching.fan_out("g", b"2")
    clock.pump([TICK, TICK, COALESCE, TICK, TICK])
    assert members[100].payloads == [b"0", b"1"]
    assert members[101].payloads == [b"0", b"1", b"2"]


def test_dropping_hundreds_of_members_while_they_are_served_does_no_harm(
    batching: Hub, clock: Clock
) -> None:
    """Each leaves the group, as one does that is closed for reading too slowly."""

    def leave(member: Slow, frames: bytes) -> None:
        if b"1" in frames:
            batching.leave("g", member)

    members = [Slow() for _ in range(1500)]
    for member in members:
        member._then = functools.partial(leave, member)
    last = Member()
    make_busy(batching, clock, [*members, last])
    batching.fan_out("g", b"2")
    clock.advance(COALESCE)
    assert batching.size("g") == 1
    assert last.payloads == [b"0", b"1", b"2"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("kind", [Member, Slow])
@pytest.mark.parametrize("count", [3, 100])
def test_an_exception_in_one_member_affects_no_other_member(kind: type[Slow], count: int) -> None:
    def bug(frames: bytes) -> None:
        raise RuntimeError("a bug")

    clock = Turns()
    batching = Hub(Batching(clock, COALESCE, BUSY))
    members = [kind() for _ in range(count)]
    members[1]._then = bug
    for member in members:
        batching.join("g", member)
    with logged_lines("relayd.hub") as lines:
        for number in range(4):
            batching.fan_out("g", b"%d" % number)
        for _ in range(5):
            clock.advance(COALESCE)
    for member in (members[0], *members[2:]):
        assert member.payloads == [b"0", b"1", b"2", b"3"]
    assert clock.getDelayedCalls() == []
    assert any("serving a member of a group failed" in line for line in lines)


def test_nothing_is_due_in_a_group_that_ended_during_a_batch() -> None:
    for at in (10, 100, 149):
        clock = Turns()
        batching = Hub(Batching(clock, COALESCE, BUSY))
        members = [Slow() for _ in range(150)]

        def everybody_leaves(frames: bytes, batching: Hub = batching, all: Any = members) -> None:
            for member in all if b"1" in frames else ():
                batching.leave("g", member)

        members[at]._then = everybody_leaves
        make_busy(batching, clock, members)
        clock.advance(COALESCE)
        for _ in range(3):
            clock.advance(TICK)
        assert list(batching) == []
        assert clock.getDelayedCalls() == []


def test_the_latency_counts_from_the_frame_that_came_during_a_batch() -> None:
    clock = Turns()
    batching = Hub(Batching(clock, COALESCE, BUSY))
    busy(batching, clock, 65)
    clock.advance(COALESCE)
    batching.fan_out("g", b"2")
    clock.advance(0.0005)
    before = batching.latency.total
    # 0.5 ms until the batch has ended, then the next one is due after the gap
    clock.pump([0.0001] * 70)
    assert batching.latency.total - before == pytest.approx(0.0005 + COALESCE, abs=0.0003)


class Model:
    """What each member should have got: all that was sent from its join to its leaving, once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._members = [(Member, Slow)[number % 2]() for number in range(200)]
        self._expected: list[list[bytes]] = [[] for _ in self._members]
        self._in: set[int] = set()
        self._sent = 0
        for number in range(0, 200, 3):
            self.join(number)

    def join(self, number: int) -> None:
        self._hub.join("g", self._members[number])
        self._in.add(number)

    def leave(self, number: int) -> None:
        self._hub.leave("g", self._members[number])
        self._in.discard(number)
        self.check(number)

    def catch_up(self, number: int) -> None:
        self._hub.catch_up("g", self._members[number])
        self.check(number)

    def send(self, size: int) -> None:
        payload = b"%d" % self._sent + b" " * size
        self._sent += 1
        assert self._hub.fan_out("g", payload) == len(self._in)
        for number in self._in:
            self._expected[number].append(payload)

    def check(self, number: int) -> None:
        assert self._members[number].payloads == self._expected[number]

    def check_all(self) -> None:
        for number in range(200):
            self.check(number)


numbers = st.integers(0, 199)
deeds = st.one_of(
    st.tuples(st.just("send"), st.sampled_from((0, 0, 0, 5_000, 30_000))),
    st.tuples(st.just("send"), st.just(0)),
    st.tuples(st.just("turn"), st.sampled_from((0, 0, COALESCE / 2, COALESCE))),
    st.tuples(st.sampled_from(("join", "leave", "catch_up")), numbers),
)


@settings(max_examples=300)
@given(st.lists(deeds, max_size=60))
def test_a_member_gets_each_frame_sent_during_its_membership_once_and_in_order(
    deeds: list[tuple[str, float]],
) -> None:
    clock = Turns()
    model = Model(Hub(Batching(clock, COALESCE, BUSY)))
    for deed, value in deeds:
        if deed == "turn":
            clock.advance(value or TICK)
        else:
            getattr(model, deed)(value)
    for _ in range(20):
        clock.advance(COALESCE)
    model.check_all()
    assert clock.getDelayedCalls() == []
