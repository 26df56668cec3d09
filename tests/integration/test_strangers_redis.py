"""Strangers against what all processes share, a Redis: they fill their own share of it only.

Each test is an attack that was tried: all rooms got 503, or a talk elsewhere lost messages.
"""

import contextlib
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.frames import TEXT, frame
from tests.integration.clients import read, say
from tests.integration.raw import Raw, handshake
from tests.integration.strangers import (
    NO_RATES,
    Bystander,
    Flood,
    check_answers,
    clients,
    eventually_sent,
)
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Redis]:
    """A Redis of this module."""
    with Redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def unlimited(shared: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd over it, without rates, whose rooms keep 1,000 messages of 60 KB."""
    settings = {
        **NO_RATES,
        "redis_url": f"unix://{shared.socket}",
        "chat_history_bytes": 80 * MEGABYTE,
        "chat_total_bytes": 200 * MEGABYTE,
        "keepalive_pong_timeout": 2,
    }
    env = {f"RELAYD_{name.upper()}": str(value) for name, value in settings.items()}
    node = Daemon(tmp_path_factory.mktemp("unlimited"), env)
    node.start()
    yield node
    node.stop()


def memory_of(redis: Redis) -> int:
    """Bytes that a Redis has in use, what it has not sent yet included."""
    (line,) = (
        line for line in redis.tell("INFO", "memory").split() if line.startswith(b"used_memory:")
    )
    return int(line.partition(b":")[2])


def test_ten_readers_of_a_full_room_who_read_nothing_fill_no_redis_and_stall_nobody(
    shared: Redis, unlimited: Daemon
) -> None:
    """Every joiner fetched all entries: Redis grew by 600 MB, and all rooms got 503."""
    with unlimited.connect("/ws/chat/full?history=0", max_size=None) as writer:
        for _ in range(100):
            for _ in range(10):
                say(writer, {"message": "x" * 60_000})
            for _ in range(10):
                assert "id" in read(writer)
    before, own = memory_of(shared), unlimited.memory()
    assert before > 60 * MEGABYTE
    highest = [before, own]
    bystander = Bystander(unlimited)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            reader = stack.enter_context(Raw(unlimited.port, receive_buffer=4096))
            reader.send(handshake("/ws/chat/full?history=1000"))
        talker = stack.enter_context(unlimited.connect("/ws/chat/quiet?history=0"))

        def talk() -> bool:
            now = memory_of(shared), unlimited.memory()
            highest[:] = map(max, highest, now)
            say(talker, {"message": "hi"})
            assert read(talker)["message"] == "hi"
            return unlimited.log.count("asked for a history and does not read it") == 10

        bystander.watch(talk)
        check_answers(unlimited)
        reader = stack.enter_context(Raw(unlimited.port).open("/ws/chat/full?history=1000"))
        for _ in range(1000):
            assert len(reader.frame()[1]) > 60_000
            highest[0] = max(highest[0], memory_of(shared))
    assert highest[0] - before < 16 * MEGABYTE
    assert highest[1] - own < 64 * MEGABYTE
    eventually(lambda: unlimited.memory() - own < 16 * MEGABYTE)
    bystander.check()


@pytest.mark.parametrize("size", [1, 60_000])
def test_floods_into_fifteen_rooms_refuse_nobody_in_another_room(
    unlimited: Daemon, size: int
) -> None:
    """The scripts of nine rooms filled the connection to Redis: all other commands were refused."""
    message = frame(TEXT, b'{"message":"%s"}' % (b"x" * size))
    with contextlib.ExitStack() as stack:
        senders = []
        for number in range(15):
            path = f"/ws/chat/flood{number}?history=0"
            senders += stack.enter_context(clients(unlimited, path, 1))
        flood = stack.enter_context(Flood(senders, message * (4096 if size == 1 else 64)))
        talker = stack.enter_context(unlimited.connect("/ws/chat/quiet?history=0"))
        eventually_sent(flood, 300_000 if size == 1 else 20 * MEGABYTE)
        for number in range(12):
            say(talker, {"message": str(number)})
            assert read(talker)["message"] == str(number)
        check_answers(unlimited)
