"""One setting of a source: its place, its value, and how errors show it. Pure.

Sits above `sections` and `checks`; `sources` reads the settings, `config.read` converts them.
"""

import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from relayd.config.checks import CHECKS
from relayd.config.sections import SECTIONS
from relayd.errors import ConfigError

_SECRETS = ("key", "keys", "secret", "secret_key", "secret_key_fallbacks")
_URLS = ("url", "cache_url")  # with a password, maybe
# from the first colon behind the slashes to the last at sign
_PASSWORD = re.compile(r"(?<=//)([^:]*):.*@")
_HARMLESS = re.compile("(host|hostaddr|port|db|dbname|user|sslmode|target_session_attrs)=")
_SENSITIVE = re.compile("api|auth|database|redis|key|secret|pass|token|ur[il]", re.IGNORECASE)
_HINTS = {name: get_type_hints(kind, include_extras=True) for name, kind in SECTIONS.items()}


class Setting(msgspec.Struct, frozen=True):
    """One setting of a source.

    Attributes:
        place: the source: a file, "environment", ".env" or "command line".
        name: its name there, such as `[chat] history` or `RELAYD_CHAT_HISTORY`.
        section, key: the setting.
        value: as the source has it.
        strict: whether the type of the value counts; False for text from a variable.
    """

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
            if get_origin(hint) is Literal:
                reason = f"allowed are {', '.join(map(repr, get_args(hint)))}"
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
        """Its source for people: a file, or the name of a variable or an option."""
        return self.place if self.name.startswith("[") else f"{self.place} {self.name}"

    def error(self, reason: str) -> ConfigError:
        """The error for a wrong value."""
        return ConfigError(
            f"{self.place}: {self.name} = {redacted(self.section, self.key, self.value)}: {reason}"
        )


def listed(names: Any) -> str:
    """Names as a sorted list for an error message."""
    return ", ".join(sorted(names))


def redacted(section: str, key: str, value: Any) -> str:
    """A value for an error message, without keys, secrets and passwords."""
    if _is_secret(section, key) and value:
        return "(hidden)"
    if key not in _URLS:
        return str(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, str):
        return repr(_hide(value))
    return _PASSWORD.sub(r"\1:***@", repr(value).partition("?")[0])


def in_toml(section: str, key: str, value: Any) -> str:
    """A value in TOML, without keys, secrets and passwords."""
    if isinstance(value, tuple):
        return f"[{', '.join(in_toml(section, key, one) for one in value)}]"
    if not isinstance(value, str):
        return str(value).lower()
    if _is_secret(section, key) and value:
        return "(hidden)"
    if key in _URLS:
        value = " ".join(map(_hide, value.split()))
    return msgspec.json.encode(value).decode()


def _is_secret(section: str, key: str) -> bool:
    """Whether a setting is secret whatever its value; `[tls] key` is the name of a file."""
    return key in _SECRETS and section != "tls"


def _hide(url: str) -> str:
    """A URL without its password; of its query, only parameters that cannot hold one are kept."""
    place, mark, query = url.partition("?")
    parts = [part if _HARMLESS.match(part) else "***" for part in query.split("&")]
    return _PASSWORD.sub(r"\1:***@", place) + mark + ("&".join(parts) if mark else "")


def holds_a_secret(section: str, key: str, value: Any) -> bool:
    """Whether a value is secret: a key, or a URL with a password."""
    if (section, key) == ("auth", "keys"):  # public keys are no secret
        return re.search(r'PRIVATE KEY-----|"(d|k)"\s*:', str(value)) is not None
    if _is_secret(section, key):
        return bool(value)
    return key in _URLS and _PASSWORD.search(str(value)) is not None


def guess(section: str, key: str, value: Any) -> str:
    """The value of an unknown setting, hidden if its name may be a misspelt secret."""
    return "(hidden)" if _SENSITIVE.search(f"{section} {key}") else repr(value)
