"""The folder that the workers of one parent share: made, locked and removed by the parent.

At the ground, under `workers`; what is in it, and what for, says `handover`.
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
_YOUNG = 60.0  # seconds in which a folder may not be locked yet


class Folder:
    """The shared folder of the workers. Their parent creates it first, and holds a lock on it.

    The lock (flock(2)) says that the parent lives: systemd-tmpfiles leaves alone what is locked,
    and the next parent removes what is not.

    Args:
        workers: how many there are.
        within: the folder to make it in.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, workers: int, within: str) -> None:
        _remove_dead(Path(within))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))  # closed to others
        (self.path / "beats").write_bytes(bytes(8 * workers))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    @classmethod
    def make(cls, workers: int, environ: Mapping[str, str]) -> "Folder":
        """In the first folder that systemd has made for this service, else among temporary files.

        Raises:
            OSError: it cannot be made.
        """
        within = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return cls(workers, within or tempfile.gettempdir())

    def remove(self) -> None:
        """Removes it; no worker is left."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_dead(within: Path) -> None:
    """Removes what parents have left that were killed."""
    for folder in within.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is locked, or gone meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                facts = os.fstat(lock)
                if facts.st_uid == os.geteuid() and time.time() - facts.st_mtime > _YOUNG:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
