"""What the tests of the booted Debian share: waiting, files, commands of the documents, clients."""

import json
import re
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.package.container import PATIENCE, Container

ROOT = Path(__file__).resolve().parents[2]
READY = 'systemctl is-active --quiet relayd && /usr/lib/relayd/bin/python -c "$READYZ"'
READYZ = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=5)"
SKIPPED = ("/proc", "/sys", "/run", "/tmp", "/dev", "/var/log", "/var/cache", "/root")

before: set[str] = set()
"""The files before the package was installed."""


def wait_until_ready(debian: Container) -> None:
    """Returns when /readyz says yes."""
    debian.eventually(f'READYZ="{READYZ}"\n{READY}')


def files(debian: Container) -> set[str]:
    """All paths, but for those that come and go in any system."""
    pruned = " -o ".join(f"-path {path}" for path in SKIPPED)
    return set(debian.shell(f"find / -xdev \\( {pruned} \\) -prune -o -print").splitlines())


def documented(chapter: str) -> str:
    """The commands of a chapter of docs/install.md, but for those that need a network."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"(?ms)^## {re.escape(chapter)}$(.*?)(?=^## |\Z)", text)
    commands = "\n".join(re.findall(r"(?ms)^```sh\n(.*?)^```", section))
    return re.sub(r"(?m)^apt install [a-z-]+$", "", commands)


def echo_works(client: ClientConnection) -> None:
    """A pose comes back."""
    client.send('{"x": 1, "y": 2, "z": 3}')
    assert json.loads(client.recv(timeout=PATIENCE)) == {"x": 1, "y": 2, "z": 3}


def close_code(client: ClientConnection) -> int:
    """Reads up to the end; the code of the server's close, 1006 if there was none."""
    try:
        while True:
            client.recv(timeout=PATIENCE)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
