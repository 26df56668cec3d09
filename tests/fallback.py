"""A pytest plugin (`-p tests.fallback`): scenarios of tests/integration on a loop that is not ours.

FALLBACK in the environment says which. Of the tests it keeps those that share one relayd; that one,
and whatever other relayd is started, runs on that loop. `tests/integration/test_fallback.py` runs
pytest so.
"""

import os
from pathlib import Path

import pytest

from tests.daemon import Daemon

VARIABLE = "FALLBACK"
OTHER_NAMES = Path(__file__).parent / "integration" / "another_version"
PREFIXES = {
    # twistd on a reactor without epoll
    "poll": ("sh", "-c", 'twistd=$1; shift; exec "$twistd" --reactor=poll "$@"', "sh"),
    # a reactor with epoll, in a library whose private names are others
    "another version": ("env", f"PYTHONPATH={OTHER_NAMES}"),
}
"""What a relayd is started with, by the name of the fallback."""

_start = Daemon.start


def start(daemon: Daemon, fallback: str) -> Daemon:
    """Starts a relayd on a fallback."""
    daemon.prefix = PREFIXES[fallback]
    return _start(daemon)


def pytest_configure() -> None:
    """Has every relayd start on the fallback that the environment names."""
    if VARIABLE not in os.environ:
        return  # imported by a test

    def start_on_fallback(self: Daemon, *, wait: bool = True) -> Daemon:
        self.prefix = self.prefix or PREFIXES[os.environ[VARIABLE]]
        return _start(self, wait=wait)

    setattr(Daemon, "start", start_on_fallback)  # noqa: B010


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests that share one relayd and start none of their own."""
    names = {item: set(getattr(item, "fixturenames", ())) for item in items}
    kept = [item for item in items if "relayd" in names[item] and "spawn" not in names[item]]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
