"""`/ws/camera[/{group}]` as its clients see it, on a spawned relayd."""

import itertools
import json
import threading

import pytest

from tests.daemon import Daemon
from tests.integration.clients import Refused, read, read_many, read_rest, say, settle
from tests.integration.conftest import Connect

_names = (f"camera-{number}" for number in itertools.count())


@pytest.fixture
def group() -> str:
    """The path of a group of the test's own."""
    return f"/ws/camera/{next(_names)}"


def test_poses_reach_every_member_once_in_order(
    relayd: Daemon, connect: Connect, group: str
) -> None:
    """Acceptance 2: 200 poses of a sender come to it and two viewers, each once and in order."""
    sender, *viewers = (connect(relayd, group) for _ in range(3))
    poses = [{"x": number / 7, "y": number, "z": -number} for number in range(200)]
    for pose in poses:
        say(sender, pose)
    assert read_rest(sender, *viewers) == [poses] * 3


def test_poses_of_each_sender_keep_their_order(
    relayd: Daemon, connect: Connect, group: str
) -> None:
    """Four senders at once: everyone gets every pose once, those of one sender in its order."""
    senders = [connect(relayd, group) for _ in range(4)]

    def send(number: int) -> None:
        for step in range(100):
            say(senders[number], {"x": number, "y": step})

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for frames in read_rest(*senders):
        assert len(frames) == 400
        for number in range(4):
            assert [f["y"] for f in frames if f["x"] == number] == list(range(100))


@pytest.mark.parametrize(
    "pose", ['{"x":1}', '{"x":1,"y":null}', '{"z":null,"x":1}', ' {"x" : 1, "other": [1]} ']
)
def test_a_missing_coordinate_is_null_and_unknown_members_are_left_out(
    relayd: Daemon, connect: Connect, group: str, pose: str
) -> None:
    sender, viewer = connect(relayd, group), connect(relayd, group)
    sender.send(pose)
    assert read_rest(sender, viewer) == [[{"x": 1, "y": None, "z": None}]] * 2


def test_compact_frame_has_the_three_members_in_order(
    relayd: Daemon, connect: Connect, group: str
) -> None:
    """Acceptance 2: `{"x":1}` comes out as `{"x":1,"y":null,"z":null}`, byte for byte."""
    sender = connect(relayd, group)
    sender.send('{"x":1}')
    assert sender.recv(timeout=10) == '{"x":1,"y":null,"z":null}'


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ('{"x":"a"}', "bad_pose"),
        ('{"x":"1"}', "bad_pose"),
        ('{"y":true}', "bad_pose"),
        ('{"z":[1]}', "bad_pose"),
        ('{"z":{}}', "bad_pose"),
        ("[1]", "bad_json"),
        ("1", "bad_json"),
        ("null", "bad_json"),
        ('"x"', "bad_json"),
        ('{"x":1', "bad_json"),
        ('{"x":1} {"x":2}', "bad_json"),
        ('{"x":NaN}', "bad_json"),
        ("hello", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'{"x":1,"n":"\xff"}', "bad_json"),
    ],
)
def test_bad_input_is_answered_to_its_sender_alone(
    relayd: Daemon, connect: Connect, group: str, frame: str | bytes, error: str
) -> None:
    sender, viewer = connect(relayd, group), connect(relayd, group)
    sender.send(frame)
    answer = read(sender)
    assert answer["error"] == error
    assert set(answer) == {"error", "message"}
    assert answer["message"].endswith(".")
    say(sender, {"x": 1})  # and the connection goes on
    assert read_rest(sender, viewer) == [[{"x": 1, "y": None, "z": None}]] * 2


def test_binary_frames_are_read_and_answered_in_text(
    relayd: Daemon, connect: Connect, group: str
) -> None:
    """NativeWebSocket's `Send(bytes)` sends binary frames."""
    sender, viewer = connect(relayd, group), connect(relayd, group)
    sender.send(b'{"x":0.5,"y":1.25,"z":-3}')
    assert read(sender) == read(viewer) == {"x": 0.5, "y": 1.25, "z": -3}


@pytest.mark.parametrize("blank", ["", " ", "\r\n\t ", "\u00a0\u2003", b"", b" \n"])
def test_blank_frame_is_ignored(
    relayd: Daemon, connect: Connect, group: str, blank: str | bytes
) -> None:
    sender = connect(relayd, group)
    sender.send(blank)
    say(sender, {"x": 1})
    assert read_rest(sender) == [[{"x": 1, "y": None, "z": None}]]


@pytest.mark.parametrize(
    "number",
    [
        "1.0",
        "1e2",
        "1E-7",
        "-3",
        "0",
        "0.1",
        "3.1415926535897931",
        "0.30000000000000004",
        "5e-324",
        "1.7976931348623157e308",
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551615",
        "123456789012345678901234567890",
    ],
)
def test_numbers_come_out_with_the_same_value(
    relayd: Daemon, connect: Connect, group: str, number: str
) -> None:
    sender = connect(relayd, group)
    sender.send(f'{{"x":{number},"y":0.25}}')
    frame = sender.recv(timeout=10)
    # json reads an integer exactly and any other number as the nearest double, as clients do
    assert json.loads(frame) == {"x": json.loads(number), "y": 0.25, "z": None}


def test_minus_zero_keeps_its_sign(relayd: Daemon, connect: Connect, group: str) -> None:
    sender = connect(relayd, group)
    sender.send('{"x":-0.0}')
    assert sender.recv(timeout=10) == '{"x":-0.0,"y":null,"z":null}'


def test_a_fragmented_pose_is_one_pose(relayd: Daemon, connect: Connect, group: str) -> None:
    sender = connect(relayd, group)
    sender.send(['{"x":', "1,", '"y":2}'])
    assert read_rest(sender) == [[{"x": 1, "y": 2, "z": None}]]


def test_a_pose_is_delivered_to_its_own_group_only(
    relayd: Daemon, connect: Connect, group: str
) -> None:
    here, there, other_case = (
        connect(relayd, path) for path in (group, f"{group}-b", group.replace("camera-", "Camera-"))
    )
    say(here, {"x": 1})
    settle(here)
    assert [len(frames) for frames in read_rest(here, there, other_case)] == [1, 0, 0]


@pytest.mark.parametrize(
    "path",
    [
        "/ws/camera/",
        "/ws/camera/Camera_group",
        "/ws/camera/Camera_group/",
        "/ws/camera/Camera%5Fgroup",
        "/ws/camera?client=unity",
    ],
)
def test_the_default_group_is_camera_group(relayd: Daemon, connect: Connect, path: str) -> None:
    sender, viewer = connect(relayd, "/ws/camera"), connect(relayd, path)
    say(sender, {"x": 1})
    assert read_rest(sender, viewer) == [[{"x": 1, "y": None, "z": None}]] * 2


@pytest.mark.parametrize("name", ["a", "Z-9_.", "." * 100, "x" * 100])
def test_good_group_names_are_accepted(relayd: Daemon, connect: Connect, name: str) -> None:
    plain, slash = connect(relayd, f"/ws/camera/{name}"), connect(relayd, f"/ws/camera/{name}/")
    say(plain, {"x": 1})
    assert [len(frames) for frames in read_rest(plain, slash)] == [1, 1]


@pytest.mark.parametrize(
    "name",
    ["x" * 101, "a%20b", "a+b", "%C3%A9", "a%2Fb", "%00", "a%0A", "a:b", "%FF", "%", "a~"],
)
def test_bad_group_names_are_refused(relayd: Daemon, name: str) -> None:
    refused = Refused(relayd, f"/ws/camera/{name}")
    assert (refused.status, refused.error) == (400, "bad_name")


def test_a_longer_path_is_not_found(relayd: Daemon) -> None:
    refused = Refused(relayd, "/ws/camera/a/b")
    assert (refused.status, refused.error) == (404, "not_found")


def test_a_member_that_left_gets_nothing_and_disturbs_nobody(
    relayd: Daemon, connect: Connect, group: str
) -> None:
    sender, viewer, leaver = (connect(relayd, group) for _ in range(3))
    say(sender, {"x": 1})
    assert len(read_many(leaver, 1)) == 1
    leaver.close()
    say(sender, {"x": 2})
    assert [len(frames) for frames in read_rest(sender, viewer)] == [2, 2]
