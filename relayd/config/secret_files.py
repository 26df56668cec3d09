"""Secrets in files of their own: systemd's credentials, and `<key>_file` settings.

Sits above `settings`, beside `sources`. A file holds one secret and nothing else; white space
around it is ignored. systemd copies the credentials of a unit, such as
`LoadCredential=database_url:PATH`, to $CREDENTIALS_DIRECTORY (systemd.exec(5)), readable by the
service alone.
"""

import itertools
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from relayd.config.settings import Setting, holds_a_secret
from relayd.errors import ConfigError

SECRETS = (
    *(("database", "url"), ("redis", "url"), ("api", "key")),
    *(("auth", "secret"), ("auth", "keys"), ("console", "password_hash")),
    *(("django", "url"), ("django", "secret_key"), ("django", "cache_url")),
)
"""Section and key of the settings that may be in files of their own."""

OURS = "relayd_"
"""The prefix of the credentials that come from a folder."""


class _Missing(ValueError):
    """There is no such file."""


def read_credentials(directory: str, prefixes: Sequence[str] = (OURS, "")) -> list[Setting]:
    """The secrets among systemd's credentials.

    They are `database_url`, `redis_url`, `api_key`, `auth_keys` and so on (SECRETS), or
    `relayd_database_url`, as a unit names them with a folder:
    `LoadCredential=relayd:/etc/relayd/credentials`.

    Args:
        directory: the folder of the credentials.
        prefixes: of the files to read; later ones override earlier ones.

    Raises:
        ConfigError: a credential exists and cannot be used.
    """
    found = []
    for prefix, (section, key) in itertools.product(prefixes, SECRETS):
        path = Path(directory, f"{prefix}{section}_{key}")
        try:
            text = _read(path)
        except _Missing:
            continue
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
        found.append(Setting(str(path), f"[{section}] {key}", section, key, text))
    return found


def read_handed(handed: Mapping[str, str]) -> list[Setting]:
    """The secrets that root has handed over; they take the place of the credentials of a folder.

    Args:
        handed: the text by the name, such as `database_url`; others than SECRETS are ignored.
    """
    return [
        Setting(f"credential {name}", f"[{section}] {key}", section, key, handed[name])
        for section, key in SECRETS
        if (name := f"{section}_{key}") in handed
    ]


def follow(found: Iterable[Setting], folder: str, warnings: list[str]) -> list[Setting]:
    """Adds behind each `<key>_file` setting the secret from its file.

    Args:
        found: the settings; later ones override earlier ones.
        folder: the base of relative paths; "" for the working directory.
        warnings: gets a sentence for each file that everyone may read.

    Raises:
        ConfigError: a file cannot be used, or the same source sets the secret as well.
    """
    followed: list[Setting] = []
    places = {(one.place, one.section, one.key): one for one in found}
    for setting in found:
        followed.append(setting)
        key = setting.key.removesuffix("_file")
        if (setting.section, key) not in SECRETS or key == setting.key or not setting.convert():
            continue
        other = places.get((setting.place, setting.section, key))
        if other is not None and other.value:
            raise setting.error(f"{other.name} is set there, too; set one of the two")
        path = Path(folder, setting.convert())
        try:
            text = _read(path)
        except ValueError as error:
            raise setting.error(str(error)) from error
        if is_open(path) and (key == "url" or holds_a_secret(setting.section, key, text)):
            warnings.append(f"{path}: everyone on this machine may open it: chmod 640 {path}")
        name = f"[{setting.section}] {key}"
        followed.append(Setting(str(path), name, setting.section, key, text))
    return followed


def warn_of_open_file(path: str, found: Iterable[Setting], warnings: list[str]) -> None:
    """Adds a sentence if a TOML file holds secrets and everyone may read it."""
    names = [one.name for one in found if holds_a_secret(one.section, one.key, one.value)]
    if names and is_open(Path(path)):
        warnings.append(
            f"{path}: holds {' and '.join(names)}, and everyone on this machine may open it: "
            f"chmod 640 {path}"
        )


def is_open(path: Path) -> bool:
    """Whether everyone on this machine may read or write a file."""
    try:
        return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False  # it was removed meanwhile


def _read(path: Path) -> str:
    """The secret in a file. Raises ValueError with the reason."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError("the file is not UTF-8 text") from error
    except FileNotFoundError as error:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise _Missing(f"cannot be read: {error.strerror}{where}") from error
    except PermissionError as error:
        user = f"this process runs with the user id {os.geteuid()}"
        raise ValueError(f"cannot be read: {error.strerror}; {user}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if not text:
        raise ValueError("the file is empty; write the secret into it, or remove the setting")
    return text
