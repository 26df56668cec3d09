"""`/sse/...`: the same relays for clients of server-sent events, over transports in memory."""

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from relayd.brokers.memory import MemoryGroups
from relayd.config import Api, Auth, Config, Keepalive, Limits, Server
from relayd.event_stream import encode_event, read_events
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.relays.camera import CameraFactory
from relayd.relays.echo import EchoFactory
from relayd.relays.push import PushFactory
from tests.unit.fakes import FakeObserver, Transport, World, make_world

SECRET = "a secret of at least thirty-two bytes"
CONFIG = Config(
    auth=Auth(secret=SECRET),
    server=Server(allowed_origins=("https://app.example",)),
    api=Api(allowed_origins=("https://app.example",)),
    limits=Limits(send_buffer=10_000, max_connections=3),
    keepalive=Keepalive(ping_interval=20, pong_timeout=10, close_timeout=5),
)


def parse(stream: str) -> list[dict[str, str]]:
    """Events by the algorithm of the WHATWG (HTML, section 9.2.6), without comments."""
    events = []
    for block in stream.split("\n\n")[:-1]:
        event: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = f"{event[name]}\n{value}" if name in event else value
        if "data" in event:
            events.append(event)
    return events


class Reader:
    """A client of events."""

    def __init__(self, world: World, factory: Any, target: str, *fields: str, **options: Any):
        self._world = world
        self.transport = Transport(world.clock, **options)
        self.server = factory.build_events()
        self.transport.protocol = self.server
        self.server.makeConnection(self.transport)
        head = [f"GET {target} HTTP/1.1", "Host: relay.example", *fields, "", ""]
        self.transport.deliver("\r\n".join(head).encode())
        world.clock.advance(0)

    @property
    def head(self) -> list[str]:
        """Status line and fields."""
        return self.transport.arrived.decode().partition("\r\n\r\n")[0].split("\r\n")

    @property
    def status(self) -> int:
        return int(self.head[0].split()[1])

    @property
    def body(self) -> str:
        return self.transport.arrived.decode().partition("\r\n\r\n")[2]

    @property
    def payloads(self) -> list[Any]:
        """The JSON of all events without a name."""
        return [json.loads(each["data"]) for each in parse(self.body) if "event" not in each]

    @property
    def named(self) -> dict[str, dict[str, str]]:
        """The last event of each name."""
        return {each["event"]: each for each in parse(self.body) if "event" in each}


class Scene:
    """Relays in one process, and clients of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hub = Hub(Batching(world.clock, 0))
        groups = MemoryGroups(self.hub)
        self.camera = CameraFactory(world.context, groups)
        self.push = PushFactory(world.context, groups)
        self.echo = EchoFactory(world.context)
        self.readers: list[Reader] = []

    def read(self, target: str, *fields: str, **options: Any) -> Reader:
        factory = self.push if target.startswith("/sse/push") else self.camera
        reader = Reader(self.world, factory, target, *fields, **options)
        self.readers.append(reader)
        return reader


@pytest.fixture
def scene() -> Iterator[Scene]:
    with make_world(CONFIG) as (world, _):
        scene = Scene(world)
        yield scene
        for transport in [client.transport for client in world.clients] + [
            reader.transport for reader in scene.readers
        ]:
            transport.end()
        assert list(scene.hub) == []


def token(**claims: Any) -> str:
    return jwt.encode(claims, SECRET, "HS256")


# The form of an event


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b'{"x":1}', b'data: {"x":1}\n\n'),
        (b'{"id":7,"x":1}', b'id: 7\ndata: {"id":7,"x":1}\n\n'),
        (b'{"id":"7"}', b'data: {"id":"7"}\n\n'),
        (b'{"id":-1}', b'data: {"id":-1}\n\n'),
        (b'{\n"a":\r\n1\r}', b'data: {\ndata: "a":\ndata: 1\ndata: }\n\n'),
    ],
)
def test_a_payload_is_an_event_with_its_id_and_a_line_for_each_of_its_lines(
    payload: bytes, event: bytes
) -> None:
    assert encode_event(payload) == event
    (found,) = parse(event.decode())
    assert json.loads(found["data"]) == json.loads(payload)


def test_events_that_were_sent_are_read_again_for_a_trace() -> None:
    sent = b"event: hello\nretry: 5\ndata: {}\n\n:\n\n" + encode_event(b'{"a":\n1}')
    assert read_events(sent) == [("hello", b"{}"), ("comment", b""), ("message", b'{"a":\n1}')]


# A stream


def test_a_viewer_gets_hello_and_then_the_same_poses_as_one_of_websocket(scene: Scene) -> None:
    camera = scene.world.connect(scene.camera, "/ws/camera/stage")
    viewer = scene.read("/sse/camera/stage")
    named = scene.read("/sse/camera/stage/?senders=1")
    camera.send({"x": 1, "y": 2.5})
    camera.send({"z": -3})
    assert viewer.head[0] == "HTTP/1.1 200 OK"
    assert "Content-Type: text/event-stream; charset=utf-8" in viewer.head
    assert {"Cache-Control: no-store", "X-Accel-Buffering: no"} <= {*viewer.head}
    assert json.loads(viewer.named["hello"]["data"])["heartbeat"] == 20
    assert 1000 <= int(viewer.named["hello"]["retry"]) <= 5000
    assert viewer.payloads == camera.objects() == [
        {"x": 1, "y": 2.5, "z": None}, {"x": None, "y": None, "z": -3},
    ]  # fmt: skip
    assert [set(pose) for pose in named.payloads] == [{"x", "y", "z", "sender"}] * 2


def test_bytes_behind_a_request_are_dropped(scene: Scene) -> None:
    viewer = scene.read("/sse/push/job")
    viewer.transport.deliver(b"GET / HTTP/1.1\r\n\r\n" * 3)
    scene.hub.fan_out("push/job", b'{"percent":\n4}')
    assert viewer.payloads == [{"percent": 4}]
    assert viewer.body.count("\n\n") == 2


def test_a_kind_that_is_not_fanned_out_has_no_events(scene: Scene) -> None:
    assert scene.echo.build_events() is None


def test_a_reader_counts_as_a_connection_and_is_logged_and_observed_as_one(scene: Scene) -> None:
    viewer = scene.read("/sse/push/job")
    assert scene.world.context.connections.counts() == {"push": 1}
    observer = viewer.server.observer = FakeObserver()
    scene.hub.fan_out("push/job", b"{}")
    assert observer.events == [("sent", b"data: {}\n\n", False)]
    viewer.transport.end()
    assert scene.world.context.connections.counts() == {}


# Refusals


def test_a_reader_is_refused_as_a_websocket_is(scene: Scene) -> None:
    for target, fields, status, code in [
        ("/sse/push/job?token=wrong&refuse=close", [], 401, "unauthorized"),
        (f"/sse/push/job?token={token(scope='push/other')}", [], 403, "forbidden"),
        ("/sse/push/%20", [], 400, "bad_name"),
        ("/sse/push/a/b", [], 404, "not_found"),
        ("/sse/camera/a?senders=2", [], 400, "bad_request"),
        ("/sse/push/job", ["Origin: https://evil.example"], 403, "origin_not_allowed"),
        ("/sse/push/job", ["no colon"], 400, "bad_request"),
        ("/sse/push/job", ["Host: other.example"], 400, "bad_request"),
    ]:
        reader = scene.read(target, *fields)
        assert (reader.status, json.loads(reader.body)["error"]) == (status, code), target
        assert reader.transport.disconnecting
    assert scene.world.context.connections.counts() == {}


def test_a_token_that_lets_a_client_only_send_is_of_no_use_to_a_reader(scene: Scene) -> None:
    refused = scene.read(f"/sse/camera/a?token={token(scope='camera/*:send')}")
    assert refused.status == 403
    bearer = f"Authorization: Bearer {token(scope='camera/*:view')}"
    assert scene.read("/sse/camera/a", bearer).status == 200


def test_readers_count_in_the_limit_of_connections(scene: Scene) -> None:
    statuses = [scene.read("/sse/push/job").status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_a_drained_server_refuses_readers_with_retry_after(scene: Scene) -> None:
    scene.world.context.admission.drain()
    refused = scene.read("/sse/push/job")
    assert refused.status == 503
    assert any(line.startswith("Retry-After: ") for line in refused.head)


def test_pages_of_the_allowed_origins_may_read_events_and_refusals(scene: Scene) -> None:
    for target, status in (("/sse/push/job", 200), ("/sse/push/job?token=x", 401)):
        reader = scene.read(target, "Origin: https://app.example")
        assert reader.status == status
        assert "Access-Control-Allow-Origin: https://app.example" in reader.head
        assert "Vary: Origin" in reader.head
    assert not any("Allow-Origin" in line for line in scene.read("/sse/push/job").head)


# The end


def test_a_close_is_an_event_that_says_the_code_and_when_to_connect_again(scene: Scene) -> None:
    reader = scene.read("/sse/push/job")
    scene.hub.fan_out("push/job", b'{"percent":100}')
    reader.server.close(1001, "restart")
    assert json.loads(reader.named["close"]["data"]) == {"code": 1001, "reason": "restart"}
    assert reader.payloads == [{"percent": 100}]
    assert reader.transport.disconnecting
    kicked = scene.read("/sse/push/job")
    kicked.server.close(4242, "enough")
    assert kicked.payloads[-1]["error"] == "kicked"
    assert int(kicked.named["close"]["retry"]) >= 60_000


def test_a_token_that_expires_ends_its_stream(scene: Scene) -> None:
    exp = scene.world.context.admission.now() + 30
    reader = scene.read(f"/sse/push/job?token={token(exp=exp)}")
    scene.world.clock.pump([10] * 15)
    assert [each["error"] for each in reader.payloads] == ["token_expired"]
    assert json.loads(reader.named["close"]["data"])["code"] == 4005


def test_a_reader_that_does_not_read_is_closed_when_too_much_waits_for_it(scene: Scene) -> None:
    reader = scene.read("/sse/push/job", peer_reads=False)
    for number in range(100):
        scene.hub.fan_out("push/job", b'{"n":%d,"text":"%b"}' % (number, b"x" * 1000))
    assert reader.server.localCloseCode == 4003
    reader.transport.read()
    assert json.loads(reader.named["close"]["data"])["code"] == 4003
    assert reader.payloads[-1]["error"] == "too_slow"


def test_a_silent_stream_has_heartbeats_and_goes_on(scene: Scene) -> None:
    scene.world.context.keepalive.start()
    reader = scene.read("/sse/push/job")
    scene.world.clock.pump([1] * 100)
    scene.world.context.keepalive.stop()
    assert reader.body.count(":\n\n") == 4
    assert not reader.transport.disconnecting


def test_a_reader_that_asks_for_heartbeats_gets_them_as_events_behind_hello(scene: Scene) -> None:
    scene.world.context.keepalive.start()
    reader = scene.read("/sse/push/job?heartbeat=1")
    assert [each.get("event") for each in parse(reader.body)] == ["hello", None]
    scene.world.clock.pump([1] * 100)
    scene.world.context.keepalive.stop()
    assert reader.payloads == [{"status": "heartbeat", "seconds": 22.0}] * 5
