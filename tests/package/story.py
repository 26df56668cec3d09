"""What the tests of the booted Debian share: waiting, files, commands of the documents, clients."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.package.container import PATIENCE, Container

ROOT = Path(__file__).resolve().parents[2]
READY = 'systemctl is-active --quiet relayd && /usr/lib/relayd/bin/python -c "$READYZ"'
READYZ = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=5)"
SKIPPED = ("/proc", "/sys", "/run", "/tmp", "/dev", "/var/log", "/var/cache", "/root")

before: set[str] = set()
"""The files before the package was installed."""


class Transcript(NamedTuple):
    """A command of a page, and what the page says that it prints.

    Attributes:
        command: as root types it.
        output: the lines below it; `...` stands for any lines.
    """

    command: str
    output: tuple[str, ...]

    @property
    def looks(self) -> bool:
        """Whether the command changes nothing."""
        return bool(
            re.match(
                "journalctl|relayctl (status|doctor)|systemctl status",
                self.command.partition("; ")[2],
            )
        )

    def shows(self, printed: str) -> bool:
        """Whether it has printed that, but for numbers, times and the name of the machine."""
        wanted = [
            r"(?:[^\n]*\n)*" if line == "..." else re.escape(_plain(line)) + "\n"
            for line in self.output
        ]
        lines = "".join(f"{_plain(line)}\n" for line in printed.splitlines())
        return re.fullmatch("".join(wanted), lines) is not None


def _plain(line: str) -> str:
    line = re.sub(r"^\w{3} \d\d \d\d:\d\d:\d\d \S+ ", "", line)
    return " ".join(re.sub(r"\d+(?:\.\d+)?", "0", line).split())


def transcripts(chapter: str, folder: str = "/root") -> list[Transcript]:
    """The commands of a chapter of docs/operate.md with their output.

    Args:
        chapter: of the first hour. Commands that need a network are left out: apt's, and
            those of a public certificate.
        folder: where they are typed.
    """
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"(?ms)^### {re.escape(chapter)}$(.*?)(?=^##)", text)
    found = []
    for block in re.findall(r"(?ms)^```\n(# .*?)^```", section):
        for part in re.split(r"(?m)^# ", block)[1:]:
            command, *output = part.splitlines()
            if not command.startswith("apt install") and " --url https:" not in command:
                found.append(Transcript(f"cd {folder}; {command}", tuple(output)))
    return found


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


def publish(debian: Container, package: Path) -> Path:
    """Adds a package to an APT repository in the container, its only one from then on.

    Returns:
        The folder, which nginx serves at http://packages.example.org/relayd.
    """
    folder = debian.root / "var" / "www" / "html" / "relayd"
    keyring = debian.root.parent / "gnupg"
    keyring.mkdir(mode=0o700, exist_ok=True)
    # the key is the one that is made at the first time
    environ = {**os.environ, "GNUPGHOME": str(keyring)}
    made = subprocess.run(
        [ROOT / "debian" / "apt-repository", folder, "URL", "", package],
        env=environ, check=False, text=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["gpgconf", "--kill", "all"], env=environ, check=True)
    assert made.returncode == 0, made.stderr
    print(made.stdout)
    # those of Debian cannot be reached from in there
    debian.shell("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/debian*")
    return folder
