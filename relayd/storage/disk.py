"""Watches the free space of the file system that has the embedded database.

Beside `history`, which keeps no message while the space is low; `application` reports it. The
kernel is asked in a thread, since a file system on the network may let a caller wait.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from relayd.errors import DiskFull
from relayd.logs import Logger

INTERVAL = 2.0
"""Seconds between two looks at the disk."""
_ENOUGH = 1.25
"""Space that counts as enough again, as a multiple of the bound: deletions come and go."""


class DiskWatch:
    """The free space for the database.

    Args:
        reactor: provides IReactorTime and IReactorThreads.
        path: the database file; None if the database is not on this machine.
        least: the free bytes below which nothing more is kept; 0 for no bound.
        statvfs: asks the kernel.

    Attributes:
        free: bytes that relayd could write at the last look; None before it.
        low: whether they were too few, and have not become enough since.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: Path | None,
        least: int,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._reactor = reactor
        self._folder = None if path is None else path.parent
        self._least = least
        self._statvfs = statvfs
        self.free: int | None = None
        self.low = False
        self._next: IDelayedCall | None = None
        self._stopped = False

    def start(self) -> None:
        """Looks now, and from now on every two seconds."""
        if self._folder is not None and self._least:
            self._look()

    def stop(self) -> None:
        """Ends it."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def check(self) -> None:
        """Raises DiskFull while the space is low."""
        if self.low:
            raise DiskFull(f"less than {self._least} bytes are free in {self._folder}")

    def _look(self) -> None:
        assert self._folder is not None
        self._next = None
        pool = self._reactor.getThreadPool()
        looking = deferToThreadPool(self._reactor, pool, self._statvfs, self._folder)
        looking.addCallbacks(self._found, self._failed)
        looking.addBoth(self._again)

    def _again(self, _: object) -> None:
        if not self._stopped:
            self._next = self._reactor.callLater(INTERVAL, self._look)

    def _found(self, state: os.statvfs_result) -> None:
        self.free = free = state.f_bavail * state.f_frsize
        if not self.low and free < self._least:
            self.low = True
            self._log.error(
                "{free} bytes are free in {folder}, less than [database] min_free = {least}: chat "
                "messages are refused until there is more",
                free=free, folder=str(self._folder), least=self._least,
            )  # fmt: skip
        elif self.low and free >= self._least * _ENOUGH:
            self.low = False
            self._log.info(
                "{free} bytes are free in {folder}: chat messages are kept again",
                free=free, folder=str(self._folder),
            )  # fmt: skip

    def _failed(self, failure: Failure) -> None:
        # the database reports a folder that is gone
        self._log.debug("{folder}: {why}", folder=str(self._folder), why=str(failure.value))
