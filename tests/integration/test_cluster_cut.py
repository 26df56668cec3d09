"""A process whose way to Redis swallows, delays or cuts what goes through it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cable import Cable, State
from tests.daemon import Daemon
from tests.integration.clients import read, read_many, read_rest, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.redis_servers import Redis


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def cable(redis: Redis) -> Iterator[Cable]:
    with Cable(redis.port) as cable:
        yield cable


@pytest.fixture
def two(redis: Redis, cable: Cable, spawn: Spawn) -> tuple[Daemon, Daemon]:
    """One with a straight way to Redis, one behind the cable."""
    near = spawn(REDIS_URL=f"redis://127.0.0.1:{redis.port}")
    far = spawn(REDIS_URL=f"redis://127.0.0.1:{cable.port}", redis_deadline=3)
    return near, far


@pytest.mark.parametrize("trouble", ["swallow", "cut"])
def test_a_process_cut_off_from_redis_notifies_its_clients_and_catches_up(
    redis: Redis, two: tuple[Daemon, Daemon], cable: Cable, connect: Connect, trouble: State
) -> None:
    """The others go on; afterwards all have the same, once and in one order."""
    near, far = two
    here = [connect(near, "/ws/chat/r") for _ in range(2)]
    there = [connect(far, "/ws/chat/r") for _ in range(2)]
    camera = [connect(far, "/ws/camera") for _ in range(2)]
    # not from there: Redis' answer to that may still be on its way when the trouble begins
    say(here[0], {"message": "all hear this"})
    for client in (*here, *there):
        assert read(client)["message"] == "all hear this"

    cable.be(trouble)
    for client in there:
        assert read(client)["error"] == "store_unavailable"
    say(there[0], {"message": "refused"})
    assert read(there[0])["error"] == "store_unavailable"
    # poses go on among the clients of the process that is cut off
    say(camera[0], {"x": 1})
    assert [read(client)["x"] for client in camera] == [1, 1]
    # and messages among the clients of the other one
    texts = [f"meanwhile {number}" for number in range(200)]
    for text in texts:
        say(here[0], {"message": text})
    for client in here:
        assert [frame["message"] for frame in read_many(client, 200)] == texts

    # both connections of the far one have noticed, and those of the near one are left
    eventually(lambda: redis.connections() == 2)
    cable.be("through")
    for client in there:
        assert [frame["message"] for frame in read_many(client, 200)] == texts
        assert read(client)["status"] == "restored"
    far.wait_until_ready()
    say(there[1], {"message": "together again"})
    last = [read(client) for client in (*here, *there)]
    assert {frame["message"] for frame in last} == {"together again"}
    assert len({frame["id"] for frame in last}) == 1
    assert read_rest(*here, *there, *camera) == [[]] * 6


def test_a_slow_link_to_redis_changes_only_the_latency(
    two: tuple[Daemon, Daemon], cable: Cable, connect: Connect
) -> None:
    near, far = two
    clients: list[Any] = [connect(daemon, "/ws/chat/r") for daemon in (near, far, near, far)]
    cable.delay = 0.1
    for number in range(40):
        say(clients[number % 4], {"message": str(number)})
    got = [read_many(client, 40) for client in clients]
    assert got[1:] == got[:1] * 3
    assert sorted(int(frame["message"]) for frame in got[0]) == list(range(40))
    cable.delay = 0
    late = connect(far, "/ws/chat/r")
    assert read_many(late, 40) == got[0]


def test_a_watcher_is_told_of_members_whose_process_missed_that_it_watches(
    redis: Redis, two: tuple[Daemon, Daemon], cable: Cable, spawn: Spawn, connect: Connect
) -> None:
    near, far = two
    connect(far, "/ws/chat/r?history=0")
    cable.be("cut")
    eventually(lambda: redis.connections() == 2)
    watcher = connect(near, "/ws/chat/r?history=0&presence=1")
    assert read(watcher)["count"] == 1
    cable.be("through")
    assert read(watcher)["count"] == 2
    # it begins when everybody has said what they watch
    connect(spawn(REDIS_URL=f"redis://127.0.0.1:{redis.port}"), "/ws/chat/r?history=0")
    assert read(watcher)["count"] == 3


def test_a_watcher_that_leaves_at_once_is_no_failure(
    two: tuple[Daemon, Daemon], cable: Cable, connect: Connect
) -> None:
    _, far = two
    cable.delay = 0.2
    for number in range(3):
        connect(far, f"/ws/chat/r{number}?history=0&presence=1").close()
    watcher = connect(far, "/ws/chat/r2?history=0&presence=1")
    assert read(watcher)["count"] == 1
    cable.delay = 0
    assert "failed" not in far.log
