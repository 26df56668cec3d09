"""`/ws/push/{topic}` over a hub in memory."""

from collections.abc import Iterator

import pytest

from relayd.brokers.memory import MemoryGroups
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.relays.push import PushFactory
from tests.unit.fakes import Client, World, make_world


class Push:
    """A world with the push relay in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hub = Hub(Batching(world.clock, 0))
        self.factory = PushFactory(world.context, MemoryGroups(self.hub))

    def connect(self, path: str) -> Client:
        return self.world.connect(self.factory, path)


@pytest.fixture
def push() -> Iterator[Push]:
    with make_world() as (world, _):
        push = Push(world)
        yield push
        world.end()
        assert list(push.hub) == []


def test_a_published_payload_arrives_unchanged_at_every_client_of_its_topic(push: Push) -> None:
    here = [push.connect(path) for path in ("/ws/push/build", "/ws/push/build/")]
    there = push.connect("/ws/push/other")
    payload = b'{ "progress" : 1.50, "n": "\xc3\xa9" }'
    assert push.factory.groups.publish("push/build", payload) == 2
    assert [client.payloads() for client in here] == [[payload]] * 2
    assert there.frames() == []


def test_an_object_for_a_topic_without_members_is_delivered_to_nobody(push: Push) -> None:
    push.connect("/ws/push/build").begin_close()
    assert push.factory.groups.publish("push/build", b"{}") == 0


def test_a_topic_and_a_camera_group_of_the_same_name_are_separate(push: Push) -> None:
    client = push.connect("/ws/push/build")
    push.hub.fan_out("camera/build", b"{}")
    assert client.frames() == []


@pytest.mark.parametrize("payload", ["x", "{}", b"\xff", '{"x":1}'])
def test_a_frame_in_is_answered_with_read_only(push: Push, payload: str | bytes) -> None:
    client, other = push.connect("/ws/push/a"), push.connect("/ws/push/a")
    client.send(payload)
    [answer] = client.objects()
    assert answer["error"] == "read_only"
    assert set(answer) == {"error", "message"}
    assert other.frames() == []
    assert push.factory.groups.publish("push/a", b"{}") == 2


def test_a_blank_frame_is_ignored(push: Push) -> None:
    client = push.connect("/ws/push/a")
    client.send(" \u2003")
    assert client.frames() == []


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/ws/push", (404, "not_found")),
        ("/ws/push/", (404, "not_found")),
        ("/ws/push/a/b", (404, "not_found")),
        ("/ws/push/a%2Fb", (400, "bad_name")),
        ("/ws/push/%C3%A9", (400, "bad_name")),
    ],
)
def test_a_path_that_names_no_topic_is_refused(
    push: Push, path: str, refusal: tuple[int, str]
) -> None:
    assert push.connect(path).refusal == refusal
