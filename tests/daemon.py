"""A relayd that a test runs as its users do: `twistd relayd` in a process and folder of its own."""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.ports import free_port
from tests.processes import TWISTD, Process


def tls_client(ca_file: Path | str) -> ssl.SSLContext:
    """What a WebSocket client of the tests trusts.

    Not TLS 1.3: the synchronous client of `websockets` reads and writes in two threads, and Python
    3.11 then loses requests (5 of 2,000 handshakes), or crashes, while tickets come in.
    """
    trust = ssl.create_default_context(cafile=str(ca_file))
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    return trust


class Daemon:
    """A spawned `twistd relayd`, forked from a zygote (`tests.processes`) unless it has a prefix.

    Args:
        folder: its working directory; its database and log go there.
        env: further environment, such as RELAYD_ settings.
        args: further command-line options.

    Attributes:
        prefix: a command that executes the one that follows it.
        descriptors: what the process inherits beside its standard streams.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, *args: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = dict(env or {})
        self.args = args
        self.prefix: tuple[str, ...] = ()
        self.descriptors: tuple[int, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its pages are, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where its WebSockets are, without a slash at the end."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything it has printed."""
        return (self.folder / "relayd.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def start(self, *, wait: bool = True) -> "Daemon":
        """Starts it (again); returns when it is ready, or fails with its log."""
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RELAYD_") and name not in ("PORT", "DATABASE_URL", "REDIS_URL")
        }
        # no test depends on how late this machine is; those of overload set a bound
        environ["RELAYD_LIMITS_OVERLOAD_LAG"] = "0"
        with open(self.folder / "relayd.log", "ab") as log:
            self.process = Process(
                [
                    *self.prefix,
                    *(TWISTD, "--nodaemon", "--pidfile=", "relayd"),
                    *("--listen", f"tcp:{self.port}:interface=127.0.0.1", *self.args),
                ],
                cwd=self.folder,
                env={**environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.descriptors,
            )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Returns when /readyz says yes."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"relayd ended with {self.process.returncode}:\n{self.log}")
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.01)
        pytest.fail(f"relayd was not ready in {seconds} s:\n{self.log}")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON (or text) of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
        """Status and JSON (or text) of a POST."""
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    def connect(self, path: str, *, scheme: str = "ws", **options: Any) -> ClientConnection:
        """A WebSocket client that is not Autobahn's."""
        options = {"open_timeout": 20, "close_timeout": 5, "compression": None, **options}
        url = f"{scheme}://127.0.0.1:{self.port}{path}"
        return connect(url, proxy=None, legacy=True, **options)

    def kill(self) -> None:
        """SIGKILL: the process gets no chance to save anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"relayd did not stop in 30 s:\n{self.log}")

    def memory(self) -> int:
        """Resident memory in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A relayd on its embedded default, with echo and the API on."""
    running = Daemon(
        tmp_path, {"RELAYD_ECHO_ENABLED": "true", "RELAYD_API_KEY": "a-key-for-tests"}
    ).start()
    yield running
    running.stop()
