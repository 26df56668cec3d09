"""Poses over several processes and one Redis, which goes away for a while or fails over."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, Refused, read, read_many, read_rest, say, settle
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.waiting import eventually
from tests.redis_scene import stat_of_command
from tests.redis_servers import Redis
from tests.unit.fakes import Client

AWAY = 30
"""Seconds without Redis."""
BACK = 3
"""Seconds after its return within which all subscriptions work again."""


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def pose(x: int) -> dict[str, Any]:
    return {"x": x, "y": None, "z": None}


def answers(daemon: Daemon) -> bool:
    """Whether a relayd answers at all."""
    try:
        return bool(daemon.get("/healthz")[0] == 200)
    except OSError:
        return False


def wait_until_joined(sender: Any, viewer: Any) -> None:
    """Returns when the two processes' groups have found each other; both have read everything."""
    for number in range(1_000_000, 1_001_000):
        say(sender, pose(number))
        assert read(sender) == pose(number)
        settle(viewer)
        if [pose(number)] in read_rest(viewer):
            return
        time.sleep(0.02)
        read_rest(viewer)


def test_every_member_in_both_processes_gets_every_pose_once_in_order(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    clients = [connect(daemon, "/ws/camera") for daemon in (here, there, here, there)]
    for number in range(200):
        say(clients[0], pose(number))
        say(clients[1], pose(1000 + number))
    for client in clients:
        got = [frame["x"] for frame in read_many(client, 400)]
        assert [x for x in got if x < 1000] == list(range(200))
        assert [x for x in got if x >= 1000] == list(range(1000, 1200))
    assert read_rest(*clients) == [[], [], [], []]


def test_a_sender_has_the_same_name_in_every_process_and_another_than_every_other_sender(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    viewers = [connect(daemon, "/ws/camera?senders=1") for daemon in (here, there)]
    senders = [connect(daemon, "/ws/camera") for daemon in (here, there, here)]
    for number, sender in enumerate(senders):
        say(sender, pose(number))
    seen = [{frame["x"]: frame["sender"] for frame in read_many(viewer, 3)} for viewer in viewers]
    assert seen[0] == seen[1]
    assert len(set(seen[0].values())) == 3
    assert [frame.keys() for frame in read_many(senders[0], 3)] == [pose(0).keys()] * 3


def test_a_slow_viewer_of_another_process_gets_the_newest_pose(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    """The keys that newer poses replace older ones by go through Redis, too."""
    here, there = (
        spawn(
            REDIS_URL=f"unix://{redis.socket}",
            limits_send_buffer=20_000,
            limits_messages_per_second=0,
        )
        for _ in range(2)
    )
    sender, other = connect(here, "/ws/camera"), connect(here, "/ws/camera")
    slow = there.connect("/ws/camera", max_queue=1, ping_interval=None)
    watch = connect(there, "/ws/camera")
    wait_until_joined(sender, watch)
    text = json.dumps({"x": 1, "y": 1.123456789, "z": 2})
    for _ in range(150):
        for _ in range(200):
            sender.send(text)
        read_rest(sender)
    say(sender, pose(42))
    say(other, pose(43))
    last = {}
    while 42 not in last or 43 not in last:
        frame = json.loads(slow.recv(timeout=PATIENCE))
        last[frame["x"]] = frame
    slow.close()


@pytest.mark.noisy_log
def test_local_poses_continue_during_an_outage_of_redis_in_bounded_memory(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    """Redis is killed for half a minute under load; afterwards everything is as before."""
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    viewers = [connect(daemon, f"/ws/camera/g{n}") for daemon in (here, there) for n in range(5)]
    senders = [connect(here, f"/ws/camera/g{n}") for n in range(5)]
    wait_until_joined(senders[0], viewers[5])
    read_rest(*senders, *viewers)
    before = here.memory()
    redis.kill()
    until = time.monotonic() + AWAY
    sent = 0
    while time.monotonic() < until:
        for sender in senders:
            for number in range(20):
                say(sender, pose(number))
        sent += 20
        for client in (*senders, *viewers[:5]):
            assert [frame["x"] for frame in read_many(client, 20)] == list(range(20))
        time.sleep(0.05)
    assert sent >= 20 * 20
    grown = here.memory() - before
    assert grown < 20e6, f"{grown / 1e6:.1f} MB more"
    eventually(lambda: here.get("/readyz")[0] == 503)
    assert Refused(here, "/ws/push/new").status == 503
    redis.start()
    began = time.monotonic()
    for daemon in (here, there):
        daemon.wait_until_ready()
    assert time.monotonic() - began < BACK
    print(f"grown by {grown / 1e6:.2f} MB; back after {time.monotonic() - began:.2f} s")
    for sender, near, far in zip(senders, viewers[:5], viewers[5:], strict=True):
        wait_until_joined(sender, far)
        read_rest(near, far)
        say(far, pose(7))
        assert [read(client) for client in (sender, near, far)] == [pose(7)] * 3


def test_a_camera_group_that_begins_without_redis_is_joined_with_the_others_when_redis_is_back(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    present = connect(here, "/ws/camera/known")
    redis.kill()
    eventually(lambda: {here.get("/readyz")[0], there.get("/readyz")[0]} == {503})
    for group, members in {"known": [present], "new": [connect(here, "/ws/camera/new")]}.items():
        newcomer = connect(here, f"/ws/camera/{group}")
        say(newcomer, pose(1))
        assert [read(client) for client in (*members, newcomer)] == [pose(1)] * 2
    far = connect(there, "/ws/camera/new")
    for path in ("/ws/push/new", "/ws/chat/new"):  # a message that is missed there is lost
        refused = Refused(here, path)
        assert (refused.status, refused.error) == (503, "store_unavailable")
    redis.start()
    for daemon in (here, there):
        daemon.wait_until_ready()
    wait_until_joined(newcomer, far)
    for client in (*members, newcomer, far):
        client.close()
    eventually(lambda: redis.tell("PUBSUB", "NUMSUB", "relayd:camera/new")[1] == 0)


def test_a_relayd_that_starts_before_its_redis_serves_once_redis_is_up(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    redis.kill()
    daemon = spawn(REDIS_URL=f"unix://{redis.socket}", wait=False)
    eventually(lambda: answers(daemon))
    eventually(lambda: daemon.get("/readyz")[0] == 503)
    answer = daemon.get("/readyz")[1]
    assert answer["parts"]["redis"]["ok"] is False
    assert Refused(daemon, "/ws/chat").status == 503
    alone = connect(daemon, "/ws/camera/alone")  # inside each process cameras go on
    say(alone, pose(0))
    assert read(alone) == pose(0)
    redis.start()
    daemon.wait_until_ready()
    client = connect(daemon, "/ws/camera")
    say(client, pose(1))
    assert read(client) == pose(1)


def test_groups_are_spread_over_several_redis(spawn: Spawn, connect: Connect) -> None:
    with Redis() as one, Redis() as two:
        urls = f"unix://{one.socket} unix://{two.socket}"
        here, there = (spawn(REDIS_URL=urls) for _ in range(2))
        pairs = [
            (connect(here, f"/ws/camera/g{n}"), connect(there, f"/ws/camera/g{n}"))
            for n in range(20)
        ]
        for number, (near, far) in enumerate(pairs):
            say(near, pose(number))
            assert [read(client) for client in (near, far)] == [pose(number)] * 2
        counts = [
            len(server.tell("PUBSUB", "CHANNELS", "relayd:camera/*")) for server in (one, two)
        ]
        assert sum(counts) == 20
        assert min(counts) >= 1


def test_a_group_ends_its_subscription_when_the_last_member_has_left(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(REDIS_URL=f"unix://{redis.socket}")

    def channels() -> list[bytes]:
        found: list[bytes] = redis.tell("PUBSUB", "CHANNELS", "relayd:camera/*")
        return found

    client = connect(daemon, "/ws/camera/a")
    assert channels() == [b"relayd:camera/a"]
    client.close()
    # a newcomer within the second finds it subscribed
    connect(daemon, "/ws/camera/a").close()
    eventually(lambda: not channels())


def test_a_client_that_leaves_during_its_handshake_leaves_no_subscription_behind(
    redis: Redis, spawn: Spawn, dial: Dial
) -> None:
    """The client disconnects before Redis has confirmed the group's channel."""
    daemon = spawn(REDIS_URL=f"unix://{redis.socket}", redis_deadline=PATIENCE)
    eventually(lambda: bool(redis.tell("PUBSUB", "CHANNELS", "relayd:process:*")))
    before = stat_of_command(redis, "subscribe")
    redis.pause()
    visitor = dial(daemon)
    visitor.send(Client.head_for("/ws/camera/a"))
    eventually(lambda: "/ws/camera/a" in daemon.log or daemon.get("/healthz")[0] == 200)
    visitor.socket.shutdown(socket.SHUT_RDWR)
    redis.resume()

    def channels() -> list[bytes]:
        found: list[bytes] = redis.tell("PUBSUB", "CHANNELS", "relayd:camera/*")
        return found

    eventually(lambda: stat_of_command(redis, "subscribe") > before)
    eventually(lambda: not channels())
