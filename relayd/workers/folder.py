"""The folder that the workers of one parent share: created, locked and removed by the parent.

At the ground of `workers`. `edge.handover` describes the files in it.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_PREFIX = "relayd-workers-"
_YOUNG = 60.0  # seconds during which a new folder may still be unlocked


class Folder:
    """The shared folder of the workers. Their parent creates it first, and holds a lock on it.

    The lock (flock(2)) shows that the parent is alive: systemd-tmpfiles skips a locked folder, and
    the next parent removes an unlocked one.

    Args:
        workers: the number of workers.
        within: the folder in which it is created.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, workers: int, within: str) -> None:
        _remove_dead(Path(within))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))  # mode 0700
        (self.path / "beats").write_bytes(bytes(8 * workers))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    @classmethod
    def create(cls, workers: int, environ: Mapping[str, str]) -> "Folder":
        """Creates it in the first of systemd's runtime directories, else among temporary files.

        Args:
            workers: the number of workers.
            environ: the environment; `RUNTIME_DIRECTORY` as in systemd.exec(5).

        Raises:
            OSError: it cannot be created.
        """
        within = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return cls(workers, within or tempfile.gettempdir())

    def remove(self) -> None:
        """Removes it, after all workers have ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_dead(within: Path) -> None:
    """Removes the folders of parents that were killed."""
    for folder in within.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is locked, or was removed meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                facts = os.fstat(lock)
                if facts.st_uid == os.geteuid() and time.time() - facts.st_mtime > _YOUNG:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
