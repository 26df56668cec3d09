"""The systemd service that `relayctl` looks after: its secrets, its folder, its user.

Under `common`. The command of a package sets $RELAYCTL_SERVICE to the name of the service; then
root sees the secrets that systemd hands to it, `.env` of whoever calls does not count, and what is
done in the database is done as the service's user. Without it nothing of this applies.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

from relayd.config.secret_files import SECRETS
from relayd.errors import ConfigError

VARIABLE = "RELAYCTL_SERVICE"


class Service:
    """A service of the name `name`, laid out as the package does it.

    Args:
        name: of the unit, of the user, and of the folders below /etc and /var/lib.
        root: what the folders are below.
        given: the folder with the secrets, if this runs in the service itself.

    Attributes:
        credentials: the folder whose files systemd hands to the service when that starts.
        handed: where they are while it runs.
        folder: its working directory.
    """

    def __init__(self, name: str, root: Path = Path("/"), given: str = "") -> None:
        self.name = name
        self._given = given
        self.credentials = root / "etc" / name / "credentials"
        self.handed = root / "run" / "credentials" / f"{name}.service"
        self.folder = root / "var" / "lib" / name

    @property
    def hidden(self) -> bool:
        """Whether there may be secrets that this user cannot read."""
        return not self._given and self.credentials.is_dir() and not _readable(self.credentials)

    def folders(self) -> list[str]:
        """Where to look for secrets, what wins last: first what runs, then what is to run next."""
        if self._given:
            return [self._given]
        return [str(one) for one in (self.handed, self.credentials) if _readable(one)]

    def changed(self) -> list[Path]:
        """Files with secrets that are not, or not yet, what the running service has."""
        if not _readable(self.handed) or not _readable(self.credentials):
            return []
        names = [f"{section}_{key}" for section, key in SECRETS]
        return [
            self.credentials / name
            for name in names
            if _content(self.credentials / name) != _content(self.handed / f"{self.name}_{name}")
        ]


def find(environ: Mapping[str, str]) -> Service | None:
    """The service that is looked after; None if relayd is run otherwise."""
    name = environ.get(VARIABLE, "")
    return Service(name, given=environ.get("CREDENTIALS_DIRECTORY", "")) if name else None


@contextlib.contextmanager
def as_its_user(environ: Mapping[str, str]) -> Iterator[None]:
    """Root is the user of the service meanwhile; others stay who they are.

    So PostgreSQL sees that user at its unix socket, which it may know people by, and a file that
    is made belongs to who is to write it.
    """
    service = find(environ)
    if service is None or os.geteuid() != 0:
        yield
        return
    try:
        user = pwd.getpwnam(service.name)
    except KeyError:
        yield  # nobody has installed it
        return
    home, group = os.environ.get("HOME"), os.getegid()
    # libpq looks for certificates there, and it could not look into root's
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
    """Raises ConfigError if there may be secrets that this user cannot read."""
    service = find(environ)
    if service is not None and service.hidden:
        raise ConfigError(
            f"this needs the secrets of the service, and {service.credentials} is for root: "
            "use sudo"
        )


def _readable(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError:
        return b""
