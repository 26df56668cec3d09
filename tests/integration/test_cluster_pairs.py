"""The quiz pairing with phone and headset on different processes, one of which stops or dies."""

import itertools
import json
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.clients import (
    PATIENCE,
    Refused,
    read,
    read_close,
    read_many,
    read_rest,
    say,
    settle,
)
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually, stopped
from tests.redis_servers import Redis

TAKEOVERS = 1000


@pytest.fixture
def redis() -> Iterator[Redis]:
    # what Redis has answered is in the page cache then; with everysec, a write may be postponed
    with Redis("appendonly yes", "appendfsync no") as server:
        yield server


@pytest.fixture
def two(redis: Redis, spawn: Spawn) -> tuple[Daemon, Daemon]:
    """Two processes."""
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    return here, there


def unity(pair: object) -> str:
    return f"/ws/difficulty/unity/{pair}"


def android(pair: object) -> str:
    return f"/ws/difficulty/android/{pair}"


def ask(phone: ClientConnection) -> Any:
    """Sends a request; returns the answer, whatever news come before."""
    say(phone, {"difficulty": 1})
    return answer_of(phone)


def test_a_phone_reaches_a_headset_of_another_process(
    two: tuple[Daemon, Daemon], connect: Connect
) -> None:
    here, there = two
    pair = uuid.uuid4()
    refused = Refused(there, android(pair))
    assert (refused.status, refused.error) == (400, "no_unity")
    headset = connect(here, unity(pair))
    phone = connect(there, android(str(pair).upper()))
    for _ in range(20):
        assert ask(phone) == {"status": "received"}
        assigned = read(headset)
        assert 1 <= len(assigned["quiz_id"]) <= 3
        assert assigned["action_id"]
    say(phone, {"difficulty": 10**6})
    assert read(phone)["error"] == "no_content"
    headset.close()
    assert read(phone) == {"status": "unity_disconnected"}
    assert ask(phone)["error"] == "no_unity"
    again = connect(there, unity(pair))
    assert read(phone) == {"status": "unity_connected"}
    assert ask(phone) == {"status": "received"}
    assert read(again)["quiz_id"]
    # and back to the other process, while this one is still there: a headset that lost its Wi-Fi
    newest = connect(here, unity(pair))
    assert read_close(again)[0] == 4001
    assert ask(phone) == {"status": "received"}
    assert read(newest)["quiz_id"]
    other_phone = connect(here, android(pair))
    assert read_close(phone)[0] == 4001
    assert ask(other_phone) == {"status": "received"}
    assert read_rest(newest, other_phone)[1] == []


def test_a_phone_gets_no_unity_within_12_s_after_its_headsets_process_was_killed(
    two: tuple[Daemon, Daemon], connect: Connect
) -> None:
    here, there = two
    pair = uuid.uuid4()
    connect(here, unity(pair))
    phone = connect(there, android(pair))
    assert ask(phone) == {"status": "received"}
    here.kill()
    began = time.monotonic()
    assert ask(phone)["error"] == "no_unity"
    assert time.monotonic() - began < 12
    # by itself, without being asked
    frame = read(phone)
    assert frame == {"status": "unity_disconnected"}
    assert time.monotonic() - began < 15
    eventually(lambda: _refused(there, android(pair)) == (400, "no_unity"), 12)


def _refused(daemon: Daemon, path: str) -> tuple[int, str] | None:
    """Status and code of a refused handshake; None if it was not refused."""
    try:
        daemon.connect(path).close()
    except ConnectionClosed:
        return None
    except Exception:
        answer = Refused(daemon, path)
        return answer.status, answer.error
    return None


def test_every_request_is_answered_while_the_headsets_process_is_stopped_and_none_comes_late(
    two: tuple[Daemon, Daemon], connect: Connect
) -> None:
    here, there = two
    pair = uuid.uuid4()
    headset = connect(here, unity(pair))
    phone = connect(there, android(pair))
    assert ask(phone) == {"status": "received"}
    read(headset)
    with stopped(here.pid):
        for _ in range(3):
            began = time.monotonic()
            answer = ask(phone)
            assert answer["status"] == "error"
            assert answer["error"] == "no_unity"
            assert time.monotonic() - began < 3
    # whatever was under way has come through: it answers again, and nothing of it was late
    deadline = time.monotonic() + PATIENCE
    while ask(phone)["status"] != "received":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    frames = read_rest(headset)[0]
    assert len(frames) == 1, "a late frame"


def test_a_tag_sent_again_at_either_process_assigns_once_whatever_was_lost(
    redis: Redis, two: tuple[Daemon, Daemon], connect: Connect
) -> None:
    """Subscriptions are killed and Redis stands still while phones send, reconnect and send again.

    Receipts and errors are true, each request has one answer, in the order of the requests.
    """
    pair = uuid.uuid4()
    headset = connect(two[0], unity(pair))
    settle(headset)
    phone = connect(two[1], android(pair))
    for round_ in range(6):
        tags = [f"{round_}/{number}" for number in range(4)]
        for number, tag in enumerate(tags):
            say(phone, {"difficulty": 1, "tag": tag})
            if number == round_ % 4:
                if round_ % 2:
                    redis.pause()
                    time.sleep(0.5)
                    redis.resume()
                else:
                    redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
        answers = [answer_of(phone) for _ in tags]
        assert [answer["tag"] for answer in answers] == tags
        certain = {answer["tag"] for answer in answers if answer["status"] == "received"}
        unknown = {answer["tag"] for answer in answers if answer.get("error") == "outcome_unknown"}
        eventually(lambda: all(node.get("/readyz")[0] == 200 for node in two))
        frames = len(read_rest(headset)[0])
        assert len(certain) <= frames <= len(certain) + len(unknown)
        phone.close()
        phone = connect(two[round_ % 2], android(pair))
        for tag in tags:
            answer = {"status": "error"}
            while answer["status"] == "error":
                say(phone, {"difficulty": 1, "tag": tag})
                answer = answer_of(phone)
                assert answer["tag"] == tag
        assert frames + len(read_rest(headset)[0]) == len(tags)
    assert ask(phone) == {"status": "received"}


def answer_of(phone: ClientConnection) -> Any:
    """The next answer, whatever news come before."""
    while (frame := read(phone))["status"] not in ("received", "error"):
        pass
    return frame


def test_an_outage_of_redis_refuses_both_sides_and_ends_without_a_restart(
    redis: Redis, two: tuple[Daemon, Daemon], connect: Connect
) -> None:
    here, there = two
    pair = uuid.uuid4()
    headset = connect(here, unity(pair))
    phone = connect(there, android(pair))
    assert ask(phone) == {"status": "received"}
    redis.kill()
    eventually(lambda: there.get("/readyz")[0] == 503)
    assert ask(phone)["error"] == "store_unavailable"
    for path in (unity(uuid.uuid4()), android(pair)):
        answer = Refused(there, path)
        assert (answer.status, answer.error) == (503, "store_unavailable")
    redis.start()
    for daemon in two:
        daemon.wait_until_ready()
    deadline = time.monotonic() + PATIENCE
    while ask(phone)["status"] != "received":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert read_many(headset, 2)


@pytest.mark.noisy_log
def test_a_thousand_takeovers_leave_exactly_one_headset_the_newest(
    redis: Redis, two: tuple[Daemon, Daemon], connect: Connect
) -> None:
    """Two processes at random, some headsets leaving; at every rest the newest one is the one."""
    choice = random.Random(4)
    pair = uuid.uuid4()
    first = connect(two[0], unity(pair))
    phone = connect(two[1], android(pair))
    open_ones: list[ClientConnection] = [first]
    left: list[ClientConnection] = []
    for number in itertools.count(1):
        newest = choice.choice(two).connect(unity(pair), ping_interval=None)
        open_ones.append(newest)
        if choice.random() < 0.2:
            left.append(choice.choice(open_ones[:-1]))
            left[-1].close()  # an older one leaves: that changes nothing
        if number % 50 == 0:
            for older in open_ones[:-1]:
                code = read_close(older)[0]
                # one that left may have done so before it was told that it was replaced
                assert code == 4001 or (code == 1000 and older in left)
                older.close()
            open_ones = [newest]
            keys = redis.tell("KEYS", "relayd:*unity*")
            assert len([key for key in keys if key.endswith(b":unity")]) == 1
            assert ask(phone) == {"status": "received"}
            assert read(newest)["quiz_id"]
            read_rest(phone)
        if number >= TAKEOVERS:
            break
    newest.close()
    eventually(lambda: json.loads(phone.recv(PATIENCE)) == {"status": "unity_disconnected"})
