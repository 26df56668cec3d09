"""Another user or password for a store: used as soon as the store takes it, and not before.

`storage.pool` and `redis.server` use it, when a reload has changed the login in a URL.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from relayd.errors import RelaydError
from relayd.logs import Logger

RETRY = 2.0
"""Seconds between two attempts with a login that the store refuses."""


class Logins:
    """The change of the login of one store.

    Args:
        label: the store, in words that may be shown.
        clock: provides IReactorTime.
    """

    _log = Logger()

    def __init__(self, label: str, clock: Any) -> None:
        self._label = label
        self._clock = clock
        self._trying: Deferred[None] | None = None

    def change(
        self, attempt: Callable[[], Coroutine[Any, Any, None]], adopt: Callable[[], object]
    ) -> None:
        """Tries a login until it works, in the place of one that is being tried.

        Args:
            attempt: logs in on a connection of its own; raises a RelaydError if that fails.
            adopt: called once, when the attempt has succeeded.
        """
        self.stop()
        self._trying = Deferred.fromCoroutine(self._try(attempt, adopt))
        self._trying.addErrback(self._failed)

    def stop(self) -> None:
        """Tries no more; the login in use stays."""
        trying, self._trying = self._trying, None
        if trying is not None:
            trying.cancel()

    async def _try(
        self, attempt: Callable[[], Coroutine[Any, Any, None]], adopt: Callable[[], object]
    ) -> None:
        said = False
        while True:
            try:
                await attempt()
            except RelaydError as error:
                if not said:
                    said = True
                    self._log.warn(
                        "{label}: the new login does not work yet, trying again, with the one "
                        "before in use: {why}",
                        label=self._label,
                        why=str(error),
                    )
                await deferLater(self._clock, RETRY)
            else:
                break
        adopt()
        self._log.info("{label}: the new login is in use", label=self._label)

    def _failed(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("{label}: the change of the login failed", failure, label=self._label)
