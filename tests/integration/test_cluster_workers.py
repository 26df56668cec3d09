"""Two workers behind one socket do what two processes do: clients of both meet."""

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, read_close, read_many, read_rest, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import stopped
from tests.redis_servers import Redis


@pytest.fixture
def workers() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def relayd(workers: Redis, spawn: Spawn) -> Daemon:
    relayd = spawn(
        REDIS_URL=f"unix://{workers.socket}", server_workers=2, server_spread="connections"
    )
    deadline = time.monotonic() + PATIENCE
    while len(re.findall("Redis .* is connected", relayd.log)) < 2:
        assert time.monotonic() < deadline, relayd.log
        time.sleep(0.02)
    return relayd


def spread(relayd: Daemon, connect: Connect, paths: Sequence[str]) -> list[ClientConnection]:
    """A client for each path, by turns in the one worker and in the other."""
    children = Path(f"/proc/{relayd.pid}/task/{relayd.pid}/children").read_text().split()
    clients = dict[int, ClientConnection]()
    for place, other in enumerate(map(int, children)):
        with stopped(other):
            for number in range(place, len(paths), len(children)):
                clients[number] = connect(relayd, paths[number])
    return [clients[number] for number in range(len(paths))]


def both_have_some(redis: Redis, channel: str) -> bool:
    """Whether clients of a group are in both workers: each has subscribed its channel."""
    return bool(redis.tell("PUBSUB", "NUMSUB", channel)[1] == 2)


def test_poses_and_messages_reach_the_clients_of_both_workers_once_and_in_one_order(
    relayd: Daemon, workers: Redis, connect: Connect
) -> None:
    cameras = spread(relayd, connect, ["/ws/camera"] * 20)
    rooms = spread(relayd, connect, ["/ws/chat/r"] * 20)
    for channel in ("relayd:camera/Camera_group", "relayd:chat/r"):
        assert both_have_some(workers, channel), "all clients are in one worker"
    for number in range(100):
        say(cameras[number % 20], {"x": number})
        say(rooms[number % 20], {"message": str(number)})
    for client in cameras:
        got = [frame["x"] for frame in read_many(client, 100)]
        for sender in range(20):
            assert [x for x in got if x % 20 == sender] == list(range(sender, 100, 20))
    orders = [
        [(frame["id"], frame["message"]) for frame in read_many(client, 100)] for client in rooms
    ]
    assert orders[1:] == orders[:1] * 19
    assert sorted(int(text) for _, text in orders[0]) == list(range(100))
    assert read_rest(*cameras, *rooms) == [[]] * 40


def test_pairs_meet_whichever_workers_their_sides_are_on(relayd: Daemon, connect: Connect) -> None:
    pairs = [uuid.uuid4() for _ in range(20)]
    headsets = spread(relayd, connect, [f"/ws/difficulty/unity/{pair}" for pair in pairs])
    # the first half by turns as their headsets, the second half the other way round
    order = [*pairs[:10], *pairs[11:], pairs[10]]
    spread_phones = spread(relayd, connect, [f"/ws/difficulty/android/{pair}" for pair in order])
    by_pair = dict(zip(order, spread_phones, strict=True))
    phones = [by_pair[pair] for pair in pairs]
    for phone in phones:
        say(phone, {"difficulty": 1})
    for headset, phone in zip(headsets, phones, strict=True):
        assert read(phone) == {"status": "received"}
        assert read(headset)["quiz_id"]
    newer = [connect(relayd, f"/ws/difficulty/unity/{pair}") for pair in pairs]
    for older, newest, phone in zip(headsets, newer, phones, strict=True):
        assert read_close(older)[0] == 4001
        say(phone, {"difficulty": 1})
        assert read(phone) == {"status": "received"}
        assert read(newest)["quiz_id"]
    for newest, phone in zip(newer, phones, strict=True):
        newest.close()
        assert read(phone) == {"status": "unity_disconnected"}
