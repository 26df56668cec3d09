"""Counts for the metrics, made where events happen: each event once, under a known label."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.brokers.memory import MemoryGroups
from relayd.close_codes import CloseCode
from relayd.errors import ErrorCode
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.relays.camera import CameraFactory
from relayd.relays.unknown import UnknownFactory
from relayd.tally import SECONDS, Buckets, Tally
from tests.unit.fakes import World, make_world

POSE = {"x": 1, "y": 2, "z": 3}


@pytest.fixture
def world() -> Iterator[World]:
    with make_world() as (made, _):
        yield made


@pytest.fixture
def camera(world: World) -> CameraFactory:
    return CameraFactory(world.context, MemoryGroups(Hub(Batching(world.clock, 0))))


# -- buckets


@given(st.lists(st.floats(-1, 10), max_size=50))
def test_every_value_is_in_the_bucket_whose_bound_is_the_first_that_reaches_it(
    values: list[float],
) -> None:
    buckets = Buckets()
    for value in values:
        buckets.observe(value)
    for place, bound in enumerate(SECONDS):
        assert sum(buckets.counts[: place + 1]) == sum(value <= bound for value in values)
    assert sum(buckets.counts) == len(values)
    assert buckets.total == pytest.approx(sum(max(0.0, value) for value in values))


# -- close codes


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (None, "none"),
        (1000, "1000"),
        (CloseCode.TOO_SLOW, "4003"),
        (4403, "4403"),
        (1005, "other"),
        (1015, "other"),
        (3999, "other"),
        (4999, "other"),
    ],
)
def test_only_close_codes_that_are_known_have_a_label_of_their_own(
    code: int | None, label: str
) -> None:
    tally = Tally()
    tally.ended(code, code)
    assert tally.closes_sent[label] == tally.closes_received[label] == 1
    assert sum(tally.closes_sent.values()) == sum(tally.closes_received.values()) == 1


def test_arbitrary_close_codes_of_clients_share_few_labels() -> None:
    tally = Tally()
    for code in range(1000, 5000):
        tally.ended(code, code)
    assert len(tally.closes_received) < 40


def test_an_ended_connection_is_counted_once_with_both_codes(
    world: World, camera: CameraFactory
) -> None:
    leaving, closed, lost = (world.connect(camera, "/ws/camera") for _ in range(3))
    leaving.begin_close()
    closed.server.close(CloseCode.RATE_LIMIT)
    closed.pump()
    lost.transport.end()
    sent, received = world.context.tally.closes_sent, world.context.tally.closes_received
    assert {code: count for code, count in sent.items() if count} == {
        "1000": 1, "4004": 1, "none": 1
    }  # fmt: skip
    assert {code: count for code, count in received.items() if count} == {
        "1000": 1, "4004": 1, "none": 1
    }  # fmt: skip


# -- handshakes


def test_a_refused_handshake_is_counted_under_its_code(world: World) -> None:
    unknown = UnknownFactory(world.context)
    world.connect(unknown, "/ws/nothing")
    world.connect(unknown, "/ws/nothing?refuse=close").pump()
    refused = world.context.tally.refused
    assert {code: count for code, count in refused.items() if count} == {ErrorCode.NOT_FOUND: 2}
    assert world.context.tally.closes_sent["4404"] == 1
    assert unknown.opened == 0


# -- errors


def told(world: World) -> dict[tuple[str, str], int]:
    return {(kind, code.value): n for (kind, code), n in world.context.tally.errors.items()}


def test_an_error_of_each_kind_and_way_is_counted_once_under_its_path(
    world: World, camera: CameraFactory
) -> None:
    """A mistake, an error of our own, a warning, an error before a close, and a refused close."""
    client = world.connect(camera, "/ws/camera")
    client.send("{")
    client.server.send_error(ErrorCode.INTERNAL, "a test")
    client.server.notify(ErrorCode.RATE_LIMITED, "slow down")
    client.server.close(CloseCode.REPLACED)
    world.connect(UnknownFactory(world.context), "/ws/nothing?refuse=close")
    assert told(world) == {
        ("camera", "bad_json"): 1,
        ("camera", "internal_error"): 1,
        ("camera", "rate_limited"): 1,
        ("camera", "replaced"): 1,
        ("unknown", "not_found"): 1,
    }
    client.server.close(CloseCode.REPLACED)  # it is closing already, and gets nothing more
    assert sum(told(world).values()) == 5


# -- messages


def test_messages_are_counted_on_both_receive_paths(world: World, camera: CameraFactory) -> None:
    """Short text frames, binary ones and long ones; also after the connection is gone."""
    client = world.connect(camera, "/ws/camera")
    for payload in (POSE, b'{"x": 1}', {**POSE, "more": "x" * 1000}, "{"):
        client.send(payload)
    inlet = client.server.inlet
    assert camera.opened == 1
    assert (camera.messages, inlet.received_count) == (0, 4)
    assert camera.answers == 1  # the error; poses are deliveries
    client.transport.end()
    assert (camera.messages, inlet.received_count) == (4, 0)


# -- the hub


class Watcher:
    """A member during whose write time passes."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.direct: Callable[[bytes], int] | None = None
        self._clock = clock
        self._seconds = seconds

    def write_items(self, items: object, frames: bytes) -> None:
        self._clock.rightNow += self._seconds

    def interrupted(self, frames: bytes, sent: int) -> None: ...

    def broken(self) -> None: ...


def test_one_in_sixteen_frames_that_are_served_at_once_is_timed() -> None:
    clock = Clock()
    hub = Hub(Batching(clock, 0))
    hub.join("g", Watcher(clock, 0.002))
    for _ in range(32):
        hub.fan_out("g", b"{}")
    assert (hub.batches, sum(hub.latency.counts)) == (32, 2)
    assert hub.latency.total == pytest.approx(2 * 0.002)


def test_a_batch_is_timed_from_its_first_frame_to_its_last_member() -> None:
    clock = Clock()
    hub = Hub(Batching(clock, 0.005))
    for _ in range(2):
        hub.join("g", Watcher(clock, 0.001))
    hub.fan_out("g", b"{}")  # at once, and timed: the first
    assert hub.latency.total == pytest.approx(2 * 0.001)
    clock.advance(0.001)
    for _ in range(3):
        hub.fan_out("g", b"{}")
    clock.advance(0.005)
    assert (hub.delivered, hub.batches, sum(hub.latency.counts)) == (8, 2, 2)
    assert hub.latency.total == pytest.approx(2 * 0.001 + 0.005 + 2 * 0.001)
