"""The sources of settings: a TOML file and its folder conf.d, the environment, a `.env` file.

Sits above `settings`, below `config.read`, which decides their precedence.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dotenv

from relayd.config.sections import SECTIONS
from relayd.config.settings import Setting, guess, is_trimmed, listed
from relayd.errors import ConfigError

_PLATFORM = {"DATABASE_URL": ("database", "url"), "REDIS_URL": ("redis", "url")}
# variables that Kubernetes sets in every pod for a Service whose name begins with relayd
# (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)
_LINKS = (
    (r"SERVICE_HOST|PORT_\d+_(?:TCP|UDP|SCTP)_ADDR", r"[0-9A-Fa-f:.]+"),
    (r"SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)_PORT", r"\d{1,5}"),
    (r"PORT_\d+_(?:TCP|UDP|SCTP)_PROTO", r"tcp|udp|sctp"),
    (r"PORT(?:_\d+_(?:TCP|UDP|SCTP))?", r"(?:tcp|udp|sctp)://[0-9A-Fa-f:.\[\]]+:\d{1,5}"),
)
_SERVICE_LINKS = tuple(
    (re.compile(rf"RELAYD_(?:[A-Z0-9_]+_)?(?:{name})", re.ASCII), re.compile(value, re.ASCII))
    for name, value in _LINKS
)


def read_dotenv(folder: str = "") -> dict[str, str]:
    """The variables that the file `.env` in a folder sets; none without such a file."""
    try:
        found = dotenv.dotenv_values(os.path.join(folder, ".env"))
    except OSError as error:
        raise ConfigError(f".env: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f".env: is not UTF-8: {error}") from error
    return {name: value for name, value in found.items() if value is not None}


def read_file(path: str) -> list[Setting]:
    """The settings of a TOML file. Raises ConfigError, naming the file and the key."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    found = []
    for section, table in document.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {section} = {guess(section, '', table)}: stands outside a section; "
                f"write [SECTION] above it, one of {listed(SECTIONS)}"
            )
        if section not in SECTIONS:
            raise ConfigError(f"{path}: [{section}]: no such section; there are {listed(SECTIONS)}")
        for key, value in table.items():
            if key not in SECTIONS[section].__struct_fields__:
                raise ConfigError(
                    f"{path}: [{section}] {key} = {guess(section, key, value)}: no such setting; "
                    f"[{section}] has {listed(SECTIONS[section].__struct_fields__)}"
                )
            found.append(Setting(path, f"[{section}] {key}", section, key, value))
    return found


def beside(path: str) -> list[str]:
    """The files of `conf.d` beside a configuration file, in the order of their names.

    Only `*.toml` without hidden files, so that leftovers of editors and dpkg are not read.
    """
    folder = Path(path).parent / "conf.d"
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
    return [
        str(folder / name) for name in names if name.endswith(".toml") and not name.startswith(".")
    ]


def by_strength(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables that are settings: ours follow those of the platforms, and override them."""
    theirs = [(name, environ[name]) for name in ("PORT", *_PLATFORM) if environ.get(name)]
    ours = [
        (name, text)
        for name, text in environ.items()
        if name.startswith("RELAYD_")
        and name != "RELAYD_CONFIG"
        and not is_service_link(name, text)
    ]
    return theirs + ours


def is_service_link(name: str, text: str) -> bool:
    """Whether a variable has name and value of a Kubernetes service link, and is no setting."""
    section, _, key = name.removeprefix("RELAYD_").lower().partition("_")
    if section in SECTIONS and key in SECTIONS[section].__struct_fields__:
        return False
    return any(one.fullmatch(name) and form.fullmatch(text) for one, form in _SERVICE_LINKS)


def read_variable(place: str, name: str, text: str) -> Setting:
    """The setting of a variable. Raises ConfigError, naming the variable."""
    if name == "PORT":
        if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
            raise ConfigError(f"{place}: PORT = {text!r}: must be a number from 0 to 65535")
        return Setting(place, name, "server", "listen", [f"tcp:{int(text)}:interface=0.0.0.0"])
    if name in _PLATFORM:
        section, key = _PLATFORM[name]
        return Setting(place, name, section, key, text.strip())
    section, _, key = name.removeprefix("RELAYD_").lower().partition("_")
    if section not in SECTIONS:
        raise ConfigError(
            f"{place}: {name} = {guess(section, key, text)}: no such section; "
            f"RELAYD_<SECTION>_<KEY> with a section of {listed(SECTIONS)}"
        )
    if key not in SECTIONS[section].__struct_fields__:
        raise ConfigError(
            f"{place}: {name} = {guess(section, key, text)}: no such setting; "
            f"[{section}] has {listed(SECTIONS[section].__struct_fields__)}"
        )
    value: Any = text.strip() if is_trimmed(section, key) else text
    if isinstance(getattr(SECTIONS[section](), key), tuple):
        value = _to_list(text)
    return Setting(place, name, section, key, value, strict=False)


def _to_list(text: str) -> Any:
    """The list in a variable: a TOML array, or values separated by commas."""
    if text.lstrip().startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()]
