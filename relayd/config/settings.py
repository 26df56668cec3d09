"""One setting as it was found: where it stands, what it sets, how an error shows it. Pure.

Sits above `sections` and `checks`; `sources` finds the settings, `config.read` takes their values.
"""

import re
from typing import Any, get_type_hints

import msgspec

from relayd.config.checks import CHECKS
from relayd.config.sections import SECTIONS
from relayd.errors import ConfigError

# from the first colon behind the slashes to the last at sign
_PASSWORD = re.compile(r"(?<=//)([^:]*):.*@")
_HARMLESS = re.compile("(host|hostaddr|port|db|dbname|user|sslmode|target_session_attrs)=")
_SENSITIVE = re.compile("api|auth|database|redis|key|secret|pass|token|ur[il]", re.IGNORECASE)
_HINTS = {name: get_type_hints(kind, include_extras=True) for name, kind in SECTIONS.items()}


class Setting(msgspec.Struct, frozen=True):
    """One setting as it was found: where, under which name, and what it sets to which value."""

    place: str
    name: str
    section: str
    key: str
    value: Any
    strict: bool = True

    def convert(self) -> Any:
        """The value in the type of its setting. Raises ConfigError."""
        hint = _HINTS[self.section][self.key]
        try:
            value = msgspec.convert(self.value, hint, strict=self.strict, str_keys=not self.strict)
        except msgspec.ValidationError as error:
            reason = str(error).split(" - at ")[0].replace("`bool`", "true or false")
            raise self.error(f"{reason[0].lower()}{reason[1:]}") from error
        check = CHECKS.get((self.section, self.key))
        if check is not None:
            try:
                check(value)
            except ValueError as error:
                raise self.error(str(error)) from error
        return value

    @property
    def source(self) -> str:
        """Where it stands, for people: a file, or the name of a variable or an option."""
        return self.place if self.name.startswith("[") else f"{self.place} {self.name}"

    def error(self, reason: str) -> ConfigError:
        """The error for a wrong value."""
        return ConfigError(f"{self.place}: {self.name} = {shown(self.key, self.value)}: {reason}")


def listed(names: Any) -> str:
    """Names as an error message lists them."""
    return ", ".join(sorted(names))


def shown(key: str, value: Any) -> str:
    """A value as an error message may show it: no key, no secret, no password."""
    if key in ("key", "secret") and value:
        return "(hidden)"
    if key != "url":
        return str(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, str):
        return repr(_hide(value))
    return _PASSWORD.sub(r"\1:***@", repr(value).partition("?")[0])


def in_toml(key: str, value: Any) -> str:
    """A value as a configuration file has it; no key, no secret, no password."""
    if isinstance(value, tuple):
        return f"[{', '.join(in_toml(key, one) for one in value)}]"
    if not isinstance(value, str):
        return str(value).lower()
    if key in ("key", "secret") and value:
        return "(hidden)"
    if key == "url":
        value = " ".join(map(_hide, value.split()))
    return msgspec.json.encode(value).decode()


def _hide(url: str) -> str:
    """A URL without its password, and in its query only what cannot be one."""
    place, mark, query = url.partition("?")
    parts = [part if _HARMLESS.match(part) else "***" for part in query.split("&")]
    return _PASSWORD.sub(r"\1:***@", place) + mark + ("&".join(parts) if mark else "")


def holds_a_secret(key: str, value: Any) -> bool:
    """Whether a value is one that not everyone is to read: a key, or a URL with a password."""
    if key in ("key", "secret"):
        return bool(value)
    return key == "url" and _PASSWORD.search(str(value)) is not None


def guess(section: str, key: str, value: Any) -> str:
    """The value of a setting that does not exist, unless it may be a secret that was misspelt."""
    return "(hidden)" if _SENSITIVE.search(f"{section} {key}") else repr(value)
