"""Pings, pongs and 4002 with short times, on a spawned relayd."""

import json
import time

import pytest
from websockets.exceptions import InvalidStatus

from tests.daemon import Daemon
from tests.frames import CLOSE, PING, PONG, TEXT, frame
from tests.integration.clients import PATIENCE, read, settle
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.raw import Raw


@pytest.fixture
def node(spawn: Spawn) -> Daemon:
    """A relayd that pings after 0.3 s, waits 0.5 s for a pong and 0.5 s for an answered close."""
    return spawn(
        keepalive_ping_interval=0.3, keepalive_pong_timeout=0.5, keepalive_close_timeout=0.5
    )


def test_a_missing_pong_closes_with_4002(node: Daemon, dial: Dial) -> None:
    """A silent peer is pinged, then closed, then dropped, though it answers nothing."""
    connection = dial(node).open("/ws/camera")
    assert connection.frame() == (PING, b"")
    opcode, payload = connection.frame()
    assert (opcode, json.loads(payload)["error"]) == (TEXT, "no_pong")
    opcode, payload = connection.frame()
    assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 4002)
    assert connection.ended()


@pytest.mark.parametrize(
    "beat", [frame(PONG), frame(PING, b"x"), b"half"], ids=["pong", "ping", "half"]
)
def test_any_received_byte_keeps_a_connection_alive(node: Daemon, dial: Dial, beat: bytes) -> None:
    """Four times as long as silence is borne: whatever bytes come count."""
    deadline = time.monotonic() + PATIENCE
    while not keeps_alive(connection := dial(node).open("/ws/camera"), beat):
        assert time.monotonic() < deadline, "this machine is too slow"
    assert connection.close_frame()[0] == 1000


def keeps_alive(connection: Raw, beat: bytes) -> bool:
    """Gives signs of life, then a close; False if one was so late that it was us who were silent.

    Raises:
        OSError: it ended although none was late.
    """
    signs, rest = [beat] * 32, b""
    if beat == b"half":  # a frame in small pieces
        whole = frame(PING, b"y" * 100) * 3
        signs, rest = [whole[at : at + 1] for at in range(32)], whole[32:]
    last = time.monotonic()
    for sign in (*signs, rest + frame(CLOSE, (1000).to_bytes(2))):
        time.sleep(0.1)  # the point of the test is that time passes
        try:
            connection.send(sign)
        except OSError:
            if time.monotonic() - last < 0.5:
                raise
        if time.monotonic() - last >= 0.5:
            return False
        last = time.monotonic()
    return True


@pytest.mark.parametrize("path", ["/ws/camera", "/ws/chat", "/ws/push/beats"])
def test_a_client_that_asks_for_heartbeats_gets_one_at_once_and_one_with_each_ping(
    spawn: Spawn, connect: Connect, path: str
) -> None:
    node = spawn(keepalive_ping_interval=0.5, keepalive_pong_timeout=1)
    client = connect(node, f"{path}?heartbeat=1")
    beats = [read(client) for _ in range(3)]
    assert beats == [{"status": "heartbeat", "seconds": 0.6}] * 3


def test_a_client_that_only_answers_pings_stays(spawn: Spawn, connect: Connect) -> None:
    """Twice as long as silence is borne, which is longer than we may hang."""
    node = spawn(keepalive_ping_interval=0.3, keepalive_pong_timeout=2.7)
    viewer, other = connect(node, "/ws/camera"), connect(node, "/ws/camera")
    time.sleep(6)  # the point of the test is that time passes
    settle(viewer)
    other.send('{"x":1}')
    assert read(viewer)["x"] == 1


def test_a_headset_without_wifi_leaves_its_pair(node: Daemon, connect: Connect, dial: Dial) -> None:
    """Its phone hears of it as soon as the pong is missing."""
    uuid = "123e4567-e89b-42d3-a456-426614174000"
    phone = None
    deadline = time.monotonic() + PATIENCE
    while phone is None:
        dial(node).open(f"/ws/difficulty/unity/{uuid}")
        try:
            phone = connect(node, f"/ws/difficulty/android/{uuid}")
        except InvalidStatus as refusal:  # it came when the pong was missing already
            if b"no_unity" not in refusal.response.body or time.monotonic() > deadline:
                raise
    assert read(phone) == {"status": "unity_disconnected"}
