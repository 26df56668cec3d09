"""A site on Django Channels and relayd reach each other's clients, over one Redis."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.integration.clients import read, read_many, read_rest, say
from tests.integration.conftest import Connect, Spawn
from tests.redis_servers import Redis


class Site:
    """The Django side, in a process of its own."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.django_site", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sorted([self.read(), self.read()]) == [
            ["ready", "Camera_group"],
            ["ready", "chat_lobby"],
        ]

    def group_send(self, group: str, message: dict[str, Any]) -> None:
        """What `async_to_sync(layer.group_send)(group, message)` does in a Django shell."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"send {group} {json.dumps(message)}\n")
        self._process.stdin.flush()

    def read(self) -> Any:
        """The next thing that one of its consumers got: the group and the message."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def site(redis: Redis) -> Iterator[Site]:
    site = Site(f"unix://{redis.socket}")
    yield site
    site.stop()


@pytest.fixture
def daemons(redis: Redis, spawn: Spawn) -> list[Daemon]:
    settings = {"REDIS_URL": f"unix://{redis.socket}", "redis_django_channels": "true"}
    return [spawn(**settings) for _ in range(2)]


def test_poses_are_delivered_in_both_directions_once(
    site: Site, daemons: list[Daemon], connect: Connect
) -> None:
    clients = [connect(daemon, "/ws/camera") for daemon in (*daemons, *daemons)]
    for number in range(20):
        message = {"x": number, "y": 0.5, "z": None}
        site.group_send("Camera_group", {"type": "camera_message", "message": message})
        assert [read(client) for client in clients] == [message] * 4
        assert site.read() == ["Camera_group", message]
    for number in range(20):
        say(clients[number % 4], {"x": number})
        pose = {"x": number, "y": None, "z": None}
        assert [read(client) for client in clients] == [pose] * 4
        assert site.read() == ["Camera_group", pose]
    # another round each shows that nothing came round a second time
    site.group_send("Camera_group", {"type": "camera.message", "message": {"x": -1}})
    assert [read(client)["x"] for client in clients] == [-1] * 4
    assert read_rest(*clients) == [[], [], [], []]


def test_chat_messages_are_delivered_in_both_directions_once(
    site: Site, daemons: list[Daemon], connect: Connect
) -> None:
    """Messages of Django are stored once, although every relayd receives them."""
    clients = [connect(daemon, "/ws/chat/lobby") for daemon in (*daemons, *daemons)]
    for number in range(20):
        text = f"from Django {number % 2} é"
        site.group_send("chat_lobby", {"type": "chat_message", "message": text})
        frames = [read(client) for client in clients]
        assert [frame["message"] for frame in frames] == [text] * 4
        assert len({frame["id"] for frame in frames}) == 1
        assert site.read() == ["chat_lobby", text]
    for number in range(20):
        say(clients[number % 4], {"message": f"from relayd {number}"})
        assert {read(client)["message"] for client in clients} == {f"from relayd {number}"}
        assert site.read() == ["chat_lobby", f"from relayd {number}"]
    assert read_rest(*clients) == [[], [], [], []]
    late = connect(daemons[0], "/ws/chat/lobby")
    texts = [frame["message"] for frame in read_many(late, 40)]
    assert texts[:2] == ["from Django 0 é", "from Django 1 é"]
    assert texts[20:] == [f"from relayd {number}" for number in range(20)]


def test_a_text_that_django_sends_repeatedly_is_delivered_as_often(
    site: Site, daemons: list[Daemon], connect: Connect
) -> None:
    clients = [connect(daemon, "/ws/chat/lobby") for daemon in daemons]
    for _ in range(50):
        site.group_send("chat_lobby", {"type": "chat_message", "message": "again"})
    for client in clients:
        assert [frame["message"] for frame in read_many(client, 50)] == ["again"] * 50
    for _ in range(50):
        assert site.read() == ["chat_lobby", "again"]
    site.group_send("chat_lobby", {"type": "chat_message", "message": "done"})
    assert [read(client)["message"] for client in clients] == ["done"] * 2


def test_an_event_of_django_that_makes_no_sense_is_left_out(
    site: Site, daemons: list[Daemon], connect: Connect, redis: Redis
) -> None:
    camera, chat = connect(daemons[0], "/ws/camera"), connect(daemons[0], "/ws/chat/lobby")
    site.group_send("Camera_group", {"type": "camera_message", "message": {"x": "1"}})
    site.group_send("Camera_group", {"type": "camera_message", "message": "x"})
    site.group_send("Camera_group", {"type": "camera_message", "message": {"x": 1}})
    assert read(camera)["x"] == 1
    redis.tell("PUBLISH", "asgi__group__chat_lobby", b"\xc1\xff")
    redis.tell("PUBLISH", "asgi__group__chat_lobby", b"\x80")
    site.group_send("chat_lobby", {"type": "chat_message", "message": "sense"})
    assert read(chat)["message"] == "sense"
    assert read_rest(camera, chat) == [[], []]
