"""The destination of the log: chosen once, before twistd begins to log.

Sits above `lines` and `journal`, under `tap`. With --logfile, --syslog or --logger, or as a daemon,
twistd logs as it does for any service; relayd chooses in all other cases.
"""

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from twisted.logger import ILogObserver

from relayd.logs.journal import SOCKET, Journal
from relayd.logs.lines import JsonLines, TextLines

VARIABLE = "_RELAYD_JOURNAL"
"""The environment variable with another socket than the journal's, for tests."""


def is_chosen(twistd: Mapping[str, Any]) -> bool:
    """Whether the operator has chosen the destination with options of twistd."""
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    if twistd.get("logfile") or twistd.get("syslog") or not foreground:
        return True
    return twistd.get("logger") not in (None, _NAME, observer)


def choose(
    twistd: MutableMapping[str, Any],
    format: str,
    environ: Mapping[str, str],
    worker: int | None = None,
) -> None:
    """Makes twistd log by `[log] format`, unless its options choose the destination.

    Args:
        twistd: twistd's own options, before twistd uses them.
        format: `[log] format`.
        environ: the environment.
        worker: the number of the process among those of one parent, or None.
    """
    global _choice
    if not is_chosen(twistd):
        _choice = Choice(format, environ, worker)
        twistd["logger"] = _NAME


def observer() -> ILogObserver:
    """The chosen observer; twistd finds it by its name."""
    return _choice()


_NAME = f"{__name__}.observer"


class Choice:
    """Builds the observer for a format.

    Args:
        format: `[log] format`.
        environ: the environment.
        worker: the number of the process among those of one parent, or None.
    """

    def __init__(self, format: str, environ: Mapping[str, str], worker: int | None) -> None:
        self._format = format
        self._path = environ.get(VARIABLE, SOCKET)
        self._worker = worker
        if format == "auto":
            stream = environ.get("JOURNAL_STREAM", "")
            self._format = "journal" if is_journal(stream) else "text"

    def __call__(self) -> ILogObserver:
        """The observer."""
        # twistd replaces sys.stdout by its log later
        if self._format == "json":
            return JsonLines(sys.stdout, self._worker)
        if self._format == "journal":
            try:
                return Journal(self._path, self._worker)
            except OSError as error:
                why = f"{self._path}: {error.strerror}"
                text = "the journal cannot be used, so the log is text"
                print(f"relayd: warning: {text}: {why}", file=sys.stderr)
        return TextLines(sys.stdout, self._worker)


def is_journal(stream: str, stat: Callable[[int], os.stat_result] = os.fstat) -> bool:
    """Whether stderr or stdout is connected to the journal.

    Args:
        stream: $JOURNAL_STREAM, device and inode of the journal's socket (systemd.exec(5)).
            Children inherit it, also those whose output goes elsewhere.
        stat: `os.fstat`.
    """
    for descriptor in (2, 1):
        try:
            found = stat(descriptor)
        except OSError:
            continue
        if stream == f"{found.st_dev}:{found.st_ino}":
            return True
    return False


_choice = Choice("text", {}, None)
