"""The command line of a worker: that of its parent, without the parent's own tasks.

Beside `supervisor`, which runs it; `tap` passes the options of twistd.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.python.reflect import fullyQualifiedName

from relayd.logs.setup import is_chosen
from relayd.workers.worker import log_observer


def command(twistd: Mapping[str, Any] | None, script: str) -> Callable[[int], list[str]]:
    """Derives the command line of the workers from that of this process.

    A worker neither becomes a daemon nor writes a pidfile; it inherits user, folder and umask. It
    chooses the destination of its log by the same rules as its parent. Beside a log file of the
    parent it writes its own, relayd-w1.log beside relayd.log; for syslog the prefix ends in -w1.

    Args:
        twistd: twistd's own options.
        script: the path of twistd.

    Returns:
        A function from the number of a worker to the arguments for Python.
    """
    given = twistd or {}
    program = ["-P", "-c", "from twisted.scripts.twistd import run; run()"]
    if Path(script).name == "twistd" and Path(script).is_file():
        program = [str(Path(script).absolute())]
    program += ["--nodaemon", "--pidfile="]
    if given.get("reactor"):
        program.append(f"--reactor={given['reactor']}")
    file = given.get("logfile") or ("" if given.get("nodaemon", True) else "twistd.log")
    # twistd may have changed the working directory before a worker starts
    path = None if file in ("", "-") else Path(file).absolute()

    def log_options(number: int) -> list[str]:
        if not is_chosen({"nodaemon": True, **given}):
            return []
        if given.get("logger") is not None:
            return [f"--logger={fullyQualifiedName(given['logger'])}"]
        if given.get("syslog"):
            return ["--syslog", f"--prefix={given['prefix']}-w{number}"]
        if path is not None:
            # not behind the suffix: twistd would treat it as a rotated file of the parent
            return [f"--logfile={path.with_stem(f'{path.stem}-w{number}')}"]
        return [f"--logger={fullyQualifiedName(log_observer)}"]

    return lambda number: [*program, *log_options(number), "relayd"]
