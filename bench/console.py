"""What an open console costs a relayd with many clients, and how soon it is answered.

    python -m bench.console [--clients 2000] [--seconds 20] [--rounds 3]

Run it with the Python that relayd is installed for, from the root of the checkout. The clients are
in 50 camera groups, a sender with 10 poses a second in every fifth of them. In each round the
server runs without a console first, then with one whose overview, lists and search are asked for as
often as the pages do. Prints the share of a core that the console takes, and the longest answers.
"""

import argparse
import contextlib
import dataclasses
import http.client
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from websockets.sync.client import connect

from bench import procstat
from bench.events import Viewers
from bench.servers import SERVERS, Databases, started
from relayd.console.passwords import hash_password
from relayd.control.live import IDLE, INTERVAL

_PASSWORD = "a password for a benchmark"
_GROUPS = 50
_LISTS = 10.0  # seconds between two looks at lists, as in console.js
_RATE = 10.0


class Console:
    """The pages of an operator.

    Args:
        port: of the server.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self.took: dict[str, list[float]] = {}
        origin = f"http://127.0.0.1:{port}"
        form = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"password": _PASSWORD})
        self._connection.request("POST", "/console/login", body, form)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 303:
            raise SystemExit(f"the console answers {answer.status} to the login")
        self._cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}

    def ask(self, what: str) -> None:
        """One request, as the pages send it."""
        begun = time.monotonic()
        self._connection.request("GET", f"/console/api/{what}", headers=self._cookie)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{what}: {answer.status}")
        self.took.setdefault(what.partition("?")[0], []).append(time.monotonic() - begun)

    def watch(self, seconds: float) -> None:
        """Asks for all figures and lists for so long."""
        begun = time.monotonic()
        lists = begun
        while (now := time.monotonic()) < begun + seconds:
            self.ask("live?since=0")
            if now >= lists:
                lists += _LISTS
                for what in ("rooms", "pairs", "clients?text=camera", "clients?sort=waiting"):
                    self.ask(what)
            time.sleep(max(0.0, now + INTERVAL - time.monotonic()))


class Load:
    """The clients, on a thread of their own; poses go to every fifth group.

    Args:
        port: of the server.
        count: of all clients.
    """

    def __init__(self, port: int, count: int) -> None:
        self._stack = contextlib.ExitStack()
        path = f"ws://127.0.0.1:{port}/ws/camera/bench"
        self._senders = [
            self._stack.enter_context(connect(f"{path}{group}", compression=None))
            for group in range(0, _GROUPS, 5)
        ]
        self._viewers = [
            Viewers(port, "ws", count // _GROUPS, f"bench{group}") for group in range(_GROUPS)
        ]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            for sender in self._senders:
                sender.send('{"x":1.25,"y":2.5,"z":-3}')
                sender.recv()
            due += 1 / _RATE
            for viewers in self._viewers:
                viewers.read(0.001)
            time.sleep(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """Ends all connections."""
        self._ended.set()
        self._thread.join()
        for viewers in self._viewers:
            viewers.close()
        self._stack.close()


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="bench.console", description="the cost of a console")
    parser.add_argument("--clients", type=int, default=2000, help="that are connected (2000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (20)")
    parser.add_argument("--rounds", type=int, default=3, help="with and without (3)")
    options = parser.parse_args(argv)
    line = hash_password(_PASSWORD, log=10)
    # the viewers only read: no pongs
    env = {"RELAYD_CONSOLE_PASSWORD_HASH": line, "RELAYD_KEEPALIVE_PING_INTERVAL": "3600"}
    server = dataclasses.replace(SERVERS["relayd"], env=env)
    shares = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = Databases(stack, folder, core=0)
        port, pid = stack.enter_context(started(server, "fanout", databases, folder, None))
        pids = procstat.tree(pid)
        load = Load(port, options.clients)
        stack.callback(load.close)
        console = Console(port)
        for _ in range(options.rounds):
            time.sleep(IDLE + 2 * INTERVAL)  # the figures of the round before end
            used = []
            for watch in (time.sleep, console.watch):
                before, begun = procstat.cpu(pids), time.monotonic()
                watch(options.seconds)
                used.append((procstat.cpu(pids) - before) / (time.monotonic() - begun))
            shares.append(used[1] - used[0])
            print(f"without {used[0]:.1%} of a core, with {used[1]:.1%}", flush=True)
    for what, took in console.took.items():
        median, most = statistics.median(took) * 1000, max(took) * 1000
        print(f"{what}: median {median:.0f} ms, longest {most:.0f} ms of {len(took)}")
    print(f"the console takes {statistics.median(shares):.1%} of a core")


if __name__ == "__main__":
    main()
