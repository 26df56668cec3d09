"""`/ws/camera`: poses over a hub in memory."""

import json
import math
import re
from collections.abc import Callable, Iterator

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relayd import wire
from relayd.brokers.memory import MemoryGroups
from relayd.config import Auth, Config, Limits
from relayd.config import Camera as CameraConfig
from relayd.errors import ClientError
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.native.inlet import Passage
from relayd.relays.camera import CameraFactory
from tests.unit.fakes import BUFFER, OPEN, Client, World, make_world

PING = b"\x89\x00"
SECRET = "a secret of at least thirty-two bytes"


class Camera:
    """A world with the camera relay in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hub = Hub(Batching(world.clock, 0))
        self.factory = CameraFactory(world.context, MemoryGroups(self.hub))

    def connect(self, path: str = "/ws/camera", *, peer_reads: bool = True) -> Client:
        return self.world.connect(self.factory, path, peer_reads=peer_reads)


@pytest.fixture
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    param = getattr(request, "param", "latest")
    policy = CameraConfig(slow_viewers="close" if param == "close" else "latest")
    rate = 3.0 if param == "limited" else 0.0
    config = Config(camera=policy, limits=Limits(send_buffer=1000, messages_per_second=rate))
    with make_world(config) as (world, _):
        camera = Camera(world)
        yield camera
        world.end()
        assert list(camera.hub) == []


def test_a_pose_is_delivered_once_to_every_member_including_its_sender(camera: Camera) -> None:
    clients = [camera.connect() for _ in range(3)]
    other = camera.connect("/ws/camera/other")
    clients[0].send('{"x":0.5,"y":1.25,"z":-3,"w":9}')
    assert [client.payloads() for client in clients] == [[b'{"x":0.5,"y":1.25,"z":-3}']] * 3
    assert other.frames() == []


def test_poses_come_in_the_order_in_which_they_were_sent(camera: Camera) -> None:
    sender, viewer = camera.connect(), camera.connect()
    for x in range(50):
        sender.send({"x": x})
    assert [pose["x"] for pose in viewer.objects()] == list(range(50))


@pytest.mark.parametrize("path", ["/ws/camera/", "/ws/camera/Camera_group", "/ws/camera?a=b"])
def test_the_group_without_a_name_is_camera_group(camera: Camera, path: str) -> None:
    sender, viewer = camera.connect(), camera.connect(path)
    sender.send({"x": 1})
    assert viewer.objects() == [{"x": 1, "y": None, "z": None}]


@pytest.mark.parametrize(
    ("payload", "code"), [("{", "bad_json"), ("[]", "bad_json"), ('{"x":"1"}', "bad_pose")]
)
def test_a_bad_pose_is_answered_to_its_sender_alone(
    camera: Camera, payload: str, code: str
) -> None:
    sender, viewer = camera.connect(), camera.connect()
    sender.send(payload)
    assert [answer["error"] for answer in sender.objects()] == [code]
    sender.send({"x": 1})
    assert len(viewer.frames()) == 1


@pytest.mark.parametrize("payload", ["", " \r\n\u2003", b"", b"\t"])
def test_a_blank_frame_is_ignored(camera: Camera, payload: str | bytes) -> None:
    sender = camera.connect()
    sender.send(payload)
    assert sender.frames() == []


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/ws/camera/a%20b", (400, "bad_name")),
        ("/ws/camera/" + "a" * 101, (400, "bad_name")),
        ("/ws/camera/a;b", (400, "bad_name")),
        ("/ws/camera/a/b", (404, "not_found")),
    ],
)
def test_a_path_that_names_no_group_is_refused(
    camera: Camera, path: str, refusal: tuple[int, str]
) -> None:
    assert camera.connect(path).refusal == refusal
    assert list(camera.hub) == []


def test_a_member_that_left_gets_nothing_and_an_empty_group_does_not_stay(camera: Camera) -> None:
    sender, leaver = camera.connect(), camera.connect()
    leaver.begin_close()
    assert camera.hub.size("camera/Camera_group") == 1
    sender.begin_close()
    assert list(camera.hub) == []


def test_a_viewer_that_falls_behind_gets_the_newest_pose_of_each_sender(camera: Camera) -> None:
    first, second = camera.connect(), camera.connect()
    slow = camera.connect(peer_reads=False)
    slow.server.send(PING * (BUFFER // len(PING) + 1))
    for x in range(100):
        first.send({"x": x})
        second.send({"x": -x})
    slow.transport.read()
    slow.pump()
    assert [pose["x"] for pose in slow.objects()] == [99, -99]
    assert slow.server.outbox.replaced == 198
    assert len(first.objects()) == len(second.objects()) == 200


def test_a_viewer_that_asks_gets_the_name_of_each_sender_and_the_others_what_they_always_got(
    camera: Camera,
) -> None:
    senders, plain = [camera.connect(), camera.connect()], camera.connect("/ws/camera?senders=0")
    asking, asking_too = (camera.connect("/ws/camera?senders=1") for _ in range(2))
    for x in range(4):
        senders[x % 2].send({"x": x})
    poses = asking.objects()
    assert poses == asking_too.objects()
    names = [pose.pop("sender") for pose in poses]
    assert all(re.fullmatch("[0-9a-f]{12}", name) for name in names)
    assert names[:2] == names[2:]
    assert names[0] != names[1]
    assert poses == plain.objects() == [{"x": x, "y": None, "z": None} for x in range(4)]


def test_poses_are_encoded_with_names_only_while_the_group_has_a_viewer_that_asks(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[bytes] = []
    add_sender = wire.add_sender

    def count(payload: bytes, sender: str | None) -> bytes:
        named.append(payload)
        return add_sender(payload, sender)

    monkeypatch.setattr(wire, "add_sender", count)
    sender = camera.connect()
    camera.connect("/ws/camera/other?senders=1")
    sender.send({"x": 1})
    assert named == []
    asking = [camera.connect("/ws/camera?senders=1") for _ in range(3)]
    sender.send({"x": 2})
    assert [json.loads(payload)["x"] for payload in named] == [2]
    for viewer in asking:
        viewer.begin_close()
    sender.send({"x": 3})
    assert len(named) == 1
    assert camera.hub.size("camera/Camera_group") == 1


def test_a_pose_that_no_connection_sent_has_no_name(camera: Camera) -> None:
    viewer = camera.connect("/ws/camera?senders=1")
    camera.hub.fan_out("camera/Camera_group", b'{"x":1}')
    assert viewer.objects() == [{"x": 1, "sender": None}]


@pytest.mark.parametrize("value", ["", "2", "true", "1%20"])
def test_senders_is_0_or_1(camera: Camera, value: str) -> None:
    assert camera.connect(f"/ws/camera?senders={value}").refusal == (400, "bad_request")


def test_a_slow_viewer_that_asked_gets_the_newest_pose_of_each_sender_with_its_name(
    camera: Camera,
) -> None:
    first, second = camera.connect(), camera.connect()
    slow = camera.connect("/ws/camera?senders=1", peer_reads=False)
    slow.server.send(PING * (BUFFER // len(PING) + 1))
    for x in range(100):
        first.send({"x": x})
        second.send({"x": -x})
    slow.transport.read()
    slow.pump()
    poses = slow.objects()
    assert [pose["x"] for pose in poses] == [99, -99]
    assert len({pose["sender"] for pose in poses}) == 2


@pytest.mark.parametrize("camera", ["close"], indirect=True)
def test_a_viewer_that_falls_behind_leaves_while_it_is_served(camera: Camera) -> None:
    """The next member of the group is served nevertheless."""
    sender, slow, viewer = camera.connect(), camera.connect(peer_reads=False), camera.connect()
    slow.server.send(b"." * (BUFFER + 1))
    for x in range(100):
        sender.send({"x": x})
    assert len(viewer.objects()) == len(sender.objects()) == 100
    assert camera.hub.size("camera/Camera_group") == 2


_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([1])
)
_almost = st.dictionaries(st.sampled_from(["x", "y", "z", "é", ""]), _values).map(
    lambda pose: json.dumps(pose, ensure_ascii=False)
)


@given(st.one_of(_almost, st.text(alphabet='{}[]":,.0123456789eExyz \n\u3000-', max_size=125)))
@example("")
@example("\u3000")
@example('{"x":-0,"y":-0.0,"z":1e-0}')
@example('{"x":-0}')
@example('{"-0":-0,"x":"-0","y":-00,"z":-0')
@example('{"x": ' + "9" * 118 + "}")
def test_the_short_path_has_the_same_effect_as_the_long_one(text: str) -> None:
    """The payloads are all that a short frame may hold: at most 125 bytes, well-formed UTF-8."""
    payload = text.encode("utf-8", "surrogatepass")[:125]
    try:
        payload.decode()
    except UnicodeDecodeError:
        return

    def received(payload: bytes, is_binary: bool) -> None:
        pose = wire.decode_pose(payload)
        if pose is not None:
            published.append(wire.encode(pose))

    def outcome(take: Callable[[bytes, bool], None]) -> tuple[list[bytes], str | None]:
        published.clear()
        try:
            take(payload, False)
        except ClientError as error:
            return [], error.code
        return list(published), None

    published: list[bytes] = []
    short = Passage(wire.decode_short_pose, wire.encode, published.append, received)
    assert outcome(short) == outcome(received)


@pytest.mark.parametrize("length", [0, 400])
def test_numbers_come_out_with_the_same_value_and_sign(camera: Camera, length: int) -> None:
    """The first pose takes the long path, the next ones the short path unless they are long."""
    sender = camera.connect()
    values = ["-0", "-0.0", "-0e1", "0", "-3e2", "1E-05", "0.1", "9007199254740993", "-0.5"]
    for value in values:
        sender.send(f'{{"x":{value},"y":-0 ,"z":1e-0,"left out":"{"-0" * length}"}}')
    for value, payload in zip(values, sender.payloads(), strict=True):
        pose = json.loads(payload)
        x = json.loads(value)
        assert pose["x"] == x
        assert math.copysign(1, pose["x"]) == math.copysign(1, float(value)), value
        assert (pose["y"], math.copysign(1, pose["y"]), pose["z"]) == (0, -1, 1)


def test_every_pose_except_the_first_takes_the_short_path(camera: Camera) -> None:
    sender = camera.connect()
    inlet = sender.server._inlet
    assert inlet.receive == sender.server.received
    sender.send({"x": 1})
    assert isinstance(inlet.receive, Passage)
    sender.send({"x": 2})
    sender.send({"x": "3"})
    first, second, error = sender.objects()
    assert [first["x"], second["x"], error["error"]] == [1, 2, "bad_pose"]


@pytest.mark.parametrize("camera", ["limited"], indirect=True)
def test_poses_on_the_short_path_count_towards_the_rate(camera: Camera) -> None:
    sender = camera.connect()
    for x in range(14):  # those of two seconds, a warning, as many again, and one more
        sender.send({"x": x})
    assert isinstance(sender.server._inlet.receive, Passage)
    assert sender.closed()[0] == 4004


# Rights


def bearer(right: str) -> dict[str, str]:
    """The header of a token with one right."""
    return {"Authorization": f"Bearer {jwt.encode({'rights': [right]}, SECRET)}"}


@pytest.fixture
def guarded() -> Iterator[Camera]:
    """A camera relay that knows tokens."""
    with make_world(Config(auth=Auth(secret=SECRET))) as (world, _):
        yield Camera(world)
        world.end()


def enter(camera: Camera, right: str) -> Client:
    return camera.world.connect(camera.factory, "/ws/camera/s", headers=bearer(right))


def test_a_client_that_may_not_send_is_told_so_and_sees_the_others(guarded: Camera) -> None:
    viewer, sender = enter(guarded, "camera/s:view"), enter(guarded, "camera/s")
    for _ in range(2):  # also once the sender has its passage
        viewer.send({"x": 1})
        (error,) = viewer.objects()
        assert (error["error"], set(error)) == ("forbidden", {"error", "message"})
        sender.send({"x": 2})
        assert [client.objects()[0]["x"] for client in (viewer, sender)] == [2, 2]
    assert viewer.closed() == sender.closed() == OPEN


def test_a_client_that_may_not_view_gets_its_own_poses_alone(guarded: Camera) -> None:
    blind, seer = enter(guarded, "camera/s:send"), enter(guarded, "camera/*")
    for x in range(3):
        blind.send({"x": x})
        seer.send({"x": -x})
        assert [each["x"] for each in seer.objects()] == [x, -x]
        assert [each["x"] for each in blind.objects()] == [x]
    blind.send("no json")
    assert blind.objects()[0]["error"] == "bad_json"


def test_two_rights_for_one_group_give_both_directions(guarded: Camera) -> None:
    token = jwt.encode({"rights": ["camera/s:send", "camera/*:view"]}, SECRET)
    headers = {"Authorization": f"Bearer {token}"}
    both = guarded.world.connect(guarded.factory, "/ws/camera/s", headers=headers)
    both.send({"x": 1})
    assert [each["x"] for each in both.objects()] == [1]
