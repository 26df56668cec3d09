"""relayctl as an operator runs it: a process, its output, its exit code."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import PATIENCE
from tests.processes import RELAYCTL, Done, Process, run


class Operator:
    """Runs relayctl in a folder, that of a relayd perhaps, as somebody who has logged in there.

    Settings are those of `conftest.spawn`; nothing else of ours is in the environment.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        kept = ("PATH", "HOME", "LANG")
        self.environ = {name: os.environ[name] for name in kept if name in os.environ}
        self.environ |= {
            name if name.isupper() else f"RELAYD_{name.upper()}": str(text)
            for name, text in settings.items()
        }

    def command(self, *arguments: str) -> list[str]:
        return [RELAYCTL, *arguments]

    def __call__(self, *arguments: str, stdin: str = "", before: tuple[str, ...] = ()) -> Done:
        command = [*before, *self.command(*arguments)]
        done = run(command, cwd=self.folder, env=self.environ, stdin=stdin)
        assert "Traceback" not in done.stdout + done.stderr, done
        return done

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        done = self(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def streaming(self, *arguments: str) -> Iterator["Stream"]:
        """A command that goes on until Ctrl-C; it has begun."""
        process = Process(
            self.command(*arguments, "--json"),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            stream = Stream(process)
            assert stream.next()["event"] == "begin"
            yield stream
        finally:
            process.kill()
            process.communicate()


class Stream:
    """The lines of a command that goes on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def next(self) -> Any:
        """The next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, err = self.process.communicate(timeout=PATIENCE)
            pytest.fail(f"it ended with {self.process.returncode}: {err}")
        return json.loads(line)

    def end(self) -> int:
        """The exit status of a command that ends by itself."""
        return self.process.wait(timeout=PATIENCE)

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()


def check_failed(done: Done, status: int, *words: str) -> None:
    """It ended with the status and one sentence that has all the words."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1), done
    assert done.stderr.startswith("Error: ")
    for word in words:
        assert word in done.stderr


def ids(relayctl: Operator, *arguments: str) -> list[str]:
    """The ids of the clients that a selection finds."""
    return [client["id"] for client in relayctl.json("clients", *arguments)["found"]]
