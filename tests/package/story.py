"""What the tests of the booted Debian share: waiting, files, commands of the documents, clients."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.package.container import PATIENCE, Container

ROOT = Path(__file__).resolve().parents[2]
READY = 'systemctl is-active --quiet relayd && /usr/lib/relayd/bin/python -c "$READYZ"'
READYZ = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=5)"
SKIPPED = ("/proc", "/sys", "/run", "/tmp", "/dev", "/var/log", "/var/cache", "/root")

LEFT_OUT = {
    "Which processes there are": "of several machines",
    "Watch it": "needs a Prometheus; tests/integration has one",
}
"""The chapters of docs/operate.md with commands that are not run here, and why."""

before: set[str] = set()
"""The files before the package was installed."""


class Transcript(NamedTuple):
    """A command of a page, and what the page says that it prints.

    Attributes:
        command: as root types it.
        output: the lines below it; `...` stands for any lines.
        clients: the lines among them that the clients print meanwhile.
    """

    command: str
    output: tuple[str, ...]
    clients: tuple[str, ...] = ()

    @property
    def looks(self) -> bool:
        """Whether the command changes nothing."""
        return bool(
            re.match(
                r"journalctl|curl|systemctl status"
                r"|relayctl (--instance \w+ )?(status|doctor|clients)",
                self.command,
            )
        )

    def shows(self, printed: str) -> bool:
        """Whether it has printed that, but for numbers, times, ids and the name of the machine."""
        wanted = [
            r"(?:[^\n]*\n)*" if line == "..." else re.escape(plain(line)) + "\n"
            for line in self.output
        ]
        lines = "".join(f"{plain(line)}\n" for line in printed.splitlines())
        return re.fullmatch("".join(wanted), lines) is not None


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers, times, ids, tokens, widths."""
    line = re.sub(r"^\w{3} \d\d \d\d:\d\d:\d\d \S+ ", "", line)
    line = re.sub(r"\beyJ[\w.-]+", "TOKEN", line)
    line = re.sub(r"\bscrypt:\S+", "HASH", line)
    line = re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{12,}\b", "ID", line)
    line = re.sub(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "MONTH", line)
    return " ".join(re.sub(r"\d+(?:[.,]\d+)*", "0", line).split())


def transcripts(chapter: str) -> list[Transcript]:
    """The commands of a chapter of docs/operate.md with their output.

    Args:
        chapter: its heading. Commands of other machines are left out, and apt's for packages of
            Debian, which need a network.
    """
    found = []
    for block in sessions("operate.md")[chapter]:
        for prompt, part in re.findall(
            r"(?ms)^(# |\$ |phone\$ )(.*?)(?=^# |^\$ |^phone\$ |\Z)", block
        ):
            command, *output = part.splitlines()
            if prompt != "phone$ " and not re.match(r"apt install [a-z]", command):
                clients = [line for line in output if re.match(r"client \d+: ", line)]
                own = [line for line in output if line not in clients]
                found.append(Transcript(command, tuple(own), tuple(clients)))
    return found


def sessions(page: str) -> dict[str, list[str]]:
    """The blocks of a page of docs/ that show commands with their output, by their heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for heading, section in re.findall(r"(?ms)^##+ ([^\n]+)$(.*?)(?=^##+ |\Z)", text):
        blocks = re.findall(r"(?ms)^```\n((?:# |\$ |phone\$ )\S.*?)^```", section)
        if blocks:
            found[heading] = blocks
    return found


def follow(
    debian: Container,
    steps: Sequence[Transcript],
    folder: str = "/root",
    answers: Sequence[tuple[str, str]] = (),
    **replaced: str,
) -> None:
    """Runs each command of a page, and compares what it prints with what the page shows.

    Args:
        debian: where.
        steps: the commands.
        folder: where they are typed.
        answers: how the prompts of a command end, and what is typed then; without prompts it has
            no terminal.
        replaced: words of the commands that are others here, by a name that says why.
    """
    for step in steps:
        command = step.command
        for words in replaced.values():
            old, _, new = words.partition(" -> ")
            command = command.replace(old, new)
        deadline = time.monotonic() + PATIENCE
        while True:
            script = f"cd {folder}; {command}"
            asks = bool(answers)
            printed = debian.type(script, answers) if asks else debian.try_shell(script).stdout
            if step.shows(printed):
                break
            # only what looks may be asked again: a process or a line of the log may be late
            again = step.looks and time.monotonic() < deadline
            assert again, f"{command}\n{chr(10).join(step.output)}\nprinted:\n{printed}"
            time.sleep(0.2)


def faults(debian: Container, check: str = "", options: str = "") -> list[dict[str, str]]:
    """What doctor finds, all but what is sound.

    Args:
        debian: where.
        check: how the names of the checks begin.
        options: of relayctl.
    """
    ran = debian.try_shell(f"relayctl {options} doctor --json 2>/dev/null")
    found = json.loads(ran.stdout)["findings"]
    return [
        one for one in found
        if one["state"] in ("fault", "warn") and one["check"].startswith(check)
    ]  # fmt: skip


def wait_until_ready(debian: Container) -> None:
    """Returns when /readyz says yes."""
    debian.eventually(f'READYZ="{READYZ}"\n{READY}')


def files(debian: Container) -> set[str]:
    """All paths, but for those that come and go in any system."""
    pruned = " -o ".join(f"-path {path}" for path in SKIPPED)
    return set(debian.shell(f"find / -xdev \\( {pruned} \\) -prune -o -print").splitlines())


def documented(chapter: str, page: str = "install.md", kind: str = "sh") -> str:
    """The commands of a chapter of a page of docs/, but for those that need a network.

    Args:
        chapter: its heading.
        page: the file.
        kind: of the blocks: `sh` for commands; others are the content of files.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"(?ms)^##+ {re.escape(chapter)}$(.*?)(?=^##+ |\Z)", text)
    blocks = "\n".join(re.findall(rf"(?ms)^```{kind}\n(.*?)^```", section))
    return re.sub(r"(?m)^apt install [a-z-]+$", "", blocks)


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


@contextlib.contextmanager
def without_nginx(debian: Container) -> Iterator[None]:
    """As on a machine that has no nginx: doctor finds none."""
    debian.shell("systemctl stop nginx; mv /usr/sbin/nginx /root/nginx.away")
    try:
        yield
    finally:
        debian.shell("mv /root/nginx.away /usr/sbin/nginx; systemctl start nginx")


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
    debian.shell(
        """
        rm -f /etc/apt/sources.list
        find /etc/apt/sources.list.d -type f ! -name relayd.sources -delete
        """
    )
    return folder
