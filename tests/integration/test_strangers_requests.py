"""Strangers who send requests: bodies that never end, and floods of probes."""

import contextlib
import os
import signal
import socket
import threading
import time

from websockets.exceptions import InvalidStatus

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say, settle
from tests.integration.conftest import Connect, Spawn
from tests.integration.raw import Raw, handshake, request
from tests.integration.waiting import eventually
from tests.suspension import suspend

HEALTH = request("/readyz")


def test_200_bodies_without_a_key_are_answered_at_their_heads_and_ended(spawn: Spawn) -> None:
    node = spawn(api_key="a-key-for-tests")
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(Raw(node.port)) for _ in range(200)]
        head = request("/api/push/a", "Content-Length: 60000", method="POST")
        for stranger in strangers:
            stranger.send(head)
        for stranger in strangers:
            assert stranger.response().status == 401
        for stranger in strangers:
            assert stranger.ended()


def test_slow_bodies_with_a_key_are_ended_and_whole_ones_are_published(spawn: Spawn) -> None:
    node = spawn(api_key="a-key-for-tests", keepalive_request_timeout=1)
    key = "Authorization: Bearer a-key-for-tests"
    with Raw(node.port) as slow:
        slow.send(request("/api/push/a", key, "Content-Length: 100", method="POST"), b"{")
        assert slow.response().status == 408
        assert slow.ended()
    found = node.post("/api/push/a", b"{}", Authorization="Bearer a-key-for-tests")
    assert found == (200, {"clients": 0})


def test_a_flood_of_readiness_probes_leaves_the_database_and_the_chat_alone(
    spawn: Spawn, connect: Connect
) -> None:
    node = spawn()
    member = connect(node, "/ws/chat/inside?history=0")
    before = interactions(node)
    ends = threading.Event()
    answered = [0] * 4
    threads = [threading.Thread(target=_probe, args=(node, ends, answered, n)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            say(member, {"message": f"{number}"})
            assert read(member)["message"] == f"{number}"
        while min(answered) < 400:
            assert all(thread.is_alive() for thread in threads)
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    # one a second for the probes, one for each of the 20 messages at most
    assert interactions(node) - before < 20 + sum(answered) / 10


def _probe(node: Daemon, ends: threading.Event, answered: list[int], number: int) -> None:
    with Raw(node.port) as stranger:
        while not ends.is_set():
            stranger.send(HEALTH * 20)
            for _ in range(20):
                assert stranger.response().status == 200
            answered[number] += 20


def interactions(node: Daemon) -> float:
    """The interactions with the database so far."""
    lines = node.get("/metrics")[1].splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("relayd_database_interaction_seconds_count")
    )


def test_a_late_relayd_sheds_the_reads_of_histories_first(spawn: Spawn, connect: Connect) -> None:
    """Its first late turn is enough; whoever needs no history is admitted."""
    node = spawn(limits_overload_lag=0.8)
    say(member := connect(node, "/ws/chat/inside?history=0"), {"message": "before"})
    assert read(member)["message"] == "before"
    with_history = ("/ws/chat/inside", "/ws/chat/inside?since=0")
    deadline = time.monotonic() + 3 * PATIENCE
    while True:
        shed = come_while_stopped(node, with_history)
        # in time again; three late turns in a row would shed everybody
        eventually(lambda: admitted(node, "/ws/chat/inside?since=0"))
        others = come_while_stopped(node, ("/ws/chat/inside?history=0", "/ws/camera"))
        eventually(lambda: admitted(node, "/ws/chat/inside?since=0"))
        settle(member)
        assert [answer[9:12] for answer in others] == [b"101"] * len(others)
        if all(b'"overloaded"' in answer and b"Retry-After: " in answer for answer in shed):
            break
        # it had so little time that its next measurement came before it read the handshakes
        assert time.monotonic() < deadline
    assert "overloaded: the loop is" not in node.log


def come_while_stopped(node: Daemon, paths: tuple[str, ...]) -> list[bytes]:
    """The answers to handshakes that come while a relayd is stopped for a second."""
    suspend(node.pid)
    with contextlib.ExitStack() as stack:
        callers = []
        for path in paths:
            caller = socket.create_connection(("127.0.0.1", node.port), PATIENCE)
            callers.append(stack.enter_context(caller))
            caller.sendall(handshake(path))
        time.sleep(1.2)
        os.kill(node.pid, signal.SIGCONT)
        return [caller.recv(4096) for caller in callers]


def admitted(node: Daemon, path: str) -> bool:
    """Whether a client may connect."""
    try:
        node.connect(path).close()
    except InvalidStatus:
        return False
    return True


def test_a_relayd_whose_loop_stays_late_sheds_new_clients_until_it_is_in_time(
    spawn: Spawn, connect: Connect
) -> None:
    """It is stopped again and again, as by a machine that has no time for it."""
    node = spawn(limits_overload_lag=0.2)
    member = connect(node, "/ws/chat/inside?history=0")
    deadline = time.monotonic() + 3 * PATIENCE
    while "overloaded: the loop is" not in node.log:
        assert time.monotonic() < deadline
        suspend(node.pid)
        time.sleep(0.6)
        os.kill(node.pid, signal.SIGCONT)
        say(member, {"message": "still here"})
        assert read(member)["message"] == "still here"
    while "no longer overloaded" not in node.log:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connect(node, "/ws/chat/inside?history=0")
