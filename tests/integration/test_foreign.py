"""Another program writes to relayd's Redis what is no message: nobody gets it, and rooms go on."""

import json

import pytest

from tests.daemon import Daemon
from tests.integration.clients import read, read_many, read_rest, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

ROOM = "relayd:chat/r"
MESSAGES = "relayd:{chat/r}:messages"
FAR = 9_007_199_254_740_000
"""An id that is possible, and higher than any that a room will ever have."""


@pytest.fixture
def daemons(redis: Redis, spawn: Spawn) -> tuple[Daemon, Daemon]:
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    return here, there


def invalid(daemon: Daemon) -> float:
    """How many messages from Redis a process has dropped."""
    return value(scrape(daemon), "relayd_drops_total", reason="invalid")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"{}",
        b"[]",
        b"[1",
        b'["x",{}]',
        b"[1.5,{}]",
        b"[-5,{}]",
        b'[%d,{"id":%d,"message":"odd"}]' % (FAR, FAR),
        b'[%d,{"id":5,"message":"odd"}]' % FAR,
        b'[%d,["odd"]]' % FAR,
        b'[%d,{"id":%d,"message":"\xff"}]' % (FAR, FAR),
        b'[%d,{"id":%d,"message":"odd"}]' % (2**60, 2**60),
        b"[%d" % FAR + b",{}" * 5000 + b"]",
    ],
    ids=lambda data: data[:30].decode("ascii", "replace"),
)
def test_an_invalid_message_on_a_rooms_channel_reaches_nobody_and_the_room_goes_on(
    redis: Redis, daemons: tuple[Daemon, Daemon], connect: Connect, data: bytes
) -> None:
    clients = [connect(daemon, "/ws/chat/r") for daemon in daemons]
    for text in ("before", "after"):
        say(clients[0], {"message": text})
        assert [read(client)["message"] for client in clients] == [text] * 2
        redis.tell("PUBLISH", ROOM, data)
    for daemon in daemons:
        eventually(lambda daemon=daemon: invalid(daemon) >= 1)  # type: ignore[misc]
        assert daemon.log.count("an invalid message from Redis, dropped") == 1
    say(clients[1], {"message": "at last"})
    assert [read(client)["message"] for client in clients] == ["at last"] * 2
    assert read_rest(*clients) == [[], []]
    late = connect(daemons[1], "/ws/chat/r?since=0")
    assert [frame["message"] for frame in read_many(late, 3)] == ["before", "after", "at last"]


@pytest.mark.parametrize(
    "fields",
    [
        (b"t", b"1", b"b", b"nonsense"),
        (b"t", b"1", b"b", b'{"id":1,"message":"\xff"}'),
        (b"odd", b"odd"),
        (b"b", b'{"id":%d,"message":"odd"}' % FAR),
    ],
    ids=["no object", "no UTF-8", "other fields", "no time"],
)
def test_an_entry_of_another_program_in_a_history_is_left_out_and_messages_are_kept_on(
    redis: Redis, daemons: tuple[Daemon, Daemon], connect: Connect, fields: tuple[bytes, ...]
) -> None:
    client = connect(daemons[0], "/ws/chat/r")
    say(client, {"message": "before"})
    first = read(client)
    assert first["message"] == "before"
    redis.tell("XADD", MESSAGES, f"{FAR}-0", *fields)
    for path in ("/ws/chat/r?since=0", "/ws/chat/r", f"/ws/chat/r?since={first['id']}"):
        late = connect(daemons[1], path)
        expected = [] if path.endswith(str(first["id"])) else ["before"]
        assert [frame.get("message") for (frames,) in [read_rest(late)] for frame in frames] == (
            expected
        )
    say(client, {"message": "after"})
    after = read(client)
    assert (after["message"], after["id"]) == ("after", first["id"] + 1)
    late = connect(daemons[1], "/ws/chat/r?since=0")
    assert [frame["message"] for frame in read_many(late, 2)] == ["before", "after"]
    assert read_rest(late) == [[]]


def test_a_history_full_of_entries_of_another_program_is_read_to_its_end(
    redis: Redis, daemons: tuple[Daemon, Daemon], connect: Connect
) -> None:
    client = connect(daemons[0], "/ws/chat/r")
    say(client, {"message": "before"})
    first = read(client)["id"]
    for number in range(1, 1200):
        redis.tell("XADD", MESSAGES, f"{first}-{number}", "odd", "odd")
    late = connect(daemons[1], "/ws/chat/r?since=0")
    assert read(late)["message"] == "before"
    say(client, {"message": "after"})
    assert read(late)["message"] == "after"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"[1, 2",
        b'{"x":"\xff"}',
        b'["p",null,{"x":"\xff"}]',
        b'["p",null,5]',
        b'["p","a",{"x":1}]',
        b'{"x":"' + b"y" * 1024 * 1024 + b'"}',
        b'["p",null,{"x":"' + b"y" * 1024 * 1024 + b'"}]',
    ],
    ids=lambda data: data[:20].decode("ascii", "replace"),
)
@pytest.mark.parametrize("path", ["camera/g", "push/t"])
def test_an_invalid_message_on_a_groups_channel_reaches_nobody(
    redis: Redis, daemons: tuple[Daemon, Daemon], connect: Connect, path: str, data: bytes
) -> None:
    client = connect(daemons[0], f"/ws/{path}")
    eventually(lambda: redis.tell("PUBSUB", "NUMSUB", f"relayd:{path}")[1] == 1)
    redis.tell("PUBLISH", f"relayd:{path}", data)
    redis.tell("PUBLISH", f"relayd:{path}", json.dumps({"x": 1}))
    assert read(client) == {"x": 1}
    assert invalid(daemons[0]) == 1
    assert daemons[0].log.count("an invalid message from Redis, dropped") == 1
