"""The present configuration of a process: held once, and read by every part when it needs it.

Sits on `config`; `reload` and the pipe from a worker's parent replace it.
"""

from collections.abc import Callable
from typing import TypeVar

from relayd.config import Config
from relayd.logs import Logger

T = TypeVar("T")


class Current:
    """Holds the configuration of a process.

    A part keeps this object and reads `current.config` each time that it needs a setting, so no
    code has to pass a changed setting to that part. A part that has to act on a change, such as a
    running timer, watches.

    Args:
        config: the configuration at the start.

    Attributes:
        config: the present configuration. Only `replace` assigns to it.
    """

    _log = Logger()

    def __init__(self, config: Config) -> None:
        self.config = config
        self._reloaders: list[Callable[[], list[str] | None]] = []
        self._watchers: list[tuple[Callable[[], object], frozenset[str]]] = []

    def watch(self, act: Callable[[], object], *sections: str) -> None:
        """Calls `act` after each replacement that changes one of these sections.

        Args:
            act: called without arguments; `config` is the new configuration by then.
            sections: names of sections, such as "limits"; none for all of them.
        """
        names = sections or Config.__struct_fields__
        self._watchers.append((act, frozenset(names)))

    def watch_reloads(self, act: Callable[[], list[str] | None]) -> None:
        """Calls `act` after each replacement, also one without a change.

        What a setting names, such as a file, may have changed when the setting has not; then `act`
        returns a sentence about each change, which it has logged.
        """
        self._reloaders.append(act)

    def replace(self, config: Config) -> list[str]:
        """Applies another configuration, and calls the watchers of the changed sections.

        The failure of a watcher is logged; the other watchers are still called.

        Args:
            config: the new one; `reload.compare` decides which settings may differ.

        Returns:
            What has changed beside the settings, a sentence each.
        """
        before, self.config = self.config, config
        changed = {
            name
            for name in Config.__struct_fields__
            if getattr(before, name) != getattr(config, name)
        }
        for act, sections in self._watchers:
            if changed & sections:
                self._call(act, "the change of " + ", ".join(sorted(changed & sections)))
        found: list[str] = []
        for reloader in self._reloaders:
            if sentences := self._call(reloader, "the reload"):
                found += sentences
        return found

    def _call(self, act: Callable[[], T], what: str) -> T | None:
        try:
            return act()
        except Exception:
            self._log.failure("a part could not apply {what}", what=what)
            return None
