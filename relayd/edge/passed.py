"""The sockets that systemd passes, in place of the endpoints of the configuration.

Beside `ports`, which listens on them; `assembly` asks for both.
"""

from typing import Any

import msgspec

from relayd.config import Config
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
