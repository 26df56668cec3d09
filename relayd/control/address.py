"""Where the control socket is: one rule for the daemon, its workers and `relayctl`. Pure.

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
"""Where the package's service has it; `relayctl` looks there, too."""


class ControlError(RelaydError):
    """The control socket cannot be used; the text is a sentence for the operator."""


class Place(msgspec.Struct, frozen=True):
    """Where a control socket is to be.

    Attributes:
        path: of the socket.
        chosen: whether the configuration names it: then relayd does not start without it.
    """

    path: Path
    chosen: bool


def find_place(config: Config, environ: Mapping[str, str]) -> Place | None:
    """Where the socket of a process is to be; None if it is turned off."""
    chosen = config.control.socket
    if chosen == "off":
        return None
    if chosen:
        return Place(Path(chosen), True)
    folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Place(Path(folder or "var") / NAME, False)


def of_worker(place: Place, number: int) -> Place:
    """Where the worker with a number listens for its parent: beside it."""
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
