"""The client end of a control socket, for the operator: plain sockets, no reactor.

Sits under the commands for a running relayd. The path of the socket follows the same rule as in the
daemon (`relayd.control.address`); each error is a sentence with the remedy.
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
from relayd.ctl import service
from relayd.ctl.common import load
from relayd.errors import ConfigError, RelaydError

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds within which relayd has to answer; a parent waits two for all of its workers."""
_GROUP = "relayd"


class Unreachable(RelaydError):
    """No relayd answers at the control socket; the text is a sentence for the operator."""


class Refused(RelaydError):
    """relayd refuses the request; the text says why."""


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
        self._connected = self.sock  # `http.client` drops its own reference before the answer

    def wait_for_ever(self) -> None:
        """Removes the timeout."""
        self._connected.settimeout(None)


class ControlClient:
    """Sends requests to the control socket of the relayd with this configuration.

    Args:
        config: the daemon's.

    Raises:
        Unreachable: the configuration turns the socket off.
    """

    def __init__(self, config: Config) -> None:
        place = find_place(config, os.environ)
        if place is None:
            raise Unreachable('[control] socket is "off", so relayctl cannot reach relayd')
        self.path = place.path
        # the packaged service is meant only where nothing names another one
        unnamed = not place.chosen and "RUNTIME_DIRECTORY" not in os.environ
        if unnamed and not _is_there(place.path) and _is_there(PACKAGED):
            self.path = PACKAGED

    def get(self, target: str, kind: type[T], /, **query: Any) -> T:
        """The answer of relayd to a query.

        Raises:
            Unreachable: no relayd answers.
            Refused: relayd refuses.
            ConfigError: an argument is wrong.
        """
        return self._decoded(self._read("GET", _with_query(target, query)), kind)

    def post(self, target: str, body: Any, kind: type[T]) -> T:
        """The answer of relayd to a command. Raises as `get`."""
        encoded = b"" if body is None else msgspec.json.encode(body)
        return self._decoded(self._read("POST", target, encoded), kind)

    def stream(self, target: str, /, **query: Any) -> Iterator[dict[str, Any]]:
        """The lines of an endless answer. Raises as `get`."""
        with self._request("GET", _with_query(target, query), b"", endless=True) as response:
            while line := response.readline():
                yield self._decoded(line, dict)

    def _read(self, method: str, target: str, body: bytes = b"") -> bytes:
        with self._request(method, target, body) as response:
            try:
                return bytes(response.read())
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"relayd at {self.path} did not answer: {error}") from error

    @contextlib.contextmanager
    def _request(
        self, method: str, target: str, body: bytes, *, endless: bool = False
    ) -> Iterator[Any]:
        """The response to a request, which relayd did not refuse.

        Args:
            method: of HTTP.
            target: path and query.
            body: of the request.
            endless: whether the answer is a stream, which is read without a timeout.
        """
        connection = UnixConnection(str(self.path), TIMEOUT)
        with contextlib.closing(connection):
            try:
                connection.request(method, target, body or None)
                response = connection.getresponse()
                content = b"" if response.status == 200 else response.read()
            except TimeoutError as error:
                raise Unreachable(
                    f"relayd at {self.path} does not answer in {TIMEOUT:g} s"
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
            raise Refused(f"{self.path} is no socket of relayd: it answered {status}") from None
        if status == 400:
            raise ConfigError(message)
        raise Refused(message)

    def _decoded(self, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise Refused(
                f"the answer of relayd at {self.path} cannot be decoded ({error}); it may be of "
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
            what = "no such socket" if number != errno.ECONNREFUSED else "no process answers"
            return f"{self.path}: {what}; {_find_daemons()}"
        return f"{self.path}: {error}"


def reach(context: click.Context) -> ControlClient:
    """A client of the running relayd.

    Only the section `[control]` is read: a running relayd can be queried while other settings are
    wrong, and by users who may not read its secrets.

    Raises:
        ConfigError: the section is wrong, and there is no socket where it is by default.
        Unreachable: the configuration turns the socket off.
    """
    try:
        return ControlClient(load(context, only=("control",)).config)
    except ConfigError:
        client = ControlClient(Config())
        if not _is_there(client.path):
            raise
        return client


def _with_query(target: str, query: dict[str, Any]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{target}?{urlencode(given)}" if given else target


def _is_there(path: Path) -> bool:
    """Whether the socket exists, or may exist in a folder that this user may not read."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _group_of(path: Path) -> str:
    """The group that may use a socket; the package's group if this user may not see it."""
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


def _find_daemons() -> str:
    """A hint: whether a relayd with another socket runs on this machine."""
    unit = service.unit(os.environ)
    if "@" in unit:  # others run beside it
        return f"systemctl status {unit} says whether it runs"
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
        f"a relayd runs as process {shown}, with another configuration or in another folder: run "
        "relayctl with the same --config, [control] socket or working directory"
    )
