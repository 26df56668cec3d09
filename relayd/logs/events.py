"""A log event of Twisted as relayd writes it: its words, its fields, and nothing secret. Pure.

Sits above the level, below `lines` and `journal`.
"""

import re
from functools import lru_cache
from typing import Any

import msgspec
from twisted.logger import LogEvent, formatEvent

from relayd.urls.masking import mask_text

FIELDS = (
    *("conn", "path", "peer", "kind", "method", "status", "code", "reason"),
    *("sent", "got", "seconds", "messages", "left_out"),
)
"""The parts of an event that have fields of their own; the text has the others."""

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The severities of syslog by our names of levels (RFC 5424 section 6.2.1)."""

# literal text, and fields that are a name, with a conversion or a format: `{seconds:.1f}`
_PLAIN = re.compile(r"(?:[^{}]|\{[A-Za-z_]\w*(?:![rs])?(?::[^{}]*)?\})*")


class Entry(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        time: Unix seconds.
        level: one of `PRIORITIES`.
        logger: its namespace, such as `relayd.node.Node`.
        message: its text, without a traceback.
        traceback: the traceback of the exception, or None.
        error: the class name of the exception, or None.
        fields: those of `FIELDS` that it has.
    """

    time: float
    level: str
    logger: str
    message: str
    traceback: str | None
    error: str | None
    fields: dict[str, str | int | float]


def read_event(event: LogEvent) -> Entry:
    """Converts an event of Twisted."""
    failure = event.get("log_failure")
    message = hide_secrets(message_of(event))
    if failure is not None and not message:
        message = hide_secrets(f"{failure.type.__name__}: {failure.getErrorMessage()}")
    return Entry(
        time=event.get("log_time") or 0.0,
        level=level_of(event),
        logger=event.get("log_namespace") or "-",
        message=message,
        traceback=None if failure is None else hide_secrets(failure.getTraceback().rstrip()),
        error=None if failure is None else failure.type.__name__,
        fields={
            name: hide_secrets(value) if isinstance(value, str) else value
            for name in FIELDS
            if isinstance(value := event.get(name), str | int | float)
        },
    )


def message_of(event: LogEvent) -> str:
    """The text of an event, as `formatEvent` returns it, in a tenth of the time for most."""
    words = event.get("log_format")
    if isinstance(words, str) and _is_plain(words) and "log_flattened" not in event:
        try:
            return words.format_map(event)
        except Exception:
            pass  # Twisted describes what cannot be formatted
    return formatEvent(event)


@lru_cache(maxsize=256)
def _is_plain(words: str) -> bool:
    """Whether `str.format_map` does the same as Twisted, which also makes calls."""
    return _PLAIN.fullmatch(words) is not None


def level_of(event: LogEvent) -> str:
    """Our name of an event's level; "info" for an event without one."""
    name: Any = getattr(event.get("log_level"), "name", "info")
    return "warning" if name == "warn" else str(name)


def hide_secrets(text: str) -> str:
    """Text without tokens and passwords, and with nothing that is not UTF-8."""
    text = mask_text(text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
