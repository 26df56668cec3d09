"""Strangers who flood, and never read: everyone else has their turn of the loop.

Each test is an attack that was tried: it kept the loop busy for up to 34.9 s, and systemd's
watchdog ended the process. The rates are off where they would end the attack before it begins.
"""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.frames import BINARY, PING, TEXT, frame
from tests.integration.clients import read, say
from tests.integration.conftest import Spawn
from tests.integration.relayctl import Operator
from tests.integration.strangers import (
    NO_RATES,
    Bystander,
    Flood,
    check_answers,
    clients,
    eventually_sent,
)


def test_480_viewers_that_never_read_and_16_senders_stall_nobody(spawn: Spawn) -> None:
    node = spawn(**NO_RATES)
    before = node.memory()
    bystander = Bystander(node)
    with (
        clients(node, "/ws/camera/flood", 480),
        clients(node, "/ws/camera/flood", 16) as senders,
        Flood(senders, frame(TEXT, b"{}") * 8192, 16_800_000) as flood,
    ):
        bystander.watch(lambda: flood.done)
        check_answers(node)
        assert node.memory() - before < 64 << 20
    bystander.check()


KINDS = {
    "one-byte frames": frame(TEXT, b"x"),
    "empty pings": frame(PING, b""),
    "empty fragments": frame(0, b"", fin=False),
    "binary frames": frame(BINARY, b"{}"),
    "poses": frame(TEXT, b"{}"),
}


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd without rates."""
    settings = {f"RELAYD_{name.upper()}": str(value) for name, value in NO_RATES.items()}
    node = Daemon(tmp_path_factory.mktemp("unlimited"), settings)
    node.start()
    yield node
    node.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of_frames_of_any_kind_stalls_nobody(unlimited: Daemon, kind: str) -> None:
    bystander = Bystander(unlimited)
    first = frame(TEXT, b"", fin=False) if kind == "empty fragments" else b""
    with clients(unlimited, "/ws/camera/flood", 2) as senders:
        for sender in senders:
            sender.send(first)
        with Flood(senders, KINDS[kind] * 8192):
            bystander.watch(lambda: True)
            check_answers(unlimited)
    bystander.check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_flooder_that_is_kicked_stalls_nobody_afterwards(unlimited: Daemon, kind: str) -> None:
    bystander = Bystander(unlimited)
    operator = Operator(unlimited.folder)
    with clients(unlimited, "/ws/camera/kicked", 1) as senders:
        found = operator.json("clients", "--path", "/ws/camera/kicked")["found"]
        [number] = [each["id"] for each in found]
        with Flood(senders, KINDS[kind] * 8192) as flood:
            eventually_sent(flood, 100_000)
            operator("kick", number)  # if it was not closed before, with 4003
            bystander.watch(lambda: flood.done)
    bystander.check()


def test_a_flood_of_chat_messages_refuses_nobody_in_another_room(unlimited: Daemon) -> None:
    """Fifteen clients in one room, which read nothing, and a talk of twelve messages elsewhere."""
    message = frame(TEXT, b'{"message":"x"}')
    with (
        clients(unlimited, "/ws/chat/flood?history=0", 15) as senders,
        Flood(senders, message * 4096) as flood,
        unlimited.connect("/ws/chat/quiet?history=0") as talker,
    ):
        eventually_sent(flood, 1_000_000)
        for number in range(12):
            say(talker, {"message": str(number)})
            assert read(talker)["message"] == str(number)


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_default_rates_a_flooder_is_warned_then_closed_with_4004(
    relayd: Daemon, kind: str
) -> None:
    with clients(relayd, "/ws/camera/rated", 1, buffer=1 << 20) as [flooder]:
        if kind == "empty fragments":
            flooder.send(frame(TEXT, b"", fin=False))
        for _ in range(2500):
            with contextlib.suppress(OSError):
                flooder.send(KINDS[kind])
        warnings, code = 0, None
        while code is None:
            opcode, payload = flooder.frame()
            if opcode == 8:
                code = int.from_bytes(payload[:2])
            elif opcode == TEXT:
                warnings += json.loads(payload).get("error") == "rate_limited"
    # a warning, and the error before the close
    assert (warnings, code) == (2, 4004)
