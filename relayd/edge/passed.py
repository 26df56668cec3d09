"""The sockets that systemd passes, in place of the endpoints of the configuration.

Beside `ports`, which listens on them; `assembly` asks for both.
"""

import re
from typing import Any

import msgspec

from relayd.config import Config, Loaded
from relayd.config.reload import Change, When
from relayd.config.settings import in_toml
from relayd.edge.ports import Inherited
from relayd.errors import ConfigError
from relayd.systemd import Systemd


def with_sockets(config: Config, systemd: Systemd) -> Config:
    """The configuration with the sockets from systemd, if any, in place of `listen`.

    Raises:
        ConfigError: a socket is for TLS, and there is no certificate.
    """
    server, tls = config.server, config.tls
    if systemd.sockets:
        server = msgspec.structs.replace(server, listen=systemd.endpoints())
    if systemd.tls_sockets:
        if not tls.certificate:
            raise ConfigError("systemd passed a socket for TLS: set [tls] certificate")
        tls = msgspec.structs.replace(tls, listen=systemd.tls_endpoints())
    return msgspec.structs.replace(config, server=server, tls=tls)


def listener_of(reactor: Any, systemd: Systemd, config: Config) -> Any:
    """Where the endpoints listen: on the sockets from systemd, those without one on the reactor."""
    if not systemd.sockets and not systemd.tls_sockets:
        return reactor
    rest = len(config.endpoints) - len(config.server.listen)
    return Inherited(
        reactor,
        [
            *(systemd.sockets or [None] * len(config.server.listen)),
            *(systemd.tls_sockets or [None] * rest),
        ],
    )


def replaced(systemd: Systemd, loaded: Loaded) -> list[Change]:
    """The lists of endpoints in the files that are not those of systemd's sockets, if any.

    The default of a file that names none, or names the default, is no wish of anybody.
    """
    found = []
    for section, passed in (("server", systemd.endpoints()), ("tls", systemd.tls_endpoints())):
        named = [one for one in loaded.found if (one.section, one.key) == (section, "listen")]
        wanted = tuple(named[-1].convert()) if named else ()
        default = getattr(Config(), section).listen
        if passed and wanted and wanted != default and _places(wanted) != _places(passed):
            old, new = (in_toml(section, "listen", each) for each in (passed, wanted))
            found.append(Change(section, "listen", old, new, When.RESTART))
    return found


def _places(endpoints: tuple[str, ...]) -> set[str]:
    """The addresses of endpoints, without what does not change where they are."""
    places = (re.sub(r":(backlog|mode|wantPID)=[^:]*", "", each) for each in endpoints)
    return {re.sub(r":interface=(0\.0\.0\.0)?$", "", each) for each in places}
