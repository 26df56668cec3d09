"""One setting of a source: its place, its value, and how errors show it. Pure.

Sits above `sections` and `checks`; `sources` reads the settings, `config.read` converts them.
"""

import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from relayd.config.checks import CHECKS
from relayd.config.sections import SECTIONS
from relayd.errors import ConfigError
from relayd.urls.masking import HIDDEN, mask_text, mask_url, mask_urls, may_hold_secret

_SECRETS = ("key", "keys", "password_hash", "secret", "secret_key", "secret_key_fallbacks")
_URLS = ("url", "cache_url", "jwks_url")  # with a password, maybe
_SENSITIVE = re.compile(
    "api|auth|cred|database|dsn|key|pass|pwd|redis|secret|token|ur[il]", re.IGNORECASE
)
_ASSIGNED = re.compile(r"(key|passw|pwd|secret|token)\w*\s*=", re.IGNORECASE)
_MISPLACED = "looks like the URL of a store or a secret, which have settings of their own"
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
                reason = str(error)
                if self.key not in _URLS and not is_secret(self.section, self.key):
                    # the check may quote the value
                    reason = reason if _quoted(self.value) != HIDDEN else _MISPLACED
                raise self.error(reason) from error
        return value

    @property
    def source(self) -> str:
        """Its source for people: a file, or the name of a variable or an option."""
        return self.place if self.name.startswith("[") else f"{self.place} {self.name}"

    def error(self, reason: str) -> ConfigError:
        """The error for a wrong value."""
        shown = redacted(self.section, self.key, self.value)
        return ConfigError(f"{self.place}: {self.name} = {shown}: {reason}")


def listed(names: Any) -> str:
    """Names as a sorted list for an error message."""
    return ", ".join(sorted(names))


def redacted(section: str, key: str, value: Any) -> str:
    """A value for an error message, without keys, secrets and passwords."""
    if is_secret(section, key) and value:
        return HIDDEN
    if key in _URLS:
        shown = mask_urls(value) if isinstance(value, str) else HIDDEN
        return shown if shown == HIDDEN else repr(shown)
    return str(value).lower() if isinstance(value, bool) else _quoted(value)


def in_toml(section: str, key: str, value: Any) -> str:
    """A value in TOML, without keys, secrets and passwords."""
    if isinstance(value, tuple):
        return f"[{', '.join(in_toml(section, key, one) for one in value)}]"
    if not isinstance(value, str):
        return str(value).lower()
    if is_secret(section, key) and value:
        return HIDDEN
    if key in _URLS:
        value = mask_urls(value)
    return value if value == HIDDEN else msgspec.json.encode(value).decode()


def is_secret(section: str, key: str) -> bool:
    """Whether a setting is secret whatever its value; `[tls] key` is the name of a file."""
    return key in _SECRETS and section != "tls"


def is_trimmed(section: str, key: str) -> bool:
    """Whether blanks around the value of a variable are a slip: of a secret or a URL."""
    return is_secret(section, key) or key in _URLS


def holds_a_secret(section: str, key: str, value: Any) -> bool:
    """Whether a value is secret: a key, or a URL with a password."""
    if (section, key) == ("auth", "keys"):  # public keys are no secret
        return re.search(r'PRIVATE KEY-----|"(d|k)"\s*:', str(value)) is not None
    if is_secret(section, key):
        return bool(value)
    return key in _URLS and may_hold_secret(str(value))


def guess(section: str, key: str, value: Any) -> str:
    """The value of an unknown setting, hidden if it or its name may be one of a secret."""
    return HIDDEN if _SENSITIVE.search(f"{section} {key}") else _quoted(value)


def _quoted(value: Any) -> str:
    """A value that ought to hold no secret; a URL with a password may be in the wrong place."""
    texts = value if isinstance(value, list) else [value]
    if any(isinstance(each, str) and _is_suspect(each) for each in texts):
        return HIDDEN
    return repr(value)


def _is_suspect(text: str) -> bool:
    """Whether a text may be the URL of a store, or another secret."""
    is_url = "://" in text and mask_url(text) != text
    return is_url or "@" in text or _ASSIGNED.search(text) is not None or mask_text(text) != text
