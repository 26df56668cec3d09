"""The operator's view of a process: selections, merges, rates, streams, traces; no I/O."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from relayd.brokers.memory import MemoryGroups
from relayd.config import Config, Control
from relayd.control import connections as clients
from relayd.control import messages, trace
from relayd.control.address import ControlError, check_length, find_place, of_worker
from relayd.control.messages import Client, Kick, Listing, Pair, Room, Selection
from relayd.control.process import check_kick
from relayd.control.rates import INTERVAL, Rates
from relayd.errors import Refusal
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.relays.camera import CameraFactory
from relayd.web.answers import Stream
from relayd.web.stream import LineWriter
from tests.unit.fakes import World, make_world, mask_frame

# -- where the socket is


@pytest.mark.parametrize(
    ("chosen", "folder", "path"),
    [
        ("", "", "var/control.sock"),
        ("", "/run/relayd", "/run/relayd/control.sock"),
        ("", "/run/relayd:/run/other", "/run/relayd/control.sock"),
        ("/tmp/a.sock", "/run/relayd", "/tmp/a.sock"),
    ],
)
def test_the_socket_path_follows_from_the_configuration_and_systemd(
    chosen: str, folder: str, path: str
) -> None:
    config = Config(control=Control(socket=chosen))
    place = find_place(config, {"RUNTIME_DIRECTORY": folder} if folder else {})
    assert place is not None
    assert (str(place.path), place.chosen) == (path, bool(chosen))


def test_off_means_no_socket_and_a_worker_has_one_beside_its_parent() -> None:
    assert find_place(Config(control=Control(socket="off")), {}) is None
    place = find_place(Config(), {})
    assert place is not None
    assert str(of_worker(place, 12).path) == "var/control-w12.sock"


def test_the_path_of_a_unix_socket_has_at_most_107_bytes() -> None:
    check_length(Path("x" * 107))
    with pytest.raises(ControlError, match="108 bytes"):
        check_length(Path("x" * 108))


# -- what is shown


def client(id: str, **more: Any) -> Client:
    """A connection, boring but for what is given."""
    values: dict[str, Any] = {
        "kind": "camera", "path": "/ws/camera", "peer": "127.0.0.1:1", "user": None, "since": 1.0,
        "messages": 0, "waiting": 0, "replaced": 0, "closing": False,
    }  # fmt: skip
    return Client(id=id, **{**values, **more})


def order(found: list[Client]) -> list[str]:
    return [each.id for each in found]


def test_ids_are_sorted_as_numbers_within_each_worker() -> None:
    some = [client(id) for id in ("w10-c1", "w2-c10", "w2-c9")]
    assert order(messages.in_order(some, Selection())) == ["w2-c9", "w2-c10", "w10-c1"]


def test_numeric_columns_are_sorted_in_descending_order_and_cut_at_the_limit() -> None:
    some = [client("c1", waiting=5), client("c2", waiting=7), client("c3")]
    assert order(messages.in_order(some, Selection(sort="waiting", limit=2))) == ["c2", "c1"]
    some = [client("c1", user="b"), client("c2"), client("c3", user="a")]
    assert order(messages.in_order(some, Selection(sort="user"))) == ["c2", "c3", "c1"]


@pytest.mark.parametrize("peer", ["127.0.0.1:1", "127.0.0.1"])
def test_a_peer_is_found_with_and_without_its_port(peer: str) -> None:
    assert clients._fits(client("c1"), Selection(peer=peer))
    assert not clients._fits(client("c1"), Selection(peer="127.0.0.2"))
    assert not clients._fits(client("c1"), Selection(peer="127.0.0"))


def test_an_ipv6_peer_is_found_with_and_without_brackets() -> None:
    six = client("c1", peer="[2001:db8::1]:77")
    for peer in ("[2001:db8::1]:77", "[2001:db8::1]", "2001:db8::1"):
        assert clients._fits(six, Selection(peer=peer))
    assert clients._fits(client("c1", peer="2001:db8::1"), Selection(peer="2001:db8::1"))


def test_rooms_and_pairs_of_several_processes_are_summed() -> None:
    one = Listing(found=[Room(group="chat/a", members=2)], total=1)
    two = Listing(
        found=[Room(group="camera/b", members=1), Room(group="chat/a", members=3)], total=2
    )
    rooms = messages.merge_rooms([one, two], [3])
    assert [(each.group, each.members) for each in rooms.found] == [("camera/b", 1), ("chat/a", 5)]
    assert (rooms.total, rooms.missing) == (2, [3])
    headset = Listing(found=[Pair(uuid="u", headset=True, phone=False)], total=1)
    phone = Listing(found=[Pair(uuid="u", headset=False, phone=True)], total=1)
    (pair,) = messages.merge_pairs([headset, phone], []).found
    assert (pair.headset, pair.phone) == (True, True)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_kick_accepts_codes_that_a_server_may_send(code: int) -> None:
    check_kick(Kick(ids=[], code=code, reason="ü" * 61))


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1])
def test_kick_refuses_codes_that_a_server_may_not_send(code: int) -> None:
    with pytest.raises(Refusal):
        check_kick(Kick(ids=[], code=code))


def test_rates_are_those_of_the_last_interval() -> None:
    clock, counts = Clock(), {"frames": 0}
    rates = Rates(clock, lambda: dict(counts))
    rates.start()
    assert rates["frames"] == 0
    counts["frames"] = 30
    clock.advance(INTERVAL)
    assert rates["frames"] == 10
    clock.advance(INTERVAL)
    assert rates["frames"] == 0
    rates.stop()


# -- streams


class FakeRequest:
    """What a stream needs of a request of twisted.web."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.finished = False
        self.gone: list[Callable[[Any], Any]] = []

    def setResponseCode(self, code: int) -> None:  # noqa: N802
        assert code == 200

    def setHeader(self, name: str, value: str) -> None:  # noqa: N802
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming

    def unregisterProducer(self) -> None:
        pass

    def notifyFinish(self) -> "FakeRequest":  # noqa: N802
        return self

    def addErrback(self, call: Callable[[Any], Any]) -> None:  # noqa: N802
        self.gone.append(call)

    def write(self, data: bytes) -> None:
        self.lines.extend(json.loads(line) for line in data.splitlines())

    def finish(self) -> None:
        self.finished = True


def test_a_stream_that_is_not_read_reports_how_much_was_left_out() -> None:
    request, closed = FakeRequest(), list[int]()
    writer = LineWriter(request)
    writer.run(Stream(lambda sink: lambda: closed.append(1)))
    writer.write(b"1")
    writer.pauseProducing()
    writer.write(b"2")
    writer.write(b"3")
    writer.resumeProducing()
    writer.write(b"4")
    assert request.lines == [1, {"event": "left_out", "lines": 2}, 4]
    writer.end()
    writer.write(b"5")
    assert (request.lines[-1], request.finished, closed) == (4, True, [1])


def test_a_disconnecting_client_ends_its_stream_once() -> None:
    request, closed = FakeRequest(), list[int]()
    writer = LineWriter(request)
    writer.run(Stream(lambda sink: lambda: closed.append(1)))
    request.gone[0](None)
    writer.end()
    writer.write(b"1")
    assert (request.lines, request.finished, closed) == ([], False, [1])


# -- traces


class Listener:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ended = False

    def write(self, line: bytes) -> None:
        self.events.append(json.loads(line))

    def end(self) -> None:
        self.ended = True

    def take(self) -> list[tuple[str, str]]:
        """Events and types since the last time."""
        taken, self.events = self.events, []
        return [(each["event"], each.get("type", "")) for each in taken]


@pytest.fixture
def world() -> Iterator[World]:
    with make_world() as (world, _):
        yield world


def test_a_trace_is_attached_to_a_connection_and_detached_again(world: World) -> None:
    hub = Hub(Batching(world.clock, 0.0))
    client = world.connect(CameraFactory(world.context, MemoryGroups(hub)), "/ws/camera")
    server = client.server
    taking = server.inlet.receive
    one, two = Listener(), Listener()
    close_one = trace.trace(server, lambda: 7.0).open(one)
    close_two = trace.trace(server, lambda: 7.0).open(two)
    assert (one.take(), two.take()) == ([("begin", "")],) * 2
    for _ in range(2):  # from the second pose on there is a shorter way
        client.send({"x": 1})
        assert one.take() == two.take() == [("in", "text"), ("out", "text")]
    close_one()
    client.send("no pose")
    assert two.events[0]["text"] == "no pose"
    assert two.take() == [("in", "text"), ("out", "text")]
    close_two()
    client.send({"x": 1})
    assert (one.take(), two.take()) == ([], [])
    assert server.observer is server.inlet.observer is server.outbox.observer is None
    assert server.inlet.receive != taking  # the shorter way, which was found meanwhile
    assert len(client.payloads()) == 4


def test_a_trace_shows_pings_pongs_and_both_closes_in_their_order(world: World) -> None:
    hub = Hub(Batching(world.clock, 0.0))
    client = world.connect(CameraFactory(world.context, MemoryGroups(hub)), "/ws/camera")
    listener = Listener()
    trace.trace(client.server, lambda: 7.0).open(listener)
    client.transport.deliver(mask_frame(9, b"there?") + mask_frame(10, b"here"))
    client.send(b"x" * 300)  # not the short way
    client.send(b"\0")  # binary
    client.begin_close()
    client.transport.end()
    assert [(each["event"], each.get("type", "")) for each in listener.events] == [
        ("begin", ""),
        ("in", "ping"),
        ("out", "pong"),
        ("in", "pong"),
        ("in", "binary"),
        ("out", "text"),
        ("in", "binary"),
        ("out", "text"),
        ("in", "close"),
        ("out", "close"),
        ("ended", ""),
    ]
    assert listener.events[1]["text"] == listener.events[2]["text"] == "there?"


def test_a_trace_ends_with_its_connection(world: World) -> None:
    hub = Hub(Batching(world.clock, 0.0))
    client = world.connect(CameraFactory(world.context, MemoryGroups(hub)), "/ws/camera")
    listener = Listener()
    close = trace.trace(client.server, lambda: 7.0).open(listener)
    client.server.close(4000, "enough")
    client.pump()
    client.transport.end()
    assert ("out", "close") in listener.take()
    assert listener.ended
    close()
    assert client.server.observer is None
