"""docs/asyncapi.yaml is valid, and has the frames and events of relayd and its clients."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import jwt
import pytest
from jsonschema import Draft7Validator
from websockets.exceptions import ConnectionClosed

from tests.asyncapi import FROM_CLIENT, FROM_RELAYD, channels, document, fits, matching, messages
from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, check_refusal, settle
from tests.integration.conftest import KEY, Connect
from tests.integration.event_clients import Event, Events
from tests.integration.relayctl import Operator
from tests.npm import npm_package

SECRET = "a secret for tests that is long enough for HS256"
UUID = "123e4567-e89b-42d3-a456-426614174000"
ADDRESSES = {
    name: channel["address"].format(group="stage1", uuid=UUID, room="hall", topic="build")
    for name, channel in document()["channels"].items()
}
FOR_WEBSOCKETS, FOR_EVENTS = channels("websockets"), channels("events")
NOT_IN_A_SCENE = {
    (channel, name): "needs a Redis that goes away; tests/unit/test_asyncapi.py has it"
    for channel in ("chat", "chatRoom", "chatEvents", "chatRoomEvents")
    for name in ("cutOff", "restored")
}
"""Messages of the document that do not come here, with the reason."""


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


class Reader:
    """A client of events on a channel, each of which is compared with the document."""

    def __init__(self, scene: Scene, channel: str, query: str = "", **fields: str) -> None:
        self._scene, self.channel = scene, channel
        self.client = Events(scene.node.port, ADDRESSES[channel] + query, **fields)
        (request,) = messages(channel, FROM_CLIENT)
        scene.seen.add((channel, request))
        self._answer = self.client.answer

    def hello(self) -> "Reader":
        """Reads the first event and what the document says of the answer that it begins."""
        self.read("hello")
        http = messages(self.channel, FROM_RELAYD)["hello"]["bindings"]["http"]
        assert self._answer.status == http["statusCode"]
        assert {*http["headers"]["properties"]} <= {*self._answer.headers}
        assert fits(http["headers"], dict(self._answer.headers))
        return self

    def refused(self) -> str:
        """The code of the refusal that the request got."""
        answer, body = self._answer, self._answer.read()
        check_refusal(answer.status, dict(answer.headers), body)
        return str(self._note("refusal", Event({}, json.loads(body)))["error"])

    def read(self, name: str) -> Any:
        """The payload of the next event, which is valid as this message and no other one."""
        return self._note(name, self.client.read())

    def _note(self, name: str, event: Event) -> Any:
        fields: dict[str, object] = dict(event.fields)
        if "retry" in fields:
            fields["retry"] = int(event.fields["retry"])
        found = matching(self.channel, FROM_RELAYD, event.payload, fields)
        assert found == [name], (self.channel, event, found)
        self._scene.seen.add((self.channel, name))
        return event.payload


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


def publish(scene: Scene, body: bytes) -> None:
    """Publishes to the topic of the document's push channels."""
    header = {"Authorization": f"Bearer {KEY}"}
    assert scene.node.post("/api/push/build", body, **header)[0] == 200


def play_push(scene: Scene) -> list[Party]:
    """A publication, and a client that sends."""
    client = scene.enter("push")
    publish(scene, b'{"percent": 40}')
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


def play_camera_events(scene: Scene, channel: str, camera: Party) -> list[Reader]:
    """Poses of a camera, for a viewer of events with names and for one without."""
    viewer = Reader(scene, channel).hello()
    named = Reader(scene, channel, "?senders=1").hello()
    camera.client.send('{"x": 0.5, "y": 1}')
    assert viewer.read("pose") == {"x": 0.5, "y": 1, "z": None}
    assert named.read("namedPose")["sender"]
    return [viewer, named]


def play_chat_events(scene: Scene, channel: str, writer: Party) -> list[Reader]:
    """The history, its gap, what comes behind an id, and the members of the room."""
    for text in ("one", "two"):
        writer.client.send(json.dumps({"message": text}))
        settle(writer.client)
    late = Reader(scene, channel, "?since=1").hello()
    late.read("gap")
    first = late.read("chatEvent")
    fields = {"Last-Event-ID": str(first["id"])}
    resumed = Reader(scene, channel, "?since=1", **fields).hello()
    assert resumed.read("chatEvent")["id"] > first["id"]
    watcher = Reader(scene, channel, "?history=0&presence=1").hello()
    watcher.read("present")
    guest = scene.enter(writer.channel, token(sub="cyn"))
    assert watcher.read("presenceChanged")["joined"] == ["cyn"]
    guest.client.close()
    assert watcher.read("presenceChanged")["left"] == ["cyn"]
    writer.client.send('{"message": "three\\n"}')
    assert watcher.read("chatEvent")["message"] == "three\n"
    assert Reader(scene, channel, **{"Last-Event-ID": "x"}).refused() == "bad_since"
    for reader in (late, resumed, watcher):
        reader.client.close()
    return [Reader(scene, channel, "?history=0").hello()]


def play_push_events(scene: Scene) -> list[Reader]:
    """Objects with an id and without, in one line and in several."""
    reader = Reader(scene, "pushEvents").hello()
    for body in (b'{"percent": 40}', b'{\n"id": 7\r\n}', b'{"id": "seven"}'):
        publish(scene, body)
        assert reader.read("publishedEvent") == json.loads(body)
    return [reader]


def everything(names: Iterable[str]) -> set[tuple[str, str]]:
    """All messages of some channels."""
    return {
        (channel, name)
        for channel in names
        for action in (FROM_CLIENT, FROM_RELAYD)
        for name in messages(channel, action)
    }


def unseen(names: Iterable[str]) -> set[tuple[str, str]]:
    """The messages of some channels that do not come here."""
    return everything(names) & set(NOT_IN_A_SCENE)


def kick(node: Daemon) -> None:
    """Has the operator end all connections."""
    kicked = Operator(node.folder)("kick", "--peer", "127.0.0.1", "--code", "4242", "--yes")
    assert kicked.returncode == 0, kicked


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
    for channel in FOR_WEBSOCKETS:
        refused = scene.refused(channel, origin="https://elsewhere.example")
        name = "refusalNotice" if channel == "android" else "refusal"
        assert refused.read(name)["error"] == "origin_not_allowed"
        assert refused.read_close() == 4403
    kick(node)
    for party in here:
        name = "notice" if party.channel == "android" else "connectionError"
        assert party.read(name)["error"] == "kicked"
        assert party.read_close() == 4242
    for channel in FOR_WEBSOCKETS:
        scene.enter(channel, "?heartbeat=1").read("heartbeat")
    assert everything(FOR_WEBSOCKETS) - scene.seen == unseen(FOR_WEBSOCKETS)


def test_a_scene_has_a_valid_event_of_every_message_of_the_document(
    node: Daemon, connect: Connect
) -> None:
    scene = Scene(node, connect)
    readers = [
        *play_camera_events(scene, "cameraEvents", scene.enter("camera")),
        *play_camera_events(scene, "cameraGroupEvents", scene.enter("cameraGroup")),
        *play_chat_events(scene, "chatEvents", scene.enter("chat", token(sub="ann"))),
        *play_chat_events(scene, "chatRoomEvents", scene.enter("chatRoom", token(sub="ann"))),
        *play_push_events(scene),
    ]
    for channel in FOR_EVENTS:
        elsewhere = Reader(scene, channel, Origin="https://elsewhere.example")
        assert elsewhere.refused() == "origin_not_allowed"
    kick(node)
    for reader in readers:
        assert reader.read("connectionError")["error"] == "kicked"
        assert reader.read("end")["code"] == 4242
    for channel in FOR_EVENTS:
        Reader(scene, channel, "?heartbeat=1&history=0").hello().read("heartbeat")
    assert everything(FOR_EVENTS) - scene.seen == unseen(FOR_EVENTS)
