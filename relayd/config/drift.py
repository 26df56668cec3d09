"""What stands in the files and does not run: compared when the operator or the metrics ask.

Sits above `reload`, whose rules say what a difference needs. What runs was read at the start and at
each reload; since then somebody may have written to the files.
"""

import enum
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from relayd.config import Loaded
from relayd.config.current import Current
from relayd.config.reload import Change, When, compare
from relayd.errors import ConfigError

INTERVAL = 10.0
"""Seconds for which the metrics use the last comparison."""


class Remedy(enum.StrEnum):
    """What makes relayd run with what stands in the files."""

    RELOAD = "reload"
    RESTART = "restart"
    SOCKET = "socket"
    CORRECT = "correct"

    @property
    def sentence(self) -> str:
        """The same for people, behind the name of a setting."""
        return _SENTENCES[self]


_SENTENCES = {
    Remedy.RELOAD: "a reload does it",
    Remedy.RESTART: "needs a restart",
    Remedy.SOCKET: "systemd's socket unit says where relayd listens",
    Remedy.CORRECT: "the files are wrong",
}


class Difference(msgspec.Struct, frozen=True):
    """One difference; secrets and passwords are hidden.

    Attributes:
        setting: its name, such as `[server] workers`, or what is wrong with the files.
        text: the same with both values.
        remedy: what to do.
    """

    setting: str
    text: str
    remedy: Remedy

    @classmethod
    def of(cls, change: Change, remedy: Remedy) -> "Difference":
        """The difference that a change of a setting is."""
        return cls(f"[{change.section}] {change.key}", str(change), remedy)


class Drift:
    """Compares the present configuration with that in the files.

    Args:
        read: reads the files, as at the start (`reload.Reloader.read`). Raises ConfigError.
        current: holds the present configuration.
        ignored: returns the settings of the files that something else replaces.
        now: seconds, by a clock that is not set.
    """

    def __init__(
        self,
        read: Callable[[Mapping[str, str] | None], Loaded],
        current: Current,
        ignored: Callable[[Loaded], Iterable[Change]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._current = current
        self._ignored = ignored
        self._now = now
        self._compared_at = -INTERVAL
        self._counts = Counter[Remedy]()
        current.watch_reloads(self._forget)

    def find(self, handed: Mapping[str, str] | None = None) -> list[Difference]:
        """The differences at this moment; reads the files, which takes about 2 ms.

        Args:
            handed: the secrets as root reads them; None for those that this process knows.
        """
        try:
            loaded = self._read(handed)
        except ConfigError as error:
            return [Difference(str(error), str(error), Remedy.CORRECT)]
        outcome = compare(self._current.config, loaded.config)
        changes = (*outcome.applied, *outcome.restart)
        found = [
            Difference.of(one, Remedy.RESTART if one.when is When.RESTART else Remedy.RELOAD)
            for one in changes
        ]
        return found + [Difference.of(one, Remedy.SOCKET) for one in self._ignored(loaded)]

    def counts(self) -> dict[str, int]:
        """How many differences there are by remedy, as found within the last `INTERVAL`."""
        now = self._now()
        if now - self._compared_at >= INTERVAL:
            self._compared_at = now
            self._counts = Counter(one.remedy for one in self.find())
        return {remedy.value: self._counts[remedy] for remedy in Remedy}

    def _forget(self) -> None:
        self._compared_at = -INTERVAL + self._now()
