"""The asking end of a control socket, for the operator: plain sockets, no reactor.

Sits under the commands that look after a running relayd. Where the socket is, is the same rule as
in the daemon (`relayd.control.address`); what is wrong with it, is a sentence with the remedy.
"""

import contextlib
import errno
import getpass
import grp
import http.client
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import click
import msgspec

from relayd.config import Config
from relayd.control.address import PACKAGED, find_place
from relayd.ctl.common import load
from relayd.errors import ConfigError, RelaydError

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds for an answer; a parent waits two for each of its workers, at the same time."""
_GROUP = "relayd"


class Unreachable(RelaydError):
    """Nobody answers at the control socket; the text is a sentence for the operator."""


class Refused(RelaydError):
    """relayd does not do what was asked; the text says why."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    Args:
        path: of the socket.
        timeout: seconds for each wait; None for none.
    """

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        self._connected = self.sock  # which `http.client` lets go of before the answer is read

    def wait_for_ever(self) -> None:
        """From now on no wait for the answer has an end."""
        self._connected.settimeout(None)


class ControlClient:
    """The control socket of the relayd that a configuration belongs to.

    Args:
        config: the daemon's.

    Raises:
        Unreachable: the configuration turns it off.
    """

    def __init__(self, config: Config) -> None:
        place = find_place(config, os.environ)
        if place is None:
            raise Unreachable('[control] socket is "off", so relayd cannot be asked')
        self.path = place.path
        if not place.chosen and not _is_there(place.path) and _is_there(PACKAGED):
            self.path = PACKAGED

    def get(self, target: str, kind: type[T], /, **query: Any) -> T:
        """The answer of relayd to a query.

        Raises:
            Unreachable: nobody answers.
            Refused: relayd refuses.
            ConfigError: the question is wrong.
        """
        return self._decoded(self._ask("GET", _with_query(target, query)), kind)

    def post(self, target: str, body: Any, kind: type[T]) -> T:
        """The answer of relayd to a command. Raises as `get`."""
        encoded = b"" if body is None else msgspec.json.encode(body)
        return self._decoded(self._ask("POST", target, encoded), kind)

    def stream(self, target: str, /, **query: Any) -> Iterator[dict[str, Any]]:
        """The lines of an answer that has no end of its own. Raises as `get`."""
        with self._request("GET", _with_query(target, query), b"", endless=True) as response:
            while line := response.readline():
                yield self._decoded(line, dict)

    def _ask(self, method: str, target: str, body: bytes = b"") -> bytes:
        with self._request(method, target, body) as response:
            try:
                return bytes(response.read())
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"relayd at {self.path} did not answer: {error}") from error

    @contextlib.contextmanager
    def _request(
        self, method: str, target: str, body: bytes, *, endless: bool = False
    ) -> Iterator[Any]:
        """The response to a request that relayd does not refuse.

        Args:
            method: of HTTP.
            target: path and query.
            body: of the request.
            endless: whether parts of the answer come whenever something happens.
        """
        connection = UnixConnection(str(self.path), PATIENCE)
        with contextlib.closing(connection):
            try:
                connection.request(method, target, body or None)
                response = connection.getresponse()
                content = b"" if response.status == 200 else response.read()
            except TimeoutError as error:
                raise Unreachable(
                    f"relayd at {self.path} does not answer in {PATIENCE:g} s"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(self._why(error)) from error
            if response.status != 200:
                self._refuse(response.status, content)
            if endless:
                connection.wait_for_ever()
            yield response

    def _refuse(self, status: int, content: bytes) -> None:
        try:
            message = msgspec.json.decode(content, type=dict[str, Any])["message"]
        except (msgspec.MsgspecError, KeyError):
            raise Refused(f"{self.path} is no relayd's: it answered {status}") from None
        if status == 400:
            raise ConfigError(message)
        raise Refused(message)

    def _decoded(self, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise Refused(
                f"what relayd at {self.path} answers is not understood ({error}); it may be of "
                "another version than this relayctl"
            ) from error

    def _why(self, error: Exception) -> str:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.EACCES, errno.EPERM):
            return (
                f"{self.path}: permission denied: it is for root and the group "
                f"{_group_of(self.path)}. Use sudo, or have root run 'adduser {_user()} "
                f"{_group_of(self.path)}' and log in anew"
            )
        if number in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            what = "there is no such socket" if number != errno.ECONNREFUSED else "nobody answers"
            return f"{self.path}: {what}; {_who_runs()}"
        return f"{self.path}: {error}"


def reach(context: click.Context) -> ControlClient:
    """The control socket of the relayd that is looked after.

    Of the configuration, only what says where the socket is matters: a running relayd can be
    looked at while its files are wrong, and by people who may not read its secrets.

    Raises:
        ConfigError: it is not known where the socket is.
        Unreachable: the configuration turns it off.
    """
    try:
        config = load(context, only=("control",)).config
    except ConfigError:
        if not _is_there(PACKAGED):
            raise
        config = Config()
    return ControlClient(config)


def _with_query(target: str, query: dict[str, Any]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{target}?{urlencode(given)}" if given else target


def _is_there(path: Path) -> bool:
    """Whether there is a socket, or may be one in a folder that we may not look into."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _group_of(path: Path) -> str:
    """The group that may use a socket, as far as we may see it."""
    try:
        name = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return _GROUP
    return _GROUP if name == "root" else name


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return getpass.getuser()


def _who_runs() -> str:
    """Whether there is a relayd on this machine that has its socket elsewhere."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile, or another user's
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"relayd" in words and any(word.endswith(b"twistd") for word in words):
                    pids.append(int(entry.name))
    if not pids:
        return "no relayd runs on this machine (systemctl status relayd says why)"
    shown = ", ".join(map(str, sorted(pids)[:3]))
    return (
        f"a relayd runs as process {shown}, with another configuration or in another folder: give "
        "relayctl the same --config, [control] socket or working directory"
    )
