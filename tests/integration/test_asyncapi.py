"""docs/asyncapi.yaml is valid, and has the frames that relayd and its clients exchange."""

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from jsonschema import Draft7Validator
from websockets.exceptions import ConnectionClosed

from tests.asyncapi import FROM_CLIENT, FROM_RELAYD, document, matching, messages
from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, settle
from tests.integration.conftest import KEY, Connect
from tests.integration.relayctl import Operator
from tests.npm import npm_package

SECRET = "a secret for tests that is long enough for HS256"
UUID = "123e4567-e89b-42d3-a456-426614174000"
ADDRESSES = {
    name: channel["address"].format(group="stage1", uuid=UUID, room="hall", topic="build")
    for name, channel in document()["channels"].items()
}
NOT_IN_THE_SCENE = {
    (channel, name): "needs a Redis that goes away; tests/unit/test_asyncapi.py has the frame"
    for channel in ("chat", "chatRoom")
    for name in ("cutOff", "restored")
}
"""Messages of the document without a frame here, with the reason."""


def test_the_document_is_asyncapi() -> None:
    schemas = npm_package("@asyncapi/specs", "6.11.1") / "schemas"
    schema = json.loads((schemas / "3.0.0.json").read_text(encoding="utf-8"))
    errors = Draft7Validator(schema).iter_errors(document())
    assert [f"{error.json_path}: {error.message}"[:500] for error in errors] == []


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd with echo, the API and tokens, which nobody needs."""
    running = Daemon(
        tmp_path_factory.mktemp("asyncapi"),
        {"RELAYD_ECHO_ENABLED": "true", "RELAYD_API_KEY": KEY, "RELAYD_AUTH_SECRET": SECRET},
    )
    yield running.start()
    running.stop()
    assert "Traceback" not in running.log


class Scene:
    """Clients of one relayd, and the messages of the document that they sent and got."""

    def __init__(self, node: Daemon, connect: Connect) -> None:
        self.node = node
        self.seen: set[tuple[str, str]] = set()
        self._connect = connect

    def enter(self, channel: str, query: str = "") -> "Party":
        """Connects a client; it is a member of its group when this returns."""
        party = Party(self, channel, self._connect(self.node, ADDRESSES[channel] + query))
        settle(party.client)
        return party

    def refused(self, channel: str, **options: Any) -> "Party":
        """Connects a client whose refusal is a frame and a close."""
        address = ADDRESSES[channel] + "?refuse=close"
        return Party(self, channel, self._connect(self.node, address, **options))


class Party:
    """A client on a channel, each of whose frames is compared with the document."""

    def __init__(self, scene: Scene, channel: str, client: Any) -> None:
        self._scene, self.channel, self.client = scene, channel, client

    def say(self, payload: Any, *, wrong: bool = False) -> None:
        """Sends a frame that is one of the channel's messages; none of them if it is wrong."""
        found = matching(self.channel, FROM_CLIENT, payload)
        assert bool(found) is not wrong, (self.channel, payload)
        self._scene.seen |= {(self.channel, name) for name in found}
        self.client.send(json.dumps(payload))

    def read(self, name: str) -> Any:
        """The next frame, which is valid as this message; it is seen if it can be no other one."""
        payload = json.loads(self.client.recv(timeout=PATIENCE))
        found = matching(self.channel, FROM_RELAYD, payload)
        assert name in found, (self.channel, payload, found)
        if found == [name]:
            self._scene.seen.add((self.channel, name))
        return payload

    def read_close(self) -> int:
        """The code with which relayd closes; nothing comes before."""
        with pytest.raises(ConnectionClosed) as closed:
            self.client.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


def token(**claims: Any) -> str:
    """The query with a token."""
    return f"?token={jwt.encode(claims, SECRET, 'HS256')}"


def play_camera(scene: Scene, channel: str) -> list[Party]:
    """Poses, with names and without, and refused ones."""
    camera, viewer = scene.enter(channel), scene.enter(channel, "?senders=1")
    camera.say({"x": 0.5, "y": -3e2, "further": [1]})
    assert camera.read("pose") == {"x": 0.5, "y": -300, "z": None}
    assert viewer.read("namedPose")["sender"]
    for wrong in ({"x": "1"}, {"z": True}, [1, 2, 3], "hello"):
        camera.say(wrong, wrong=True)
        camera.read("poseError")
    watcher = scene.enter(channel, token(scope="camera/*:view"))
    watcher.say({"x": 1})
    assert watcher.read("poseError")["error"] == "forbidden"
    return [camera, viewer]


def play_pair(scene: Scene) -> list[Party]:
    """Requests, receipts and errors of a pair; a headset that leaves; replaced connections."""
    early = scene.refused("android")
    assert early.read("refusalNotice")["error"] == "no_unity"
    assert early.read_close() == 4400
    headset, phone = scene.enter("unity"), scene.enter("android")
    headset.say({"ready": True})
    for request in ({"difficulty": 1}, {"difficulty": 1, "tag": "t"}, {"difficulty": 2, "tag": ""}):
        phone.say(request)
        phone.read("received")
        headset.read("assignment")
    phone.say({"difficulty": 999, "tag": "u"})
    assert phone.read("requestError")["tag"] == "u"
    for wrong in ({"difficulty": "1"}, {"difficulty": 1, "tag": "t" * 65}, {}, [1]):
        phone.say(wrong, wrong=True)
        phone.read("requestError")
    headset.client.close()
    phone.read("unityDisconnected")
    phone.say({"difficulty": 1})
    assert phone.read("requestError")["error"] == "no_unity"
    headset = scene.enter("unity")
    phone.read("unityConnected")
    newer = scene.enter("android")
    assert phone.read("notice")["error"] == "replaced"
    assert phone.read_close() == 4001
    newest = scene.enter("unity")
    assert headset.read("connectionError")["error"] == "replaced"
    assert headset.read_close() == 4001
    return [newest, newer]


def play_chat(scene: Scene, channel: str) -> list[Party]:
    """Messages with and without tag and user, refused ones, the history and its gap."""
    ann, bob = scene.enter(channel, token(sub="ann")), scene.enter(channel)
    ann.say({"message": "hello", "tag": "t"})
    first = ann.read("chatMessage")
    assert (first["user"], first["tag"]) == ("ann", "t")
    assert bob.read("chatMessage") == first
    bob.say({"message": "", "tag": None})
    assert "user" not in ann.read("chatMessage")
    bob.read("chatMessage")
    ann.say({"message": "hello", "tag": "t"})
    assert ann.read("chatMessage") == first
    for wrong in ({"message": 1}, {"tag": "t"}, {"message": "", "tag": "t" * 65}, "hello"):
        bob.say(wrong, wrong=True)
        bob.read("chatError")
    reader = scene.enter(channel, token(scope="chat/*:view") + "&history=2")
    assert reader.read("chatMessage") == first
    reader.read("chatMessage")
    reader.say({"message": "hello"})
    assert reader.read("chatError")["error"] == "forbidden"
    late = scene.enter(channel, "?since=1")
    late.read("gap")
    assert late.read("chatMessage") == first
    watcher = scene.enter(channel, "?history=0&presence=1")
    assert watcher.read("present")["users"] == ["ann"]
    guest = scene.enter(channel, token(sub="cyn"))
    assert watcher.read("presenceChanged")["joined"] == ["cyn"]
    guest.client.close()
    assert watcher.read("presenceChanged")["left"] == ["cyn"]
    watcher.client.close()
    return [ann, bob, scene.enter(channel, "?history=0")]


def play_push(scene: Scene) -> list[Party]:
    """A publication, and a client that sends."""
    client = scene.enter("push")
    header = {"Authorization": f"Bearer {KEY}"}
    assert scene.node.post("/api/push/build", b'{"percent": 40}', **header)[0] == 200
    assert client.read("published") == {"percent": 40}
    client.say("hello")
    client.read("readOnly")
    return [client]


def play_echo(scene: Scene) -> list[Party]:
    """Anything, and the same again."""
    client = scene.enter("echo")
    for payload in ("hello", [1, None], {"error": "none"}):
        client.say(payload)
        assert client.read("echoed") == payload
    return [client]


def test_a_scene_has_a_valid_frame_of_every_message_of_the_document(
    node: Daemon, connect: Connect
) -> None:
    scene = Scene(node, connect)
    here = [
        *play_camera(scene, "camera"),
        *play_camera(scene, "cameraGroup"),
        *play_pair(scene),
        *play_chat(scene, "chat"),
        *play_chat(scene, "chatRoom"),
        *play_push(scene),
        *play_echo(scene),
    ]
    for channel in ADDRESSES:
        refused = scene.refused(channel, origin="https://elsewhere.example")
        name = "refusalNotice" if channel == "android" else "refusal"
        assert refused.read(name)["error"] == "origin_not_allowed"
        assert refused.read_close() == 4403
    kicked = Operator(node.folder)("kick", "--peer", "127.0.0.1", "--code", "4242", "--yes")
    assert kicked.returncode == 0, kicked
    for party in here:
        name = "notice" if party.channel == "android" else "connectionError"
        assert party.read(name)["error"] == "kicked"
        assert party.read_close() == 4242
    for channel in ADDRESSES:
        scene.enter(channel, "?heartbeat=1").read("heartbeat")
    everything = {
        (channel, name)
        for channel in ADDRESSES
        for action in (FROM_CLIENT, FROM_RELAYD)
        for name in messages(channel, action)
    }
    assert everything - scene.seen == set(NOT_IN_THE_SCENE)
