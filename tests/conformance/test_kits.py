"""What every client kit does: one scenario a test, each with every kit.

The names of the scenarios stand in the table of docs/clients/README.md.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jwt
import pytest

from relayd.access.tokens import LEEWAY
from tests.cable import Cable
from tests.conformance.driver import Driver
from tests.conformance.kits import KITS, WEB, Kit
from tests.daemon import Daemon
from tests.integration.clients import read, say

SECRET = "a-secret-for-tests-of-32-bytes-or-more"
Connect = Callable[..., Driver]


def token(seconds: float = 600, **claims: object) -> str:
    """A token that is good for so long."""
    return jwt.encode({"exp": time.time() + seconds, **claims}, SECRET, algorithm="HS256")


@pytest.fixture(scope="module", params=KITS, ids=lambda kit: kit.name)
def kit(request: pytest.FixtureRequest) -> Kit:
    found: Kit = request.param
    return found


@pytest.fixture
def connect(kit: Kit, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Starts a client of the kit; skips a scenario that does not apply to it."""
    scenario = request.node.originalname.removeprefix("test_")
    if why := kit.cannot.get(scenario):
        pytest.skip(f"{kit.name}: {why}")
    with ExitStack() as stack:

        def start(kind: str, url: str, name: str, **options: object) -> Driver:
            user = WEB if kind in kit.lacks else kit
            return stack.enter_context(Driver(user, kind, url, name, **options))

        yield start


@pytest.fixture(scope="module")
def relayd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    settings = {
        "RELAYD_AUTH_SECRET": SECRET,
        "RELAYD_API_KEY": "a-key-for-tests",
        "RELAYD_CHAT_HISTORY_LENGTH": "5",
    }
    daemon = Daemon(tmp_path_factory.mktemp("conformance"), settings).start()
    yield daemon
    daemon.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A relayd that a test may stop."""
    daemon = Daemon(tmp_path).start()
    yield daemon
    daemon.stop()


@pytest.fixture
def name() -> str:
    """Of a group, a room or a topic, or a UUID: nobody else has it."""
    return str(uuid.uuid4())


# -- connect, send, receive


def test_connect(connect: Connect, relayd: Daemon, name: str) -> None:
    """Two cameras see each other's poses, and each its own, with the same numbers."""
    first = connect("camera", relayd.ws_url, name, token=token())
    second = connect("camera", relayd.ws_url, name)
    for client in (first, second):
        client.state("connected")
    first.send(x=0.5, y=1.25, z=-3)
    for client in (first, second):
        client.until("pose", x=0.5, y=1.25, z=-3)
    second.send(x=1, y=2, z=3)
    for client in (first, second):
        client.until("pose", x=1, y=2, z=3)
    assert len(first.all("pose")) == len(second.all("pose")) == 2
    first.tell(close=True)
    first.state("closed")


def test_chat(connect: Connect, relayd: Daemon, name: str) -> None:
    """A message comes to all once, and is acknowledged to its sender; the history comes first."""
    first = connect("chat", relayd.ws_url, name)
    first.state("connected")
    first.send(message="one é😀")
    first.until("sent")
    first.until("message", message="one é😀", mine=True)
    second = connect("chat", relayd.ws_url, name)
    second.until("message", message="one é😀", mine=False)
    second.state("connected")
    second.send(message="two")
    second.until("sent")
    first.until("message", message="two", mine=False)
    for client in (first, second):
        assert [each["message"] for each in client.all("message")] == ["one é😀", "two"]
        assert all(int(each["id"]) > 2**31 for each in client.all("message"))


def test_pair(connect: Connect, relayd: Daemon, name: str) -> None:
    """The phone waits for its headset, asks, gets its receipt, and hears when the headset goes."""
    phone = connect("phone", relayd.ws_url, name)
    phone.state("waiting", error="no_unity")
    headset = connect("headset", relayd.ws_url, name.upper())
    headset.state("connected")
    phone.state("connected")
    phone.send(difficulty=1)
    got = headset.until("assignment")
    assert got["action_id"] > 0
    assert 1 <= len(got["quiz_id"]) <= 3
    phone.until("received")
    phone.send(difficulty=99)
    phone.until("problem", error="no_content")
    before = len(phone.events)
    headset.tell(close=True)
    phone.until("headset", before, here=False)
    connect("headset", relayd.ws_url, name)
    phone.until("headset", before, here=True)


def test_push(connect: Connect, relayd: Daemon, name: str) -> None:
    viewer = connect("push", relayd.ws_url, name)
    viewer.state("connected")
    body = b'{"percent": 40, "error": "none", "steps": [1, {"a": null}]}'
    key = {"Authorization": "Bearer a-key-for-tests"}
    assert relayd.post(f"/api/push/{name}", body, **key)[0] == 200
    assert viewer.until("push")["data"] == {
        "percent": 40, "error": "none", "steps": [1, {"a": None}],
    }  # fmt: skip


# -- refusals


def test_refused(connect: Connect, relayd: Daemon, name: str) -> None:
    """401 and 403 are typed errors, and final: nothing but a developer or a new token helps."""
    for given, status, code in (
        ("not.a.token", 401, "unauthorized"),
        (token(scope="chat"), 403, "forbidden"),
    ):
        client = connect("camera", relayd.ws_url, name, token=given)
        refused = client.state("refused")
        assert (refused["status"], refused["error"]) == (status, code)
        assert refused["message"].endswith(".")
        assert client.all("state")[-1] == refused


def test_error(connect: Connect, relayd: Daemon, name: str) -> None:
    """An error frame is a problem, and the connection goes on."""
    client = connect("camera", relayd.ws_url, name, token=token(rights=[f"camera/{name}:view"]))
    client.state("connected")
    client.send(x=1, y=2, z=3)
    client.until("problem", error="forbidden")
    with relayd.connect(f"/ws/camera/{name}") as other:
        say(other, {"x": 7, "y": 8, "z": 9})
        client.until("pose", x=7, y=8, z=9)


# -- closes


def test_replaced(connect: Connect, relayd: Daemon, name: str) -> None:
    """4001 is final: two apps with one UUID do not throw each other out for ever."""
    first = connect("headset", relayd.ws_url, name)
    first.state("connected")
    second = connect("headset", relayd.ws_url, name)
    second.state("connected")
    refused = first.state("refused")
    assert (refused["close_code"], refused["error"]) in ((4001, "replaced"), (0, "replaced"))
    assert second.all("state")[-1]["name"] == "connected"


def test_restart(connect: Connect, own: Daemon, name: str) -> None:
    """1001: the client comes back by itself, and chat goes on where it was."""
    clients = [connect("chat", own.ws_url, name), connect("camera", own.ws_url, name)]
    chat, camera = clients
    for client in clients:
        client.state("connected")
    chat.send(message="before")
    chat.until("sent")
    own.stop()
    before = [len(client.events) for client in clients]
    for client in clients:
        client.state("lost")
    chat.send(message="meanwhile")
    own.start()
    for client, count in zip(clients, before, strict=True):
        client.state("connected", count)
    assert len(chat.until("message", message="meanwhile", mine=True)["id"]) > 9
    camera.send(x=1, y=1, z=1)
    camera.until("pose", x=1, y=1, z=1)
    assert [each["message"] for each in chat.all("message")] == ["before", "meanwhile"]
    assert chat.all("gap") == []


def test_kill(connect: Connect, own: Daemon, name: str) -> None:
    """As a restart, without a word: what was acknowledged is there, nothing comes twice."""
    chat = connect("chat", own.ws_url, name)
    chat.state("connected")
    for number in range(5):
        chat.send(message=f"m{number}")
    chat.until("message", message="m4")
    before = len(chat.events)
    own.kill()
    chat.state("lost", before)
    own.start()
    chat.state("connected", before)
    with own.connect(f"/ws/chat/{name}?history=0") as other:
        say(other, {"message": "after"})
        read(other)
    chat.until("message", message="after")
    assert [each["message"] for each in chat.all("message")] == [
        *(f"m{number}" for number in range(5)), "after",
    ]  # fmt: skip


def test_cut(connect: Connect, relayd: Daemon, name: str) -> None:
    """A network that swallows everything: a message is sent again with its tag, and kept once."""
    with Cable(relayd.port) as cable:
        chat = connect("chat", f"ws://127.0.0.1:{cable.port}", name)
        chat.state("connected")
        cable.be("mute")  # relayd gets it, its copy does not come
        chat.send(message="once")
        chat.state("lost")
        before = len(chat.events)
        cable.be("through")
        chat.state("connected", before)
        chat.until("sent", before)
        with relayd.connect(f"/ws/chat/{name}") as other:
            assert read(other)["message"] == "once"
            say(other, {"message": "last"})
            assert read(other)["message"] == "last"
        chat.until("message", message="last")
        assert len([each for each in chat.all("message") if each["message"] == "once"]) == 1


def test_quiet_cut(connect: Connect, relayd: Daemon, name: str) -> None:
    """The same for a viewer that sends nothing: its heartbeat notices."""
    with Cable(relayd.port) as cable:
        viewer = connect("camera", f"ws://127.0.0.1:{cable.port}", name)
        viewer.state("connected")
        cable.be("swallow")
        viewer.state("lost")
        before = len(viewer.events)
        cable.be("through")
        viewer.state("connected", before)
        with relayd.connect(f"/ws/camera/{name}") as other:
            say(other, {"x": 7, "y": 8, "z": 9})
            viewer.until("pose", x=7, y=8, z=9)


def test_expired(connect: Connect, relayd: Daemon, name: str) -> None:
    """4005: the client asks for a new token and comes back; with the same one it gives up."""
    soon = 5 - LEEWAY  # after a start of two processes
    renewed = connect("camera", relayd.ws_url, name, token=token(soon))
    given_up = connect("camera", relayd.ws_url, name, token=token(soon))
    for client in (renewed, given_up):
        client.state("connected")
    before = len(renewed.events)
    renewed.tell(token=token())
    renewed.state("connected", before)
    assert given_up.state("refused")["error"] == "token_expired"
    renewed.send(x=1, y=2, z=3)
    renewed.until("pose", x=1, y=2, z=3)


def test_slower(connect: Connect, tmp_path: Path, name: str) -> None:
    """4004: the client comes back, after a longer wait than after a restart."""
    daemon = Daemon(tmp_path, {"RELAYD_LIMITS_MESSAGES_PER_SECOND": "20"}).start()
    try:
        client = connect("camera", daemon.ws_url, name)
        client.state("connected")
        before = len(client.events)
        for _ in range(20):
            client.tell(send={"x": 1, "y": 2, "z": 3}, times=100)
            if any(each.get("name") == "lost" for each in client.events):
                break
        lost = client.state("lost")
        assert lost["error"] == "rate_limited" or lost["close_code"] == 4004
        client.state("connected", before)
    finally:
        daemon.stop()


def test_gap(connect: Connect, relayd: Daemon, name: str) -> None:
    """A client whose id the history no longer reaches hears of it, before what is kept."""
    with relayd.connect(f"/ws/chat/{name}?history=0") as other:
        ids = []
        for number in range(8):
            say(other, {"message": f"m{number}"})
            ids.append(read(other)["id"])
    client = connect("chat", relayd.ws_url, name, since=ids[0])
    client.until("message", message="m7")
    kinds = [each["event"] for each in client.events if each["event"] in ("gap", "message")]
    assert kinds == ["gap", *["message"] * 5]
    resumed = connect("chat", relayd.ws_url, name, since=ids[5])
    resumed.until("message", message="m7")
    assert [each["message"] for each in resumed.all("message")] == ["m6", "m7"]
    assert resumed.all("gap") == []
