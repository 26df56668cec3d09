"""The log level, and `Logger`, which everything here logs with.

The ground, which imports nothing of ours. An event is a sentence with fields (`events.FIELDS`);
`lines` and `journal` write it, `setup` chooses among them. The levels:

    error      relayd could not do something; an operator should look
    warning    a store is unavailable, frames were dropped, or similar; relayd continues by itself
    info       the life of the process and of each connection, one line an HTTP request
    debug      details of single connections: errors sent to clients, pings

Faults of relayd itself, with a traceback, are above all of them and always logged.
"""

from typing import Any

import twisted.logger
from twisted.logger import LogLevel

__all__ = ["LEVELS", "Logger", "get_level", "is_on", "printable", "set_level"]

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
}
"""The names that `[log] level` may have, from the most lines to the fewest."""

_ORDER = tuple(LEVELS.values())
_level = "info"
_hidden: frozenset[Any] = frozenset({LogLevel.debug})


def set_level(name: str) -> None:
    """Sets the lowest level that is logged. Raises ValueError, naming the levels."""
    global _level, _hidden
    if name not in LEVELS:
        raise ValueError(f"{name!r} is no level; there are {', '.join(LEVELS)}")
    _hidden = frozenset(_ORDER[: _ORDER.index(LEVELS[name])])
    _level = name


def get_level() -> str:
    """The present level."""
    return _level


def is_on(level: Any) -> bool:
    """Whether events of a LogLevel are logged, for callers whose message is costly to build."""
    return level not in _hidden


def printable(text: str) -> str:
    """Untrusted text for a log or a terminal: control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class Logger(twisted.logger.Logger):
    """Twisted's logger, without the events below the level."""

    def emit(self, level: Any, format: str | None = None, **fields: object) -> None:
        """Logs an event, for all observers, if its level is not below that of relayd."""
        if level not in _hidden:
            super().emit(level, format, **fields)
