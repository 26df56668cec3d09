"""The kits that every scenario runs with, and how their drivers are built and started."""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import csharp
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
        lacks: the kinds that it has no client for; those of the web kit stand in.
    """

    name: str
    command: Callable[[], list[str]]
    cannot: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


@functools.cache
def _web() -> list[str]:
    os.environ["RELAYD_TESTS_WS"] = str(npm_package("ws", "8.18.0") / "wrapper.mjs")
    return ["node", str(DRIVERS / "web.mjs")]


@functools.cache
def _unity() -> list[str]:
    folder = tempfile.mkdtemp(prefix="relayd-tests-")
    atexit.register(shutil.rmtree, folder)
    program = csharp.build_driver(Path(folder), *CSHARP_LIBRARIES.values())
    return ["mono", str(program)]


CSHARP_LIBRARIES = {
    name: Path(path)
    for name in ("websocket-sharp", "NativeWebSocket")
    if (path := os.environ.get(f"RELAYD_TESTS_{name.replace('-', '_').upper()}"))
}
"""Libraries that no registry of ours carries, where somebody has compiled them by hand."""

WEB = Kit("web", _web, {"quiet_cut": "a browser shows no pings"})
KITS = (
    WEB,
    Kit("unity, ClientWebSocket", _unity, lacks=("phone",)),
    *(
        Kit(f"unity, {name}", _unity, options=(f"library={name.lower()}",), lacks=("phone",))
        for name in CSHARP_LIBRARIES
    ),
)  # fmt: skip
