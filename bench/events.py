"""What a viewer costs that gets server-sent events, beside one of WebSocket, in turns.

    python -m bench.events [--viewers 1000] [--rate 10] [--seconds 10] [--rounds 5]

Run it with the Python that relayd is installed for, from the root of the checkout. One camera sends
poses; its viewers get all of them, in each round first by WebSocket, then as events. Prints CPU
seconds of the server for both, and the ratio.
"""

import argparse
import contextlib
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from websockets.sync.client import connect

from bench import procstat
from bench.servers import SERVERS, Databases, started

_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_SETTLE = 1.0
_LEAST = {"ws": 20, "sse": 30}  # bytes of a pose on each path


class Viewers:
    """Clients that read what comes, and count its bytes.

    Args:
        port: of the server.
        path: `ws` or `sse`.
        count: how many.
        group: of the camera.
    """

    def __init__(self, port: int, path: str, count: int, group: str = "bench") -> None:
        self._selector = selectors.DefaultSelector()
        self.came = 0
        head = f"GET /{path}/camera/{group} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"{_UPGRADE if path == 'ws' else ''}\r\n"
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(head.encode())
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)

    def read(self, seconds: float) -> None:
        """Reads what comes in the next seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                self.came += len(key.fileobj.recv(65536))

    def close(self) -> None:
        """Ends all connections."""
        for key in tuple(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


def measure(port: int, pids: Sequence[int], path: str, options: argparse.Namespace) -> float:
    """CPU seconds of the server while the viewers get all poses by one path.

    Raises:
        SystemExit: poses are missing.
    """
    viewers = Viewers(port, path, options.viewers)
    with connect(f"ws://127.0.0.1:{port}/ws/camera/bench", compression=None) as camera:
        viewers.read(_SETTLE)
        count = round(options.rate * options.seconds)
        before, begun, viewers.came = procstat.cpu(pids), time.monotonic(), 0
        for number in range(1, count + 1):
            camera.send(f'{{"x":1.25,"y":2.5,"z":{number % 100}}}')
            camera.recv()
            viewers.read(begun + number / options.rate - time.monotonic())
        used = procstat.cpu(pids) - before
        viewers.read(_SETTLE)
    least = count * options.viewers * _LEAST[path]
    viewers.close()
    if viewers.came < least:
        raise SystemExit(f"/{path}: only {viewers.came} of at least {least} bytes came")
    return used


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="bench.events", description="events beside WebSocket")
    parser.add_argument("--viewers", type=int, default=1000, help="of the camera (1000)")
    parser.add_argument("--rate", type=float, default=10.0, help="poses a second (10)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (10)")
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds (5)")
    options = parser.parse_args(argv)
    ratios = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = Databases(stack, folder, core=0)
        server = started(SERVERS["relayd"], "fanout", databases, folder, None)
        port, pid = stack.enter_context(server)
        pids = procstat.tree(pid)
        for _ in range(options.rounds):
            frames, events = (measure(port, pids, path, options) for path in ("ws", "sse"))
            ratios.append(events / frames)
            print(f"WebSocket {frames:.2f} s, events {events:.2f} s: {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
