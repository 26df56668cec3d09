"""Suspends processes: a signal alone says nothing about when its process stands still."""

import os
import signal
import time
from pathlib import Path

PATIENCE = 20.0
"""Seconds after which a process that should stand still never will."""


def suspend(pid: int) -> None:
    """Sends SIGSTOP to a process, and returns when all its threads stand still (proc(5), state T).

    Until then the process may go on on another core: it may answer, or fork a child.
    """
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + PATIENCE
    while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} does not stand still")
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # the thread has ended
        return "X"
