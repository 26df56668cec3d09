"""The systemd service that `relayctl` controls: its secrets, its folder, its user.

Under `common`. The command of a package sets $RELAYCTL_SERVICE to the name of the service; root
then reads the secrets that systemd passes to it, the caller's `.env` is ignored, and the database
is used as the service's user. Without the variable none of this applies. `--instance NAME` chooses
another service of the package, which has folders of its own, and the same user.
"""

import contextlib
import os
import pwd
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from relayd.config.secret_files import read_credentials
from relayd.errors import ConfigError

VARIABLE = "RELAYCTL_SERVICE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names that stand in those of units and folders as they are."""


class Service:
    """A service with the layout of the package.

    Args:
        name: of the unit: `relayd`, or `relayd@NAME` for an instance.
        root: the parent of all folders.
        given: the folder with the secrets, if this runs in the service itself.

    Attributes:
        user: its user.
        configuration: its configuration file.
        credentials: the folder whose files systemd passes to the service at its start.
        handed: the folder of these files while the service runs.
        folder: its working directory.
        runtime: the folder of its control socket.
        command: how the operator calls `relayctl` for it.
    """

    def __init__(self, name: str, root: Path = Path("/"), given: str = "") -> None:
        self.name = name
        self._given = given
        self.user, _, instance = name.partition("@")
        own = f"{self.user}-{instance}" if instance else self.user
        self.configuration = root / "etc" / self.user / instance / "relayd.toml"
        self.credentials = self.configuration.with_name("credentials")
        self.handed = root / "run" / "credentials" / f"{name}.service"
        self.folder = root / "var" / "lib" / own
        self.runtime = root / "run" / own
        self.command = f"relayctl --instance {instance}" if instance else "relayctl"

    @property
    def user_id(self) -> int | None:
        """The id of the service's user; None if there is no such user."""
        try:
            return pwd.getpwnam(self.user).pw_uid
        except KeyError:
            return None

    @property
    def hidden(self) -> bool:
        """Whether this user cannot read the secrets of the service."""
        return not self._given and self.credentials.is_dir() and not _readable(self.credentials)

    def folders(self) -> list[str]:
        """Folders with secrets: those of the running service, then those of its next start."""
        if self._given:
            return [self._given]
        return [str(one) for one in (self.handed, self.credentials) if _readable(one)]

    def secrets(self) -> dict[str, str] | None:
        """What the service gets at its next start, by name, to be handed over now.

        Returns:
            None if the caller is not root, or the service has no such folder.

        Raises:
            ConfigError: a file cannot be used.
        """
        if os.geteuid() != 0 or not _readable(self.credentials):
            return None
        found = read_credentials(str(self.credentials), ("",))
        return {f"{one.section}_{one.key}": one.value for one in found}


def find(environ: Mapping[str, str]) -> Service | None:
    """The service that relayctl controls; None if relayd runs without the package."""
    name = environ.get(VARIABLE, "")
    return Service(name, given=environ.get("CREDENTIALS_DIRECTORY", "")) if name else None


def choose(environ: MutableMapping[str, str], instance: str, root: Path = Path("/")) -> None:
    """Has `relayctl` control another instance of the service, from here on.

    Args:
        environ: the environment, which gets what names the instance.
        instance: its name, as in `relayd@NAME.service`.
        root: as for `Service`.

    Raises:
        ConfigError: there is no such instance.
    """
    name = environ.get(VARIABLE, "").partition("@")[0]
    if not name:
        raise ConfigError("--instance is for the services of the package; here, use --config FILE")
    service = Service(f"{name}@{instance}", root)
    if not _NAME.fullmatch(instance) or not service.configuration.is_file():
        all_of_them = root / "etc" / name
        there = ", ".join(sorted(one.parent.name for one in all_of_them.glob("*/relayd.toml")))
        raise ConfigError(
            f"there is no instance {instance}, since there is no {all_of_them}/{instance}/"
            f"relayd.toml; there {f'are {there}' if there else 'is none'}"
        )
    environ[VARIABLE] = service.name
    environ["RELAYD_CONFIG"] = str(service.configuration)
    environ["RUNTIME_DIRECTORY"] = str(service.runtime)


def command(environ: Mapping[str, str]) -> str:
    """How the operator calls `relayctl` for the relayd that it controls now."""
    service = find(environ)
    return "relayctl" if service is None else service.command


def unit(environ: Mapping[str, str]) -> str:
    """The name of the service that relayctl controls; the package's if none is named."""
    return environ.get(VARIABLE) or "relayd"


@contextlib.contextmanager
def as_its_user(environ: Mapping[str, str]) -> Iterator[None]:
    """Runs as the user of the service, if root calls; no effect for other users.

    PostgreSQL may authenticate users by their unix socket, and a new SQLite file has to belong to
    the user of the service.
    """
    service = find(environ)
    if service is None or os.geteuid() != 0:
        yield
        return
    try:
        user = pwd.getpwnam(service.user)
    except KeyError:
        yield  # the service is not installed
        return
    home, group = os.environ.get("HOME"), os.getegid()
    # libpq looks for certificates there, and the user may not read root's
    os.environ["HOME"] = user.pw_dir
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.environ.pop("HOME")
        if home is not None:
            os.environ["HOME"] = home


def require_secrets(environ: Mapping[str, str]) -> None:
    """Raises ConfigError if this user cannot read the secrets of the service."""
    service = find(environ)
    if service is not None and service.hidden:
        raise ConfigError(
            f"this needs the secrets of the service, and only root may read "
            f"{service.credentials}: use sudo"
        )


def _readable(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)
