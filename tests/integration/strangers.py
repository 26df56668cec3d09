"""Strangers for the tests of attacks: floods, clients that never read, and a bystander.

What a bystander waits for is measured by the CPU time that the loop spends between a pose and its
arrival, since the machine may be busy with other work.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say
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


def eventually_sent(flood: Flood, size: int) -> None:
    """Returns when so many bytes were sent, or all were refused."""
    deadline = time.monotonic() + PATIENCE
    while flood.sent < size and not flood.done:
        assert time.monotonic() < deadline
        time.sleep(0.01)
