"""A process that has relayd imported and forks: `twistd` and `relayctl` of the tests start from it.

Run by `tests.processes` as `python zygote.py DESCRIPTOR PACKAGE ROOM`, one for each program and
pytest process. PACKAGE is what it imports whole: `relayd` for twistd, `relayd.ctl` for relayctl,
which chooses between Autobahn's Twisted and asyncio sides itself. ROOM is blanks, as long as the
longest command line that /proc is to show.
Nothing of pytest is in it, no reactor, and one thread. Each request on the socket DESCRIPTOR makes
a process that

- is a child of the *pytest process* (clone(2), CLONE_PARENT), as if pytest had started it:
  exit status, signals, process group and getppid() are those of any child;
- has the working directory, environment, umask, arguments and descriptors of the request alone;
- runs the script of the request, such as `.venv/bin/twistd`, as `python` would.

Ends when the other end of its socket is closed, so also when pytest is killed.
"""

import atexit
import contextlib
import ctypes
import fcntl
import importlib
import io
import json
import os
import pkgutil
import runpy
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

MOST = 200_000
"""Bytes of a request: what a datagram socket takes by default."""
MOST_DESCRIPTORS = 64

_SYS_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE_PARENT, _CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
_SIGCHLD = 17
_PR_GET_TID_ADDRESS = 40

# What a start loads beside relayd's own modules, in functions. No reactor among them.
LOADED_LATER = (
    "twisted.internet.default",
    "twisted.internet.epollreactor",
    "twisted.protocols.haproxy._wrapper",
    "twisted.scripts._twistd_unix",
    "twisted.scripts.twistd",
    "psycopg2.extensions",
    "sqlite3",
    "yoyo.backends.core.postgresql",
    "yoyo.backends.core.sqlite3",
)


def load(package: str) -> None:
    """Imports what the processes will need: a package, and what a daemon loads later."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    if package == "relayd":
        for name in LOADED_LATER:
            importlib.import_module(name)
        from twisted.application.service import IServiceMaker
        from twisted.plugin import getPlugins

        list(getPlugins(IServiceMaker))
    if "twisted.internet.reactor" in sys.modules:
        raise RuntimeError("a reactor was chosen before twistd could")
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("something has started a thread, which a fork would lose")


def clone() -> int:
    """As os.fork(), but the new process has our parent; its id, or 0 in the new process.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock meanwhile
    # where the C library keeps the thread's id: fork(3) has it renewed there, too
    place = ctypes.c_void_p()
    if libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_GET_TID_ADDRESS)")
    flags = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | _SIGCHLD
    number = ctypes.c_long(_SYS_CLONE[os.uname().machine])
    no = ctypes.c_void_p()
    tls_and_tid = (place, no) if os.uname().machine == "x86_64" else (no, place)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(libc.syscall(number, ctypes.c_ulong(flags), no, no, *tls_and_tid))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return pid


def serve(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Answers requests.

    Returns:
        In each new process the request and the descriptors that came with it; None at the end.
    """
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, MOST, MOST_DESCRIPTORS)
        if not data:
            return None
        try:
            pid = clone()
        except OSError as error:
            requests.send(str(error).encode())
        else:
            if pid == 0:
                return json.loads(data), descriptors
            requests.send(b"%d" % pid)
        for descriptor in descriptors:
            os.close(descriptor)


def become(request: dict[str, Any], received: list[int]) -> str:
    """Makes this process what the request describes; returns the path of the script it runs.

    Args:
        request: `argv`, `cwd`, `env`, `umask` and `descriptors`, the numbers that what was
            received shall have.
        received: descriptors, of which nothing else is to stay open.
    """
    numbers = request["descriptors"]
    above = max((2, *numbers, *received)) + 1
    kept = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in received]
    os.closerange(3, above)
    for descriptor, number in zip(kept, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    # without a locale Python sets this one, for us as for every process
    coerced = {name: os.environ[name] for name in ("LC_CTYPE",) if name in os.environ}
    os.environ.clear()
    os.environ.update(coerced | request["env"])
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    _renew_streams()
    sys.argv[:] = request["argv"]
    script: str = request["argv"][0]
    _show([sys.executable, *sys.argv])
    sys.path[0] = str(Path(script).parent)
    return script


def _show(command: list[str]) -> None:
    """Has /proc, ps and relayctl see the command line and the name that exec would have given."""
    Path("/proc/self/comm").write_text(Path(command[1]).name)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = map(int, fields[45:47])  # arg_start and arg_end in proc(5)
    shown = b"".join(os.fsencode(word) + b"\0" for word in command)[: end - start - 1]
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _renew_streams() -> None:
    """sys.stdin, stdout and stderr as Python makes them at its start: a terminal is noticed."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old, mode = getattr(sys, name), "w" if number else "r"
        raw: Any = io.FileIO(number, mode, closefd=False)
        raw.name = f"<{name}>"
        buffer = raw
        if mode == "r":
            buffer = io.BufferedReader(raw)
        elif not unbuffered:
            buffer = io.BufferedWriter(raw)
        new: Any = io.TextIOWrapper(
            buffer,
            old.encoding,
            old.errors,
            newline="\n" if number else None,
            line_buffering=not unbuffered and (number == 2 or raw.isatty()),
            write_through=unbuffered,
        )
        new.mode = mode
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def execute(script: str) -> None:
    """Runs a script as the main program, and ends the process with its status.

    The end is Python's without the freeing of all objects, which touches every page that is shared
    with the zygote (0.1 s).
    """
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        if not isinstance(error.code, int | None):
            raise
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):  # nobody reads it any more: Python has its ways
            for stream in (sys.stdout, sys.stderr):
                if not stream.closed:
                    stream.flush()
            os._exit((error.code or 0) & 0xFF)
        raise


if __name__ == "__main__":
    work = socket.socket(fileno=int(sys.argv[1]))
    work.set_inheritable(False)
    # the folder of this file is not on the path of who is started from here
    sys.path[0] = str(Path(sys.executable).parent)
    load(sys.argv[2])
    found = None
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C at pytest
        found = serve(work)
    if found is not None:
        work.close()
        execute(become(*found))
