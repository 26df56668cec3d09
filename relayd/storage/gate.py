"""Lets the pool's threads work side by side, or one of them alone.

Under `jobs`. An embedded database has to be left by all connections before a lost log is replaced.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Who is inside: any number of threads, or one that came for being alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Waits while a thread is alone, or waits for that; each is bounded, as `alone` says."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, seconds: float) -> Iterator[bool]:
        """Waits until no thread is inside; for a thread that is not inside itself.

        Args:
            seconds: how long it waits, and how long others wait for it, besides its block.

        Yields:
            Whether it is alone.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            free = self._changed.wait_for(lambda: not self._inside, seconds)
        try:
            yield free
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
