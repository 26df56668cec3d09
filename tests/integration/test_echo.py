"""`/ws/echo`: every message back unchanged, on a spawned relayd."""

import os

import pytest

from tests.daemon import Daemon
from tests.frames import PING, PONG, frame
from tests.integration.clients import Refused, read_close
from tests.integration.conftest import Connect, Dial, Spawn

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 200_000]


@pytest.mark.parametrize("size", SIZES)
def test_binary_comes_back_unchanged(relayd: Daemon, connect: Connect, size: int) -> None:
    client, message = connect(relayd, "/ws/echo", max_size=None), os.urandom(size)
    client.send(message)
    assert client.recv(timeout=10) == message


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("letter", ["x", "é", "🙂", "\0", " "])
def test_text_comes_back_unchanged(
    relayd: Daemon, connect: Connect, size: int, letter: str
) -> None:
    """Blank text too, which other paths ignore."""
    client, message = (
        connect(relayd, "/ws/echo/", max_size=None),
        letter * (size // len(letter.encode())),
    )
    client.send(message)
    assert client.recv(timeout=10) == message


def test_a_fragmented_message_comes_back_whole(relayd: Daemon, connect: Connect) -> None:
    """A fragment may end inside a character."""
    client = connect(relayd, "/ws/echo")
    client.send(["a", "", "é", "b" * 70_000])
    assert client.recv(timeout=10) == "aéb".ljust(70_002, "b")
    client.send([b"\x00", b"\xff" * 126, b""])
    assert client.recv(timeout=10) == b"\x00" + b"\xff" * 126


def test_many_messages_keep_their_order(relayd: Daemon, connect: Connect) -> None:
    client = connect(relayd, "/ws/echo")
    messages = [b"%d" % number if number % 2 else str(number) for number in range(500)]
    for message in messages:
        client.send(message)
    assert [client.recv(timeout=10) for _ in messages] == messages


def test_a_ping_is_answered_with_its_payload(relayd: Daemon, dial: Dial) -> None:
    connection = dial(relayd).open("/ws/echo")
    for payload in (b"", b"x" * 125):
        connection.send(frame(PING, payload))
        assert connection.frame() == (PONG, payload)


def test_echo_has_its_own_message_limit(spawn: Spawn, connect: Connect) -> None:
    """`[echo] max_message_size` holds here, and not that of the other paths."""
    node = spawn(echo_enabled=True, echo_max_message_size=1000, limits_max_message_size=10)
    client = connect(node, "/ws/echo")
    client.send(b"x" * 1000)
    assert client.recv(timeout=10) == b"x" * 1000
    client.send(b"x" * 1001)
    assert read_close(client)[0] == 1009


def test_the_echo_path_is_off_by_default(spawn: Spawn) -> None:
    refused = Refused(spawn(), "/ws/echo")
    assert (refused.status, refused.error) == (404, "not_found")


def test_a_longer_path_is_not_found(relayd: Daemon) -> None:
    assert Refused(relayd, "/ws/echo/more").status == 404
