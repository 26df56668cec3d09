"""Facts that several checks need: configuration, options, Redis' answers; each read once.

Sits under the checks of `doctor`. Facts that need a connection are read at their first use.
"""

import functools
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from relayd.config import Loaded
from relayd.control.messages import Status
from relayd.ctl.bench import procfs as process
from relayd.ctl.bench.target import Target, listening_url, parse_target
from relayd.ctl.control_client import ControlClient, Refused, Unreachable
from relayd.ctl.doctor import nginx_config, redis_facts
from relayd.errors import ConfigError
from relayd.tls import contexts


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the operator.

    Attributes:
        url: the public URL of relayd, or "".
        nginx_config: a file with nginx's configuration or the output of `nginx -T`, or "".
        token: for the handshake through the public URL, or "".
        ca: a file with the authorities that are trusted for the public certificate; "" for the
            system's.
        hold: seconds for which the WebSocket through the public URL stays idle.
        days: the check warns of certificates that expire within so many days, 7 being a fault.
    """

    url: str = ""
    nginx_config: str = ""
    token: str = ""
    ca: str = ""
    hold: float = 0.0
    days: float = 30.0


class Facts:
    """The facts for the checks.

    Args:
        loaded: the daemon's configuration.
        options: of the command.
    """

    def __init__(self, loaded: Loaded, options: Options) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.options = options

    @functools.cached_property
    def status(self) -> Status | None:
        """What the running relayd reports of itself; None if it cannot be reached."""
        try:
            return ControlClient(self.config).get("/status", Status)
        except (Unreachable, Refused):
            return None

    @functools.cached_property
    def listen(self) -> tuple[str, ...]:
        """The Twisted endpoints on which relayd listens: as it reports itself, if it runs.

        An option or a socket unit may have replaced `[server] listen`.
        """
        processes = self.status.processes if self.status is not None else []
        found = dict.fromkeys(each for process in processes for each in process.endpoints)
        return tuple(found) or self.config.endpoints

    @functools.cached_property
    def nginx(self) -> nginx_config.Nginx | None:
        """Nginx's configuration; None without nginx.

        Raises:
            nginx_config.Unreadable: the configuration cannot be read.
        """
        return nginx_config.read(self.options.nginx_config)

    @functools.cached_property
    def way(self) -> nginx_config.Way | None:
        """The way of a handshake through nginx to relayd; None if nginx does not forward it."""
        return None if self.nginx is None else self.nginx.find_way(self.listen)

    @functools.cached_property
    def redis(self) -> redis_facts.RedisFacts:
        """The answers of the Redis servers about themselves."""
        return redis_facts.query(self.config)

    @functools.cached_property
    def targets(self) -> dict[str, Target]:
        """The addresses that relayd listens on, as clients on this machine name them."""
        found = {}
        for description in self.listen:
            try:
                found[description] = parse_target(listening_url(description))
            except ConfigError:
                continue
        return found

    @functools.cached_property
    def pids(self) -> list[int]:
        """The processes that listen on these addresses, as far as this user may see them."""
        return sorted({pid for target in self.targets.values() for pid in process.find(target)})

    @property
    def processes(self) -> int:
        """The number of processes that serve clients on this machine."""
        workers = self.config.server.workers
        return len(os.sched_getaffinity(0)) if workers == "auto" else workers

    def trust(self) -> ssl.SSLContext:
        """The authorities that are trusted for the public certificate. Raises OSError."""
        return contexts.verifying(self.options.ca)


def read_number(path: str) -> int | None:
    """A number from a file of the kernel; None without the file."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None
