"""Podman for the tests: images and containers in a store of its own, on the host's network."""

import os
import subprocess
import time
from pathlib import Path

from tests.package.container import PATIENCE, SUITE, bootstrap

BASE = f"localhost/debian:{SUITE}-slim"
# Limits of files and processes that need no right to raise them; nothing of systemd.
_SETTINGS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """The command podman.

    Args:
        store: the folder of its images and containers; what is there already is used again.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        store.mkdir(parents=True, exist_ok=True)
        settings = store / "containers.conf"
        settings.write_text(_SETTINGS)
        self._environ = {**os.environ, "CONTAINERS_CONF": str(settings)}

    def try_run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command of podman; output and errors are apart."""
        folders = (f"--root={self._store / 'root'}", f"--runroot={self._store / 'run'}")
        return subprocess.run(
            ["podman", *folders, *map(str, arguments)], env=self._environ,
            check=False, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=600,
        )  # fmt: skip

    def run(self, *arguments: str | Path) -> str:
        """Does so; returns what it printed. Fails with that if it fails."""
        ran = self.try_run(*arguments)
        assert ran.returncode == 0, (
            f"podman {arguments}\n{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
        )
        return ran.stdout.strip()

    def eventually(self, *arguments: str) -> None:
        """Returns when a command of podman succeeds."""
        deadline = time.monotonic() + PATIENCE
        while (ran := self.try_run(*arguments)).returncode:
            assert time.monotonic() < deadline, f"podman {arguments}\n{ran.stdout}\n{ran.stderr}"
            time.sleep(0.2)

    def works(self) -> str:
        """Empty if containers can be run on this machine, else why not."""
        self.make_base()
        ran = self.try_run("run", "--rm", "--network=host", BASE, "true")
        return ran.stderr if ran.returncode else ""

    def make_base(self) -> None:
        """Makes the image that the Dockerfile begins with, from Debian's packages, once."""
        if self.try_run("image", "exists", BASE).returncode == 0:
            return
        root = bootstrap(self._store / "base.tar")
        self.run("import", root, BASE)
        root.unlink()

    def build(self, folder: Path, name: str) -> None:
        """Builds the image of a folder with a Dockerfile; pip trusts whom it trusts here."""
        mounted = []
        certificates = Path(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"))
        if certificates.exists():
            settings = self._store / "pip.conf"
            settings.write_text("[global]\ncert = /etc/pip.pem\n")
            for source, target in ((settings, "/etc/pip.conf"), (certificates, "/etc/pip.pem")):
                mounted += ["--volume", f"{source}:{target}:ro"]
        base = ("--build-arg", f"DEBIAN={BASE}", "--pull=never")
        self.run(
            "build", "--format=docker", "--network=host", *mounted, *base, f"--tag={name}", folder
        )

    def start(self, name: str, image: str, *options: str) -> None:
        """Starts a container in the background, with as few rights as an operator gives it."""
        restricted = ("--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only")
        self.run(
            *("run", "--detach", "--network=host", f"--name={name}", *restricted),
            *("--read-only-tmpfs=false", "--tmpfs=/tmp"),
            *options,
            image,
        )

    def logs(self, name: str) -> str:
        """What the container has printed, standard output alone."""
        return self.try_run("logs", name).stdout
