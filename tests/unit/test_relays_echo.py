"""`/ws/echo`, and the paths that there are not."""

from collections.abc import Iterator

import pytest
from websockets.frames import Opcode

from relayd.config import Config, Echo, Limits
from relayd.relays.echo import EchoFactory
from relayd.relays.unknown import UnknownFactory
from tests.unit.fakes import BUFFER, World, make_world

ON = Config(
    echo=Echo(enabled=True, max_message_size=100_000),
    limits=Limits(max_message_size=10, send_buffer=1000),
)


@pytest.fixture
def world() -> Iterator[World]:
    with make_world(ON) as (world, _):
        yield world


@pytest.mark.parametrize(
    "payload", ["", " ", "hé", "not JSON", b"", b"\x00\xff", b" ", "x" * 70_000]
)
def test_every_message_comes_back_unchanged_and_of_its_kind(
    world: World, payload: str | bytes
) -> None:
    client = world.connect(EchoFactory(world.context), "/ws/echo")
    client.send(payload)
    [frame] = client.frames()
    text = isinstance(payload, str)
    assert frame.opcode is (Opcode.TEXT if text else Opcode.BINARY)
    assert bytes(frame.data) == (payload.encode() if isinstance(payload, str) else payload)


def test_a_message_may_have_the_size_configured_for_echo_alone(world: World) -> None:
    client = world.connect(EchoFactory(world.context), "/ws/echo")
    client.send(b"x" * 100_000)
    assert len(client.frames()) == 1
    client.send(b"x" * 100_001)
    assert client.closed()[0] == 1009


def test_a_client_that_sends_and_does_not_read_is_closed_as_too_slow(world: World) -> None:
    client = world.connect(EchoFactory(world.context), "/ws/echo", answers=False)
    client.transport.peer_reads = False
    for _ in range(3):
        client.send(b"x" * (BUFFER + 1))
    client.transport.read()
    assert client.closed() == (4003, "too slow")


@pytest.mark.parametrize("path", ["/ws/echo/a", "/ws/echo/a/"])
def test_a_longer_path_is_refused(world: World, path: str) -> None:
    assert world.connect(EchoFactory(world.context), path).refusal == (404, "not_found")


def test_the_path_does_not_exist_unless_echo_is_enabled() -> None:
    with make_world() as (world, _):
        client = world.connect(EchoFactory(world.context), "/ws/echo")
        assert client.refusal == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/ws", "/ws/cam", "/elsewhere?token=x"])
def test_an_unknown_path_is_refused(world: World, path: str) -> None:
    assert world.connect(UnknownFactory(world.context), path).refusal == (404, "not_found")


def test_an_unknown_path_can_be_refused_with_a_close_code(world: World) -> None:
    client = world.connect(UnknownFactory(world.context), "/ws/cam?refuse=close")
    assert client.closed() == (4404, "not_found")
