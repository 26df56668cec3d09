"""The client kits: one entry each, for the scenarios, the table and `make clients-table`.

A new kit is an entry in `KITS` and a driver in `drivers/` (`driver.py` has the protocol).
"""

import atexit
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import csharp, java
from tests.npm import npm_package

DRIVERS = Path(__file__).resolve().parent / "drivers"
EVERY_KIND = ("camera", "chat", "phone", "headset", "push")


@dataclass(frozen=True)
class Kit:
    """A kit with one library under it.

    Attributes:
        name: in the table, such as `web, ws of Node`.
        command: builds the driver, if that is needed, and returns how it is started; called for
            each driver, so it builds once.
        cannot: titles of scenarios that do not apply, and why, in a few words for the table.
        options: further options of every client.
        lacks: those of `EVERY_KIND` that it has no client for.
    """

    name: str
    command: Callable[[], list[str]]
    cannot: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def having(self, kinds: Iterable[str]) -> list[str]:
        """Those of some kinds that it has a client for."""
        return [kind for kind in kinds if kind not in self.lacks]


@functools.cache
def _web() -> list[str]:
    return ["node", str(DRIVERS / "web.mjs"), str(npm_package("ws", "8.23.0"))]


def _python() -> list[str]:
    return [sys.executable, str(DRIVERS / "python_kit.py")]


@functools.cache
def _unity() -> list[str]:
    folder = tempfile.mkdtemp(prefix="relayd-tests-")
    atexit.register(shutil.rmtree, folder)
    program = csharp.build_driver(Path(folder), *CSHARP_LIBRARIES.values())
    return ["mono", str(program)]


@functools.cache
def _android(libraries: tuple[Path, ...]) -> list[str]:
    java.skip_without(libraries)
    folder = tempfile.mkdtemp(prefix="relayd-tests-")
    atexit.register(shutil.rmtree, folder)
    return java.build_driver(Path(folder), libraries)


CSHARP_LIBRARIES = {
    name: Path(path)
    for name in ("websocket-sharp", "NativeWebSocket")
    if (path := os.environ.get(f"RELAYD_TESTS_{name.replace('-', '_').upper()}"))
}
"""Libraries that no registry of ours carries, where somebody has compiled them by hand."""

KITS = (
    Kit("web", _web),
    Kit("python, asyncio", _python),
    Kit("python, Twisted", _python, options=("library=twisted",)),
    Kit("unity, ClientWebSocket", _unity, lacks=("phone",)),
    *(
        Kit(f"unity, {name}", _unity, options=(f"library={name.lower()}",), lacks=("phone",))
        for name in CSHARP_LIBRARIES
    ),
    Kit("android, OkHttp 3.13", functools.partial(_android, java.OKHTTP_3)),
    Kit("android, OkHttp 4.12", functools.partial(_android, java.OKHTTP_4)),
)
