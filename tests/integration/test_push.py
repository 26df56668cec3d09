"""`/ws/push/{topic}` and the API that publishes to it, on a spawned relayd."""

import itertools

import pytest

from tests.daemon import Daemon
from tests.integration.clients import Refused, read, read_rest
from tests.integration.conftest import KEY, Connect, Spawn

_topics = (f"topic-{number}" for number in itertools.count())


@pytest.fixture
def topic() -> str:
    """A topic of the test's own."""
    return next(_topics)


def publish(
    daemon: Daemon, topic: str, body: bytes, key: str = KEY
) -> tuple[int, dict[str, object]]:
    """Status and JSON of the API's answer."""
    return daemon.post(f"/api/push/{topic}", body, Authorization=f"Bearer {key}")


@pytest.mark.parametrize(
    "body",
    [
        '{"progress": 0.5}',
        ' {"b" : 1.0, "a": 1e2, "b": 2}\n',
        '{"ü": "\\u00fc 🙂", "n": 123456789012345678901234567890}',
        "{}",
        '{"x": "' + "y" * 60000 + '"}',
    ],
)
def test_a_published_payload_arrives_unchanged(
    relayd: Daemon, connect: Connect, topic: str, body: str
) -> None:
    """Byte for byte, to everyone connected, and to nobody else."""
    clients = [connect(relayd, f"/ws/push/{topic}"), connect(relayd, f"/ws/push/{topic}/")]
    other = connect(relayd, f"/ws/push/{topic}-b")
    assert publish(relayd, topic, body.encode()) == (200, {"clients": 2})
    assert [client.recv(timeout=10) for client in clients] == [body] * 2
    assert read_rest(*clients, other) == [[], [], []]


def test_published_objects_keep_their_order(relayd: Daemon, connect: Connect, topic: str) -> None:
    client = connect(relayd, f"/ws/push/{topic}")
    for number in range(30):
        publish(relayd, topic, b'{"n": %d}' % number)
    assert read_rest(client) == [[{"n": number} for number in range(30)]]


def test_a_publish_to_a_topic_without_clients_reports_0(relayd: Daemon, topic: str) -> None:
    assert publish(relayd, topic, b'{"n": 1}') == (200, {"clients": 0})


def test_topics_are_separate_from_groups_and_rooms(
    relayd: Daemon, connect: Connect, topic: str
) -> None:
    """The same name in another kind of path is something else."""
    others = [connect(relayd, f"/ws/{kind}/{topic}") for kind in ("camera", "chat")]
    publish(relayd, topic, b"{}")
    assert read_rest(*others) == [[], []]


@pytest.mark.parametrize("frame", ["hello", "{}", b"\xff\x00", '{"message": "x"}'])
def test_frames_in_are_answered_with_read_only(
    relayd: Daemon, connect: Connect, topic: str, frame: str | bytes
) -> None:
    client, other = (connect(relayd, f"/ws/push/{topic}") for _ in range(2))
    client.send(frame)
    answer = read(client)
    assert answer["error"] == "read_only"
    assert set(answer) == {"error", "message"}
    publish(relayd, topic, b'{"n": 1}')
    assert read_rest(client, other) == [[{"n": 1}]] * 2


def test_blank_frames_are_ignored(relayd: Daemon, connect: Connect, topic: str) -> None:
    client = connect(relayd, f"/ws/push/{topic}")
    client.send("")
    client.send(b" \n")
    assert read_rest(client) == [[]]


@pytest.mark.parametrize("name", ["x" * 101, "a%20b", "%C3%A9"])
def test_bad_topics_are_refused(relayd: Daemon, name: str) -> None:
    refused = Refused(relayd, f"/ws/push/{name}")
    assert (refused.status, refused.error) == (400, "bad_name")
    status, answer = publish(relayd, name, b"{}")
    assert (status, answer["error"]) == (400, "bad_name")


@pytest.mark.parametrize("path", ["/ws/push", "/ws/push/", "/ws/push/a/b"])
def test_a_path_without_one_topic_is_not_found(relayd: Daemon, path: str) -> None:
    refused = Refused(relayd, path)
    assert (refused.status, refused.error) == (404, "not_found")


@pytest.mark.parametrize("body", [b"", b"[1]", b"1", b"{", b'{"x": "\xff"}', b"{} {}", b"NaN"])
def test_only_one_object_is_published(
    relayd: Daemon, connect: Connect, topic: str, body: bytes
) -> None:
    client = connect(relayd, f"/ws/push/{topic}")
    status, answer = publish(relayd, topic, body)
    assert (status, answer["error"]) == (400, "bad_json")
    assert read_rest(client) == [[]]


@pytest.mark.parametrize("key", ["", "wrong", KEY + "x", KEY[:-1]])
def test_wrong_key_publishes_nothing(
    relayd: Daemon, connect: Connect, topic: str, key: str
) -> None:
    client = connect(relayd, f"/ws/push/{topic}")
    status, answer = publish(relayd, topic, b"{}", key)
    assert (status, answer["error"]) == (401, "unauthorized")
    assert read_rest(client) == [[]]


def test_without_a_key_the_api_is_off(spawn: Spawn) -> None:
    status, answer = publish(spawn(), "a", b"{}", "")
    assert (status, answer["error"]) == (404, "api_off")
