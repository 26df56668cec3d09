"""The kits that every scenario runs with, and how their drivers are built and started."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.npm import npm_package

ROOT = Path(__file__).resolve().parents[2]
DRIVERS = Path(__file__).resolve().parent / "drivers"


@dataclass(frozen=True)
class Kit:
    """A kit with one library under it.

    Attributes:
        name: in the table, such as `web, ws of Node`.
        command: builds the driver, if that is needed, and returns how it is started.
        cannot: scenarios that do not apply, and why, in a few words for the table.
        options: further options of every client.
    """

    name: str
    command: Callable[[], list[str]]
    cannot: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


@functools.cache
def _web() -> list[str]:
    os.environ["RELAYD_TESTS_WS"] = str(npm_package("ws", "8.18.0") / "wrapper.mjs")
    return ["node", str(DRIVERS / "web.mjs")]


KITS = (
    Kit("web", _web, {"quiet_cut": "a browser shows no pings"}),
)  # fmt: skip
