"""Whether the peer of a connection lives, as its TCP shows it, where it sends no bytes by itself.

Under `connection.events`, whose clients only read.
"""

import socket
import struct
from typing import Any

from relayd.sockets.poller import PolledTransport

_LAST_ACK = 56
"""Where `struct tcp_info` (tcp(7)) has the milliseconds since the last ACK came."""
_COARSE = 0.1
"""Seconds by which the kernel's clock of ticks, and that of a caller, may differ."""


def has_acknowledged(transport: Any, seconds: float) -> bool:
    """Whether the peer has acknowledged any bytes within the last seconds.

    Args:
        transport: of the connection, or a layer on it, such as TLS.
        seconds: the time.

    Returns:
        True also where nobody knows, as on a unix socket: that ends with its peer.
    """
    while not isinstance(transport, PolledTransport):
        transport = getattr(transport, "transport", None)
        if transport is None:
            return True
    sock: socket.socket = transport.getHandle()  # type: ignore[attr-defined]
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_ACK + 4)
    except OSError:
        return False
    if len(found) < _LAST_ACK + 4:
        return True
    return bool(struct.unpack_from("I", found, _LAST_ACK)[0] <= (seconds + _COARSE) * 1000)
