"""Processes forked by `tests.processes` equal those started by a shell: once each way, compared.

Here, too, is `twistd relayd` from the shell: with its defaults, a configuration file, and workers.
`test_systemd` always starts it with exec, as systemd does; `tests/package` with systemd itself.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relayd import __version__
from tests import processes
from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say, settle
from tests.integration.conftest import Connect
from tests.integration.waiting import eventually
from tests.processes import BIN, RELAYCTL, TWISTD, Process, run
from tests.redis_servers import Redis

ROOT = Path(__file__).resolve().parents[2]
BY_EXEC = ("/usr/bin/env",)
"""In front of a script: it is started with exec, nothing is forked."""

FACTS = """
import json, os, random, signal, sys, threading

print(json.dumps({
    "argv": sys.argv, "name": open("/proc/self/comm").read(),
    "shown": open("/proc/self/cmdline").read().rstrip("\\0"),
    "path": sys.path, "main": sys.modules["__main__"].__file__,
    "cwd": os.getcwd(), "environ": dict(os.environ), "umask": os.umask(0o22),
    "parent": os.getppid(), "group": os.getpgrp(), "session": os.getsid(0),
    "descriptors": [each for each in range(100) if os.path.exists(f"/proc/self/fd/{each}")],
    "handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "threads": os.listdir("/proc/self/task") == [str(threading.get_native_id())],
    "main thread": threading.main_thread().native_id == os.getpid() == threading.get_native_id(),
    "streams": [
        [each.name, each.mode, each.encoding, each.errors, each.line_buffering, each.write_through]
        for each in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "flags": str(sys.flags), "bytecode": sys.dont_write_bytecode, "options": sys.warnoptions,
    "stdin": sys.stdin.read(),
}))
print("random", random.random(), file=sys.stderr)
print("pytest" in sys.modules or "twisted.internet.reactor" in sys.modules, file=sys.stderr)
"""

Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes a program in Python that may be forked: its path, by its text."""

    def write(text: str) -> str:
        path = tmp_path / "script"
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o700)
        monkeypatch.setattr(processes, "PACKAGES", {str(path): "relayd"})
        return str(path)

    return write


def both(path: str, **options: Any) -> tuple[processes.Done, processes.Done]:
    """What a script did when it was forked, and when it was started with exec."""
    return run([path, "a", "b c"], **options), run([*BY_EXEC, path, "a", "b c"], **options)


@pytest.mark.parametrize("more", [{}, {"PYTHONUNBUFFERED": "1", "TZ": "Asia/Tokyo", "É": "\udcff"}])
def test_a_forked_process_has_what_a_shell_gives_and_nothing_of_pytest(
    more: dict[str, str], script: Script, tmp_path: Path
) -> None:
    path, folder = script(FACTS), tmp_path / "folder"
    folder.mkdir()
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
    environ = {"PATH": "/bin", "B": "a\nb", **kept, **more}
    ours, theirs = os.pipe()
    forked, executed = both(
        path, cwd=folder, env=environ, stdin="é\n", pass_fds=[theirs], umask=0o27
    )
    os.close(ours)
    os.close(theirs)
    assert json.loads(forked.stdout) == json.loads(executed.stdout)
    facts = json.loads(forked.stdout)
    assert facts["descriptors"] == [0, 1, 2, theirs]
    assert facts["environ"].items() - environ.items() <= {("LC_CTYPE", "C.UTF-8")}
    assert (facts["parent"], facts["umask"], facts["stdin"]) == (os.getpid(), 0o27, "é\n")
    assert forked.stderr.endswith("\nFalse\n")
    # each has its own random numbers
    assert forked.stderr != run([path], cwd=folder, env=environ).stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a sentence')",
        "import sys; print('no line end', end=''); sys.exit(0)",
        "import sys; sys.exit(-1)",
        "raise RuntimeError('no')",
        "import os; os._exit(78)",
        "import atexit, os, sys; atexit.register(os._exit, 9); sys.exit(1)",
        "import threading; threading.Timer(0.05, print, ['last']).start()",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); signal.pause()",
        "import os; os.abort()",
        "import sys; sys.stdout.close(); sys.exit(4)",
    ],
)
def test_a_forked_process_ends_as_one_started_by_a_shell(
    text: str, script: Script, tmp_path: Path
) -> None:
    forked, executed = both(script(text), cwd=tmp_path)
    assert (forked.returncode, forked.stdout) == (executed.returncode, executed.stdout)
    # what Python shows of an exception has the frames of runpy beside those of the script
    assert forked.stderr.splitlines()[-1:] == executed.stderr.splitlines()[-1:]


def test_a_terminal_is_noticed(script: Script, tmp_path: Path) -> None:
    path = script("import sys; print(sys.stdout.line_buffering, end='', file=sys.stderr)")
    for command in ([path], [*BY_EXEC, path]):
        ours, theirs = os.openpty()
        try:
            assert run(command, cwd=tmp_path, env={}, stdout=theirs).stderr == "True"
        finally:
            os.close(ours)
            os.close(theirs)


def test_signals_reach_a_forked_process_and_show_in_its_exit_status(
    script: Script, tmp_path: Path
) -> None:
    path = script("import signal\nprint('up', flush=True)\nwhile True: signal.pause()")
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = Process([path], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        process.stdout.close()


HOLDER = """
import subprocess, sys
from tests import processes
processes.PACKAGES = {sys.argv[1]: "relayd"}
child = processes.Process([sys.argv[1]], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
zygote, = processes._zygotes.values()
print(zygote._process.pid, child.pid, flush=True)
sys.stdin.read()
"""


def test_a_zygote_ends_with_its_parent_and_the_processes_it_forked_go_on(
    script: Script, tmp_path: Path
) -> None:
    path = script("import signal\nprint('up', flush=True)\nwhile True: signal.pause()")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    zygote, child = map(int, holder.stdout.readline().split())
    holder.kill()
    holder.communicate()
    try:
        eventually(lambda: not runs(zygote))
        assert runs(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_zygote_that_has_died_is_replaced() -> None:
    for _ in range(2):
        assert run([RELAYCTL, "--version"]).returncode == 0
        for zygote in processes._zygotes.values():
            zygote._process.kill()
            zygote._process.wait(PATIENCE)


def runs(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_folder_that_does_not_exist_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Process([TWISTD], cwd=tmp_path / "nowhere")


# -- from the shell


def test_relayctl_runs_from_the_shell() -> None:
    done = subprocess.run([RELAYCTL, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"relayctl, version {__version__}\n"
    assert run([RELAYCTL, "--version"]).stdout == done.stdout


@pytest.mark.parametrize("kind", ["defaults", "file", "workers"])
def test_relayd_runs_from_the_shell(kind: str, tmp_path: Path, connect: Connect) -> None:
    """The command is found on PATH, as README.md says."""
    (tmp_path / "relayd.toml").write_text("[echo]\nenabled = true\n")
    with Redis() as redis:
        env = {"PATH": f"{BIN}:{os.environ['PATH']}"}
        if kind == "workers":
            env |= {"RELAYD_SERVER_WORKERS": "2", "RELAYD_REDIS_URL": f"unix://{redis.socket}"}
        options = ("--config", "relayd.toml") if kind == "file" else ()
        daemon = Daemon(tmp_path, env, *options)
        daemon.prefix = ("sh", "-c", 'shift; exec twistd "$@"', "sh")
        daemon.start()
        try:
            clients = [connect(daemon, "/ws/camera") for _ in range(2)]
            settle(*clients)
            say(clients[0], {"x": 1})
            assert read(clients[1])["x"] == 1
            assert ("echo: on" in daemon.log) == (kind == "file")
        finally:
            assert daemon.stop() in (0, -signal.SIGTERM)
