"""The latest warnings and errors of this process, each with its remedy, for the operator.

Beside `lines` and `journal`, on `events` and `advice`. Warnings with the same words are one entry
with a count, so that a storm of one kind pushes out no other. An event that is no warning costs one
comparison.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from relayd.logs.advice import ADVICE
from relayd.logs.events import read_event

MOST = 50
"""Kinds of warnings that are kept; beyond them the one that occurred the longest ago is dropped."""
_LONGEST = 1000  # characters of a text
_SEVERE = (LogLevel.warn, LogLevel.error, LogLevel.critical)
_REMEDIES = {advice.words: advice.do for advice in ADVICE}
_OF_A_FAULT = (
    "A fault of relayd itself: report it with the traceback, which is in the log "
    "(journalctl -u relayd)."
)


class Warned(msgspec.Struct, kw_only=True):
    """A warning, and how often it occurred.

    Attributes:
        level: "warning", "error" or "critical".
        text: of the latest one.
        remedy: what it means, and what an operator can do; "" if nothing is known.
        count: how often it occurred.
        first: Unix time of the first one.
        last: Unix time of the latest one.
        worker: the number of the worker that logged it; None for a process without workers.
    """

    level: str
    text: str
    remedy: str
    count: int
    first: float
    last: float
    worker: int | None = None


@implementer(ILogObserver)
class Recent:
    """The latest warnings of this process."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Warned] = OrderedDict()

    def start(self) -> None:
        """Begins to listen to the log."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Stops listening."""
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") in _SEVERE:
            self._note(event)

    def entries(self) -> list[Warned]:
        """The warnings, the latest last."""
        return list(self._found.values())

    def _note(self, event: LogEvent) -> None:
        words: Any = event.get("log_format")
        key = words if isinstance(words, str) else ""
        entry = read_event(event)
        known = self._found.pop(key, None)
        self._found[key] = Warned(
            level=entry.level,
            text=entry.message[:_LONGEST],
            remedy=_REMEDIES.get(key, _OF_A_FAULT if entry.level == "critical" else ""),
            count=1 if known is None else known.count + 1,
            first=entry.time if known is None else known.first,
            last=entry.time,
        )
        if len(self._found) > MOST:
            self._found.popitem(last=False)


def merge(sources: Iterable[Iterable[Warned]], most: int = MOST) -> list[Warned]:
    """The latest warnings of several processes, the latest first."""
    found = [each for source in sources for each in source]
    return sorted(found, key=lambda each: each.last, reverse=True)[:most]
