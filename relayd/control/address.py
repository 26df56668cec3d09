"""The path of the control socket: one rule for the daemon, its workers and `relayctl`. Pure.

`[control] socket` is a path, "off", or "": then it is `control.sock` in the folder that systemd
names in `$RUNTIME_DIRECTORY`, else `var/control.sock` in the working directory.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from relayd.config import Config
from relayd.config.checks import LONGEST_SOCKET
from relayd.errors import RelaydError

NAME = "control.sock"
PACKAGED = Path("/run/relayd") / NAME
"""The path in the package's service; `relayctl` tries it, too."""


class ControlError(RelaydError):
    """The control socket cannot be used; the text is a sentence for the operator."""


class Place(msgspec.Struct, frozen=True):
    """The place of a control socket.

    Attributes:
        path: of the socket.
        chosen: whether the configuration names it; relayd then does not start without it.
    """

    path: Path
    chosen: bool


def find_place(config: Config, environ: Mapping[str, str]) -> Place | None:
    """Finds the place of the socket of a process; None if it is turned off."""
    chosen = config.control.socket
    if chosen == "off":
        return None
    if chosen:
        return Place(Path(chosen), True)
    folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Place(Path(folder or "var") / NAME, False)


def of_worker(place: Place, number: int) -> Place:
    """The place where a worker listens for its parent: beside the parent's own."""
    path = place.path
    return Place(path.with_name(f"{path.stem}-w{number}{path.suffix}"), place.chosen)


def check_length(path: Path) -> None:
    """Raises ControlError if the path is too long for a unix socket."""
    length = len(str(path).encode())
    if length > LONGEST_SOCKET:
        raise ControlError(
            f"{path} has {length} bytes, and the path of a unix socket {LONGEST_SOCKET} at most; "
            "set [control] socket to a shorter one"
        )
