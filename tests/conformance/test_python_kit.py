"""Examples in Python run as they stand: clients/python, and the plain client of docs/clients."""

import re
import subprocess
import sys
import threading
import uuid
from pathlib import Path

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say, settle

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "clients" / "python" / "examples.py"


class Example:
    """An example that runs, and what it prints."""

    def __init__(self, relay: Daemon, name: str, where: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(EXAMPLES), name, relay.ws_url, where],
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Example":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def until(self, words: str) -> None:
        """Returns when it has printed a line that begins with these words."""
        assert self.process.stdout is not None
        late = threading.Timer(PATIENCE, self.process.kill)
        late.start()
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith(words):
                late.cancel()
                return
        raise AssertionError(f"no {words!r} in {lines}")


def test_the_examples_of_the_python_kit_work_together(relay: Daemon) -> None:
    pair, place = str(uuid.uuid4()), f"examples-{uuid.uuid4().hex}"
    with (
        Example(relay, "viewer", place) as viewer,
        Example(relay, "robot", place),
        Example(relay, "headset", pair) as headset,
        Example(relay, "phone", pair) as phone,
        Example(relay, "progress", place) as progress,
        Example(relay, "bot", place),
        relay.connect(f"/ws/chat/{place}") as member,
    ):
        viewer.until("0.9")
        headset.until("quizzes (")
        phone.until("the headset has them")
        assert phone.process.wait(PATIENCE) == 0
        say(member, {"message": "Where are you?"})
        assert [read(member)["message"] for _ in range(2)][1] == "I do not know."
        threading.Thread(target=_publish, args=(relay, place, progress), daemon=True).start()
        progress.until("{'percent': 40}")
        settle(member)


def _publish(relay: Daemon, topic: str, to: Example) -> None:
    """Publishes until the example that prints it has come, and read it."""
    while to.process.poll() is None:
        relay.post(f"/api/push/{topic}", b'{"percent": 40}', Authorization="Bearer a-key-for-tests")
        threading.Event().wait(0.2)


def test_the_plain_client_of_the_page_on_kits_works_unchanged(relay: Daemon) -> None:
    page = (ROOT / "docs" / "clients" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("127.0.0.1:8080", f"127.0.0.1:{relay.port}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr) == ("{'x': 0.5, 'y': 1.25, 'z': -3}\n", "")
