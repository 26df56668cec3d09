"""A Debian that is made by debian/bootstrap and booted by systemd-nspawn, with its own loopback.

Once it is made it needs no network, and has none.
"""

import contextlib
import ctypes
import os
import platform
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

BOOTSTRAP = Path(__file__).resolve().parents[2] / "debian" / "bootstrap"
PATIENCE = 60.0
SUITE = os.environ.get("SUITE") or platform.freedesktop_os_release()["VERSION_CODENAME"]
"""The release of Debian, this machine's own if `make package-test` names none."""

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "procps", "sudo", "openssl", "python3", "libpq5"),
    *("nginx-light", "postgresql", "redis-server", "python3-apt", "curl"),
)
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def make_root(folder: Path) -> Path:
    """Makes a root with PACKAGES in it, and nothing of what apt recommends."""
    return bootstrap(folder / "root", *PACKAGES)


def bootstrap(target: Path, *packages: str) -> Path:
    """Makes a Debian with apt and these packages: a folder, or an archive if it is named .tar."""
    command = [str(BOOTSTRAP), SUITE, str(target), *packages]
    made = subprocess.run(command, check=False, text=True, capture_output=True)
    assert made.returncode == 0, made.stderr
    return target


class Container:
    """A root, booted by systemd as its process 1.

    Args:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._spawned: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Starts it; returns when systemd has started everything."""
        with open(self.root.parent / "console.log", "ab") as log:
            self._spawned = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no"),
                    *("--keep-unit", "--private-network", "--link-journal=no", "--console=pipe"),
                    "--boot",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.eventually("systemctl is-system-running | grep -Eq 'running|degraded'")

    def power_off(self) -> None:
        """Stops it as a machine is stopped."""
        if self._spawned is None:
            return
        self._spawned.send_signal(signal.SIGTERM)  # an orderly shutdown
        try:
            self._spawned.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._spawned.kill()
            self._spawned.wait()
        self._spawned = None

    @property
    def leader(self) -> int:
        """The process that is number 1 in there."""
        assert self._spawned is not None
        threads = Path(f"/proc/{self._spawned.pid}/task")
        children = [
            child for task in threads.iterdir() for child in (task / "children").read_text().split()
        ]
        assert children, (self.root.parent / "console.log").read_text(errors="replace")
        return int(children[0])

    def try_shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a script of bash as root."""
        return subprocess.run(
            self._enter(script), check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
        )  # fmt: skip

    def type(self, script: str, answers: Sequence[tuple[str, str]] = ()) -> str:
        """Runs a script at a terminal.

        Args:
            script: of bash.
            answers: how each prompt ends, and what is typed then.

        Returns:
            What the terminal shows.
        """
        ours, theirs = pty.openpty()
        command = ["setsid", "--ctty", "--wait", *self._enter(script)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as spawned:
            os.close(theirs)
            shown, left, deadline = "", list(answers), time.monotonic() + PATIENCE
            try:
                while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    try:
                        shown += os.read(ours, 4096).decode()
                    except OSError:  # closed at the other end
                        break
                    if left and shown.endswith(left[0][0]):
                        os.write(ours, left.pop(0)[1].encode() + b"\n")
            finally:
                os.close(ours)  # ends what still waits for an answer
        assert spawned.returncode == 0, shown
        assert not left, shown
        return shown.replace("\r\n", "\n")

    def _enter(self, script: str) -> list[str]:
        """The command that runs a script of bash as root."""
        enter = ["nsenter", "--target", str(self.leader), "--all", "--root", "--wd"]
        environ = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        bash = ["bash", "-euo", "pipefail", "-c", f"cd /root\n{script}"]
        return [*enter, *environ, path, *bash]

    def shell(self, script: str) -> str:
        """Does so; returns what it printed. Fails with that if it does."""
        ran = self.try_shell(script)
        assert ran.returncode == 0, f"{script}\n{ran.stdout}"
        return ran.stdout.strip()

    def eventually(self, script: str, seconds: float = PATIENCE) -> None:
        """Returns when a script succeeds."""
        deadline = time.monotonic() + seconds
        last = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError, FileNotFoundError, ProcessLookupError):
                ran = self.try_shell(script)
                if ran.returncode == 0:
                    return
                last = ran.stdout
            time.sleep(0.1)
        raise AssertionError(f"{script}\n{last}")

    def dial(self, port: int) -> socket.socket:
        """Opens a TCP connection to its loopback."""
        with self._network():
            dialled = socket.socket()
        dialled.settimeout(PATIENCE)
        dialled.connect(("127.0.0.1", port))
        return dialled

    def connect(self, path: str, port: int = 8080, **options: Any) -> ClientConnection:
        """Opens a WebSocket; with `ssl` it is wss://relay.example.org."""
        scheme, host = ("wss", "relay.example.org") if "ssl" in options else ("ws", "127.0.0.1")
        return connect(
            f"{scheme}://{host}:{port}{path}", sock=self.dial(port), proxy=None, legacy=True,
            open_timeout=PATIENCE, compression=None, **options,
        )  # fmt: skip

    @contextlib.contextmanager
    def _network(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are inside."""
        ours = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        theirs = os.open(f"/proc/{self.leader}/ns/net", os.O_RDONLY)
        try:
            _enter(theirs)
            try:
                yield
            finally:
                _enter(ours)
        finally:
            os.close(ours)
            os.close(theirs)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
