"""Strangers who flood, and never read: everyone else has their turn of the loop.

Each test is an attack that was tried: it kept the loop busy for up to 34.9 s, and systemd's
watchdog ended the process. The tests measure what a bystander waits for by the CPU time that the
loop spends between a pose and its arrival, since the machine may be busy with other work. The rates
are off where they would end the attack before it begins.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.frames import BINARY, PING, TEXT, frame
from tests.integration.clients import PATIENCE, read, say
from tests.integration.conftest import Spawn
from tests.integration.raw import Raw, handshake
from tests.integration.relayctl import Operator

NO_RATES = {
    "limits_messages_per_second": 0,
    "limits_bytes_per_second": 0,
    "limits_group_messages_per_second": 0,
}
LONGEST = 0.05
"""CPU seconds of the loop that 99 of 100 poses of a bystander may wait for."""
POSES = 300


class Bystander:
    """Two clients of a group of their own, one of which sends a pose whenever the last has come.

    Attributes:
        waits: the CPU seconds of the loop for each pose.
    """

    def __init__(self, node: Daemon) -> None:
        self.waits: list[float] = []
        self._node = node
        self._cpu = Path(f"/proc/{node.pid}/schedstat")

    def _seconds(self) -> float:
        """CPU seconds of the loop's thread so far."""
        return int(self._cpu.read_text().split()[0]) / 1e9

    def watch(self, until: Callable[[], bool]) -> None:
        """Sends poses until enough have come and a state is reached."""
        node = self._node
        with (
            node.connect("/ws/camera/others") as sender,
            node.connect("/ws/camera/others") as viewer,
        ):
            deadline = time.monotonic() + 6 * PATIENCE
            while len(self.waits) < POSES or not until():
                assert time.monotonic() < deadline
                began = self._seconds()
                say(sender, {"x": len(self.waits)})
                assert read(viewer)["x"] == read(sender)["x"] == len(self.waits)
                self.waits.append(self._seconds() - began)
                time.sleep(0.002)

    def check(self) -> None:
        """99 of 100 waited for 50 ms of CPU time at most, and nobody for a second."""
        waits = sorted(self.waits)
        assert waits[len(waits) * 99 // 100] <= LONGEST, waits[-5:]
        assert waits[-1] <= 1


class Flood:
    """Threads that send bytes on raw connections as quickly as relayd takes them.

    Attributes:
        sent: bytes so far.
        refused: connections that relayd has ended.
    """

    def __init__(self, sources: list[Raw], data: bytes, most: int = 1 << 40) -> None:
        self.sent = self.refused = 0
        self._data, self._most = data, most
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(each,)) for each in sources]

    def __enter__(self) -> "Flood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> bool:
        """Whether all was sent, or everyone was refused."""
        return self.sent >= self._most or self.refused == len(self._threads)

    def _send(self, source: Raw) -> None:
        source.socket.settimeout(0.2)
        at = 0
        while not self._over.is_set() and not self.done:
            try:
                count = source.socket.send(self._data[at:])
            except TimeoutError:
                continue
            except OSError:
                with self._lock:
                    self.refused += 1
                return
            at = (at + count) % len(self._data)
            with self._lock:
                self.sent += count


@contextlib.contextmanager
def clients(node: Daemon, path: str, count: int, buffer: int = 4096) -> Iterator[list[Raw]]:
    """Connections whose handshake is answered and that read nothing from then on."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            client = stack.enter_context(Raw(node.port, receive_buffer=buffer))
            client.send(handshake(path))
            assert client.response().status == 101
            found.append(client)
        yield found


def check_answers(node: Daemon) -> None:
    """Health and relayctl answer."""
    assert node.get("/healthz") == (200, {"status": "ok"})
    assert Operator(node.folder).json("status")["processes"]


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


def eventually_sent(flood: Flood, size: int) -> None:
    """Returns when so many bytes were sent, or all were refused."""
    deadline = time.monotonic() + PATIENCE
    while flood.sent < size and not flood.done:
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
    assert (warnings, code) == (1, 4004)
