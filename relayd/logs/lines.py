"""The log as lines: text for people, JSON for programs.

Sits above `events`. One event is one line; in text, an indented traceback may follow.
"""

import datetime
from functools import lru_cache
from typing import IO

import msgspec
from twisted.logger import ILogObserver, LogEvent, formatEventAsClassicLogText, formatTime
from zope.interface import implementer

from relayd import logs
from relayd.logs.events import hide_secrets, message_of, read_event


@implementer(ILogObserver)
class Lines:
    """Writes the events to a stream, without those below the level.

    Args:
        stream: the destination; twistd later replaces sys.stdout by its log, so it is passed early.
        worker: the number of the process among those of one parent, or None.
    """

    def __init__(self, stream: IO[str], worker: int | None = None) -> None:
        self._stream = stream
        self._worker = worker

    def __call__(self, event: LogEvent) -> None:
        """Writes one event."""
        if logs.is_on(event.get("log_level")):
            text = self.encode(event)
            if text:
                self._stream.write(text)
                self._stream.flush()

    def encode(self, event: LogEvent) -> str:
        """The event as text with a newline; empty if it has no message."""
        raise NotImplementedError


class TextLines(Lines):
    """The text format of twistd, each line of a worker marked with its number (`w1 `)."""

    def encode(self, event: LogEvent) -> str:
        """The event as twistd writes it."""
        text = hide_secrets(_classic_text(event))
        if text and self._worker is not None:
            mark = f"w{self._worker} "
            text = mark + text.rstrip("\n").replace("\n", f"\n{mark}") + "\n"
        return text


def _classic_text(event: LogEvent) -> str:
    """An event as `formatEventAsClassicLogText` returns it, in a tenth of the time for most."""
    level, time = event.get("log_level"), event.get("log_time")
    if level is None or time is None or "log_failure" in event or "log_system" in event:
        return formatEventAsClassicLogText(event) or ""
    message = message_of(event)
    if not message:
        return ""
    text = f"{_second(int(time))} [{event.get('log_namespace', '-')}#{level.name}] {message}"
    return text.replace("\n", "\n\t") + "\n"


@lru_cache(maxsize=2)
def _second(time: int) -> str:
    """A time in Unix seconds as twistd writes it."""
    return formatTime(time)


class JsonLines(Lines):
    """One JSON object a line: time (RFC 3339), level, message, logger, then the fields it has."""

    def encode(self, event: LogEvent) -> str:
        """The event as one JSON object."""
        entry = read_event(event)
        time = datetime.datetime.fromtimestamp(entry.time, datetime.UTC)
        found: dict[str, str | int | float] = {
            "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": entry.level,
            "message": entry.message,
            "logger": entry.logger,
        }
        if self._worker is not None:
            found["worker"] = self._worker
        found |= entry.fields
        if entry.error is not None and entry.traceback is not None:
            found |= {"error": entry.error, "traceback": entry.traceback}
        return msgspec.json.encode(found).decode() + "\n"
