"""Pings, pongs and 4002 with short times, on a spawned relayd."""

import time

import pytest

from tests.daemon import Daemon
from tests.integration.clients import read, settle
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.raw import CLOSE, PING, PONG, frame


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
    assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 4002)
    assert connection.ended()


@pytest.mark.parametrize(
    "beat", [frame(PONG), frame(PING, b"x"), b"half"], ids=["pong", "ping", "half"]
)
def test_any_sign_of_life_keeps_a_connection(node: Daemon, dial: Dial, beat: bytes) -> None:
    """Four times as long as silence is borne: whatever bytes come count."""
    connection = dial(node).open("/ws/camera")
    connection.socket.settimeout(0.2)
    deadline = time.monotonic() + 3.2
    sent = frame(PING, b"y" * 100) * 3 if beat == b"half" else b""
    while time.monotonic() < deadline:
        if sent:  # a frame in small pieces
            connection.send(sent[:1])
            sent = sent[1:]
        else:
            connection.send(beat)
        time.sleep(0.1)  # the point of the test is that time passes
    connection.socket.settimeout(10)
    connection.send(sent, frame(CLOSE, (1000).to_bytes(2)))
    assert connection.close_frame()[0] == 1000


def test_a_client_that_only_answers_pings_stays(node: Daemon, connect: Connect) -> None:
    viewer, other = connect(node, "/ws/camera"), connect(node, "/ws/camera")
    time.sleep(2.5)  # the point of the test is that time passes
    settle(viewer)
    other.send('{"x":1}')
    assert read(viewer)["x"] == 1


def test_a_headset_without_wifi_leaves_its_pair(node: Daemon, connect: Connect, dial: Dial) -> None:
    """Its phone hears of it as soon as the pong is missing."""
    uuid = "123e4567-e89b-42d3-a456-426614174000"
    dial(node).open(f"/ws/difficulty/unity/{uuid}")
    phone = connect(node, f"/ws/difficulty/android/{uuid}")
    assert read(phone) == {"status": "unity_disconnected"}
