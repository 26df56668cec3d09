"""The configuration that a process works with now: held once, read by every part when it is used.

Stands on `config`; `reload` and the pipe from a worker's parent replace what it holds.
"""

from collections.abc import Callable

from relayd.config import Config
from relayd.logs import Logger


class Current:
    """Holds the configuration of a process.

    A part keeps this object and reads `current.config` each time that it needs a setting, so a
    setting that may change needs no code to bring it to that part. A part that has to act on a
    change, such as a running timer, watches.

    Args:
        config: what the process was started with.

    Attributes:
        config: what holds now. Never assign to it: `replace` does.
    """

    _log = Logger()

    def __init__(self, config: Config) -> None:
        self.config = config
        self._watchers: list[tuple[Callable[[], object], frozenset[str]]] = []

    def watch(self, act: Callable[[], object], *sections: str) -> None:
        """Calls `act` after each replacement that changes one of these sections.

        Args:
            act: reads `config`, which is the new one by then.
            sections: names of sections, such as "limits"; none for all of them.
        """
        names = sections or Config.__struct_fields__
        self._watchers.append((act, frozenset(names)))

    def replace(self, config: Config) -> None:
        """Holds another configuration from now on, and calls those who watch what has changed.

        A watcher that fails is logged, and the others are called all the same.

        Args:
            config: the new one; `reload.compare` says which settings may differ.
        """
        before, self.config = self.config, config
        changed = {
            name
            for name in Config.__struct_fields__
            if getattr(before, name) != getattr(config, name)
        }
        for act, sections in self._watchers:
            if changed & sections:
                try:
                    act()
                except Exception:
                    self._log.failure(
                        "a part could not follow the change of {sections}",
                        sections=", ".join(sorted(changed & sections)),
                    )
