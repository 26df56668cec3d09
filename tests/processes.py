"""Processes of `twistd` and `relayctl` that tests start, forked from one that has relayd loaded.

`Process` is `subprocess.Popen`, and `run` is `subprocess.run`: with a command that begins with
TWISTD or RELAYCTL the new process comes from a zygote (`tests/zygote.py`), which takes 0.03 s of a
core instead of 0.55 s. Any other command is started with fork and exec, also
`python .venv/bin/twistd ...`, which tests of the start itself use.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
TWISTD = str(BIN / "twistd")
RELAYCTL = str(BIN / "relayctl")
PACKAGES = {TWISTD: "relayd", RELAYCTL: "relayd.ctl"}
"""The programs in Python that a zygote can become, and what it has loaded for them."""

Done = subprocess.CompletedProcess[str]

_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "SSL_")
"""How the names of variables begin that a process reads before its program runs."""
_SET_LATER = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
"""Those of them that the zygote lets hold in what it forks."""

_PATIENCE = 60.0  # seconds for a zygote to load and to fork
_PROGRAM = str(Path(__file__).with_name("zygote.py"))
_ROOM = 8000  # bytes in which a zygote writes the arguments that ps and /proc shall show


class _Zygote:
    """This side of a zygote.

    Args:
        package: what it loads.
        env: variables that a process reads as it starts.
    """

    def __init__(self, package: str, env: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._line, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(_PATIENCE)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, _PROGRAM, str(its.fileno()), package, " " * _ROOM],
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )
        atexit.register(self.end)

    def start(self, request: dict[str, Any], descriptors: Sequence[int]) -> int:
        """Has it start a process, which is then a child of this one; its id."""
        data = json.dumps(request).encode(errors="surrogateescape")
        answer = ""
        with self._lock:
            try:
                socket.send_fds(self._line, [data], descriptors)
                answer = self._line.recv(1000).decode()
            except TimeoutError:  # its answer would be taken for that to the next request
                self._process.kill()
            except ConnectionError:
                pass
        if not answer.isdigit():
            why = answer or f"it ended with {self._process.wait(_PATIENCE)}, see stderr"
            raise RuntimeError(f"{_PROGRAM} could not start a process: {why}")
        return int(answer)

    def has_ended(self) -> bool:
        """Whether it can start nothing any more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Ends it; what it has started goes on."""
        self._line.close()
        self._process.wait(_PATIENCE)


_zygotes: dict[tuple[object, ...], _Zygote] = {}
_starting = threading.Lock()


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a process reads before its program runs."""
    return {
        name: text
        for name, text in environ.items()
        if name.startswith(_AT_START) and name not in _SET_LATER
    }


def _zygote_for(program: str, environ: Mapping[str, str]) -> _Zygote | None:
    """The one whose own start had the same environment; None for one that few tests have."""
    kept = _at_start(environ)
    if not kept.items() <= _at_start(os.environ).items():
        return None
    with _starting:
        package = PACKAGES[program]
        key = (package, *sorted(kept.items()))
        if key not in _zygotes or _zygotes[key].has_ended():
            _zygotes[key] = _Zygote(package, kept)
        return _zygotes[key]


def _umask() -> int:
    """That of this process; reading it with os.umask() would change it for a moment."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith("Umask:")]
    return int(found.split()[1], 8)


class Process(subprocess.Popen[Any]):
    """`subprocess.Popen`, where the zygote takes the place of fork and exec if it can.

    That is `_execute_child` alone: the process is a child of this one, so the rest is as ever.
    """

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
        env: Any, startupinfo: Any, creationflags: Any, shell: Any,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
        restore_signals: Any, gid: Any, gids: Any, uid: Any, umask: int, *group: Any,
    ) -> None:  # fmt: skip
        command = [args] if isinstance(args, str | Path) else [os.fspath(each) for each in args]
        unusual = executable, preexec_fn, shell, gid, gids, uid, not close_fds, *map(_is_set, group)
        environ = dict(os.environ if env is None else env)
        zygote = None
        if command[0] in PACKAGES and not any(unusual):
            zygote = _zygote_for(command[0], environ)
        if zygote is None:
            super()._execute_child(  # type: ignore[misc]
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo,
                creationflags, shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
                restore_signals, gid, gids, uid, umask, *group,
            )  # fmt: skip
            return
        os.scandir(cwd or ".").close()  # raises what there is to say about a wrong folder
        streams = [(p2cread, 0), (c2pwrite, 1), (errwrite, 2)]
        streams = [(number if end == -1 else end, number) for end, number in streams]
        passed = [*streams, *((each, each) for each in pass_fds)]
        request = {
            "argv": command,
            "cwd": os.path.abspath(cwd or os.getcwd()),
            "env": environ,
            "umask": _umask() if umask < 0 else umask,
            "descriptors": [number for _, number in passed],
        }
        try:
            self.pid = zygote.start(request, [end for end, _ in passed])
            self._child_created = True
        finally:
            self._close_pipe_fds(  # type: ignore[attr-defined]
                p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
            )


def _is_set(value: Any) -> bool:
    """Whether an option about sessions and groups of processes was given."""
    return value is not False and value != -1


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    timeout: float = _PATIENCE,
    **options: Any,
) -> Done:
    """Runs a command to its end, as `subprocess.run` does with text, output captured.

    Args:
        command: the program and its arguments.
        stdin: what it reads; None for nothing.
        timeout: seconds until it is killed, and the test fails.
        **options: for `Process`.
    """
    streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    streams["stdin"] = subprocess.DEVNULL
    streams |= options
    if stdin is not None:
        streams["stdin"] = subprocess.PIPE
    with Process(command, text=True, **streams) as process:
        try:
            out, err = process.communicate(stdin, timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
