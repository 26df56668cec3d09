"""A reload: what of a new configuration is applied at once, and what needs a restart.

Sits above `config` and `current`, which it gives what comes out. `WHEN` is the one table of which
setting is applied when; a test holds it complete.
"""

import enum
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec

from relayd.config import SECTIONS, Config, Loaded
from relayd.config.current import Current
from relayd.config.settings import in_toml
from relayd.errors import ConfigError
from relayd.logs import Logger


class When(enum.Enum):
    """When a changed setting is applied."""

    NOW = "at once"
    NEW = "to new connections"
    RESTART = "at the next start"


NOW, NEW, RESTART = When.NOW, When.NEW, When.RESTART

WHEN: dict[str, dict[str, When]] = {
    "server": {
        "listen": RESTART,
        "allowed_origins": NOW,
        "drain_timeout": NOW,
        "workers": RESTART,
        "spread": RESTART,
    },
    "proxy": {"trusted": NOW, "header": NOW},
    "database": dict.fromkeys(
        (
            *("url", "url_file", "migrate", "samples", "pool_size"),
            *("connect_timeout", "statement_timeout", "deadline"),
        ),
        RESTART,
    ),
    "redis": dict.fromkeys(
        (
            *("url", "url_file", "ca_file", "prefix", "deadline", "history_age"),
            *("django_channels", "django_prefix"),
        ),
        RESTART,
    ),
    "camera": {"slow_viewers": NEW},
    "chat": {
        "default_room": NEW,
        "history": NEW,
        "history_length": RESTART,
        "message_prefix": NOW,
    },
    "echo": {"enabled": NEW, "max_message_size": NEW},
    "api": {"key": NOW, "key_file": NOW},
    "metrics": {"enabled": NOW, "allow": NOW},
    "auth": {"secret": NEW, "secret_file": NEW, "required": NEW},
    "limits": {
        "max_connections": NEW,
        "max_message_size": NEW,
        "max_head_size": NOW,
        "send_buffer": NEW,
        "coalesce": RESTART,
        "max_waiting": NOW,
        "messages_per_second": NEW,
    },
    "keepalive": {
        "ping_interval": NOW,
        "pong_timeout": NOW,
        "handshake_timeout": NOW,
        "close_timeout": NOW,
    },
    "log": {"level": NOW, "format": RESTART},
    "control": {"socket": RESTART},
}
"""When each setting is applied that has changed."""


class Change(msgspec.Struct, frozen=True):
    """A setting that has changed; secrets and passwords are hidden.

    Attributes:
        section, key: which one.
        old, new: its values as TOML has them.
        when: when the new one is applied.
    """

    section: str
    key: str
    old: str
    new: str
    when: When

    def __str__(self) -> str:
        name = f"[{self.section}] {self.key}"
        return f"{name} = {self.new} (was {self.old})" if self.old != self.new else name


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of a reload.

    Attributes:
        config: what relayd works with from now on.
        applied: what has changed.
        restart: what would have changed with a restart.
        warnings: what works and should not stay as it is, a sentence each.
    """

    config: Config
    applied: tuple[Change, ...] = ()
    restart: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """All of that for people, a line each; never empty."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        lines += [f"applied {change.when.value}: {change}" for change in self.applied]
        lines += [f"needs a restart: {change}" for change in self.restart]
        if not self.applied and not self.restart:
            lines.append("nothing has changed")
        return lines


def compare(running: Config, new: Config, warnings: Sequence[str] = ()) -> Outcome:
    """Finds what may change while relayd runs.

    Args:
        running: what it works with.
        new: what is configured now.
        warnings: handed on.
    """
    applied: list[Change] = []
    restart: list[Change] = []
    sections = {}
    for section in SECTIONS:
        old, wanted = getattr(running, section), getattr(new, section)
        taken = {}
        for key, when in WHEN[section].items():
            before, after = getattr(old, key), getattr(wanted, key)
            if before == after:
                continue
            change = Change(section, key, in_toml(key, before), in_toml(key, after), when)
            if when is RESTART:
                restart.append(change)
            else:
                applied.append(change)
                taken[key] = after
        sections[section] = msgspec.structs.replace(old, **taken)
    config = msgspec.structs.replace(running, **sections)
    return Outcome(config, tuple(applied), tuple(restart), tuple(warnings))


class Reloader:
    """Reads the configuration again and has the process work with it.

    Args:
        read: reads it from where it came from at the start. Raises ConfigError.
        current: holds what the process works with; gets what may change of the new one.
        announced: what surrounds each reload, whatever the outcome: systemd is told of it.
    """

    _log = Logger()

    def __init__(
        self,
        read: Callable[[], Loaded],
        current: Current,
        announced: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._read = read
        self._current = current
        self._announced = announced

    def reload(self) -> Outcome:
        """Reads the configuration and applies what may change; the log has the outcome, too.

        Raises:
            ConfigError: something is wrong, so nothing has changed.
        """
        with self._announced():
            try:
                loaded = self._read()
            except ConfigError as error:
                self._log.error("reload: nothing has changed, for {why}", why=str(error))
                raise
            outcome = compare(self._current.config, loaded.config, loaded.warnings)
            self._current.replace(outcome.config)
        self._log_lines(outcome)
        return outcome

    def try_to_reload(self) -> None:
        """Reloads; whatever comes of it is in the log."""
        try:
            self.reload()
        except ConfigError:
            pass  # it is logged
        except Exception:
            self._log.failure("the reload failed")

    def _log_lines(self, outcome: Outcome) -> None:
        for line in outcome.lines():
            grave = line.startswith(("warning", "needs"))
            (self._log.warn if grave else self._log.info)("reload: {line}", line=line)
