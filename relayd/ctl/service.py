"""The systemd service that `relayctl` controls: its secrets, its folder, its user.

Under `common`. The command of a package sets $RELAYCTL_SERVICE to the name of the service; root
then reads the secrets that systemd passes to it, the caller's `.env` is ignored, and the database
is used as the service's user. Without the variable none of this applies.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

from relayd.config.secret_files import read_credentials
from relayd.errors import ConfigError

VARIABLE = "RELAYCTL_SERVICE"


class Service:
    """A service with the layout of the package.

    Args:
        name: of the unit, of the user, and of the folders below /etc and /var/lib.
        root: the parent of these folders.
        given: the folder with the secrets, if this runs in the service itself.

    Attributes:
        credentials: the folder whose files systemd passes to the service at its start.
        handed: the folder of these files while the service runs.
        folder: its working directory.
    """

    def __init__(self, name: str, root: Path = Path("/"), given: str = "") -> None:
        self.name = name
        self._given = given
        self.credentials = root / "etc" / name / "credentials"
        self.handed = root / "run" / "credentials" / f"{name}.service"
        self.folder = root / "var" / "lib" / name

    @property
    def user_id(self) -> int | None:
        """The id of the service's user; None if there is no such user."""
        try:
            return pwd.getpwnam(self.name).pw_uid
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
        user = pwd.getpwnam(service.name)
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
