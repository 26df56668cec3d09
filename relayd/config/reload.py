"""A reload: which changes of the configuration are applied at once, and which need a restart.

Sits above `config` and `current`, to which it applies the outcome. The table `WHEN` says when each
setting is applied; a test keeps it complete.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec

from relayd.config import SECTIONS, Config, Loaded
from relayd.config.current import Current
from relayd.config.sections import Django
from relayd.config.settings import in_toml
from relayd.errors import ConfigError
from relayd.logs import Logger
from relayd.redis import urls
from relayd.urls import databases


class When(enum.Enum):
    """When a changed setting is applied."""

    NOW = "at once"
    NEW = "to new connections"
    RESTART = "at the next start"


NOW, NEW, RESTART = When.NOW, When.NEW, When.RESTART

WHEN: dict[str, dict[str, When]] = {
    "server": {
        "listen": RESTART,
        "names": NOW,
        "allowed_origins": NOW,
        "deflate": NEW,
        "drain_timeout": NOW,
        "restart_code": NOW,
        "workers": RESTART,
        "spread": RESTART,
    },
    # the files themselves are watched: what changes in them is for new connections
    "tls": dict.fromkeys(("certificate", "key", "listen"), RESTART),
    "proxy": {"trusted": NOW, "header": NOW},
    # another login at the same store is for new connections (`_LOGINS`)
    "database": {"url_file": NEW}
    | dict.fromkeys(
        (
            *("url", "migrate", "samples", "pool_size"),
            *("connect_timeout", "statement_timeout", "deadline", "min_free"),
        ),
        RESTART,
    ),
    "redis": {"url_file": NEW}
    | dict.fromkeys(
        (
            *("url", "ca_file", "verify", "prefix", "deadline", "history_age"),
            *("wait_replicas", "django_channels", "django_prefix"),
        ),
        RESTART,
    ),
    "camera": {"slow_viewers": NEW},
    "chat": {
        "default_room": NEW,
        "history": NEW,
        "history_length": RESTART,
        "history_bytes": RESTART,
        "total_bytes": RESTART,
        "max_rooms": RESTART,
        "new_rooms_per_hour": NOW,
        "room_age": RESTART,
        "tags_kept": RESTART,
        "message_prefix": NOW,
        "list_rooms": NOW,
    },
    "echo": {"enabled": NEW, "max_message_size": NEW},
    "api": {"key": NOW, "key_file": NOW, "allowed_origins": NOW},
    "metrics": {"enabled": NOW, "allow": NOW},
    "console": dict.fromkeys(("password_hash", "password_hash_file", "session_age"), NOW),
    "auth": {
        **dict.fromkeys(
            (
                *("secret", "secret_file", "keys", "keys_file", "jwks_url", "jwks_ca_file"),
                *("jwks_http", "jwks_age", "jwks_deadline", "audience", "issuer", "required"),
                *("camera", "difficulty", "chat", "push", "echo"),
            ),
            NEW,
        ),
        "denials_file": RESTART,
    },
    "django": dict.fromkeys(Django.__struct_fields__, RESTART),
    "limits": {
        "max_connections": NEW,
        "reserved_files": RESTART,
        "max_groups": NEW,
        "groups_per_address": NEW,
        **dict.fromkeys(
            (
                *("connections_per_address", "half_open_per_address", "handshakes_per_second"),
                *("failures_per_second", "requests_per_second", "exempt"),
            ),
            NOW,
        ),
        "max_message_size": NEW,
        "max_head_size": NOW,
        "send_buffer": NEW,
        "coalesce": RESTART,
        "max_waiting": NOW,
        "messages_per_second": NEW,
        "bytes_per_second": NEW,
        "group_messages_per_second": RESTART,
        "overload_lag": NOW,
    },
    "keepalive": {
        "ping_interval": NOW,
        "pong_timeout": NOW,
        "handshake_timeout": NOW,
        "request_timeout": NOW,
        "body_rate": NOW,
        "close_timeout": NOW,
    },
    "log": {"level": NOW, "format": RESTART},
    "control": {"socket": RESTART},
}
"""When a change of each setting is applied."""

_LOGINS = {
    ("database", "url"): databases.differ_in_login_only,
    ("redis", "url"): urls.differ_in_login_only,
}
"""Tell whether two values of a setting name the same store, with another user or password."""


class Change(msgspec.Struct, frozen=True):
    """A setting that has changed; secrets and passwords are hidden.

    Attributes:
        section, key: the setting.
        old, new: its values in TOML.
        when: when the new value is applied.
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
        config: the configuration after the reload.
        applied: the changes that it contains.
        restart: the changes that need a restart.
        warnings: faults that do not prevent a start, a sentence each.
        beside: what has changed beside the settings, such as a certificate; logged already.
    """

    config: Config
    applied: tuple[Change, ...] = ()
    restart: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The outcome as lines for people; never empty."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        lines += [f"applied {change.when.value}: {change}" for change in self.applied]
        lines += [f"needs a restart: {change}" for change in self.restart]
        if not self.applied and not self.restart:
            lines.append("no setting has changed")
        return lines


def compare(running: Config, new: Config, warnings: Sequence[str] = ()) -> Outcome:
    """Finds the changes, and which of them can be applied while relayd runs.

    Args:
        running: the present configuration.
        new: the configuration as it was read again.
        warnings: for the outcome.
    """
    applied: list[Change] = []
    restart: list[Change] = []
    sections = {}
    for section in SECTIONS:
        old, wanted = getattr(running, section), getattr(new, section)
        changed = {}
        for key, when in WHEN[section].items():
            before, after = getattr(old, key), getattr(wanted, key)
            if before == after:
                continue
            old_value, new_value = in_toml(section, key, before), in_toml(section, key, after)
            if (section, key) in _LOGINS and _LOGINS[section, key](before, after):
                when = NEW
            change = Change(section, key, old_value, new_value, when)
            if when is RESTART:
                restart.append(change)
            else:
                applied.append(change)
                changed[key] = after
        sections[section] = msgspec.structs.replace(old, **changed)
    config = msgspec.structs.replace(running, **sections)
    return Outcome(config, tuple(applied), tuple(restart), tuple(warnings))


class Reloader:
    """Reads the configuration again and applies it.

    Systemd copies credentials at the start of a service and never again. So root hands over what
    their files hold now; that is kept in memory, for every later reading.

    Args:
        read: reads it from the same sources as at the start, with the secrets that were handed
            over, or None. Raises ConfigError.
        current: holds the present configuration, and gets the changes that can be applied.
        announced: returns a context manager for each reload, which notifies systemd of it.
    """

    _log = Logger()

    def __init__(
        self,
        read: Callable[[Mapping[str, str] | None], Loaded],
        current: Current,
        announced: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._read = read
        self._current = current
        self._announced = announced
        self._handed: Mapping[str, str] | None = None

    def read(self, handed: Mapping[str, str] | None = None) -> Loaded:
        """Reads the configuration, and applies nothing.

        Args:
            handed: secrets by name; None for those that were handed over last.

        Raises:
            ConfigError: something is wrong.
        """
        return self._read(self._handed if handed is None else handed)

    def reload(self, handed: Mapping[str, str] | None = None) -> Outcome:
        """Reads the configuration, applies it as far as possible, and logs the outcome.

        Args:
            handed: secrets by name that root hands over; None for those handed over last.

        Raises:
            ConfigError: something is wrong, so nothing has changed.
        """
        with self._announced():
            try:
                loaded = self.read(handed)
            except ConfigError as error:
                self._log.error("reload: nothing has changed: {why}", why=str(error))
                raise
            outcome = compare(self._current.config, loaded.config, loaded.warnings)
            self._handed = self._handed if handed is None else handed
            beside = self._current.replace(outcome.config)
        self._log_lines(outcome)
        return msgspec.structs.replace(outcome, beside=tuple(beside))

    def try_to_reload(self) -> None:
        """Reloads; the outcome, also an error, is only logged."""
        try:
            self.reload()
        except ConfigError:
            pass  # `reload` has logged it
        except Exception:
            self._log.failure("the reload failed")

    def _log_lines(self, outcome: Outcome) -> None:
        for line in outcome.lines():
            grave = line.startswith(("warning", "needs"))
            (self._log.warn if grave else self._log.info)("reload: {line}", line=line)
