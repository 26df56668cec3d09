"""Has another protocol take over a connection. Under `frontdoor`."""

from typing import Any


def replace_protocol(transport: Any, old: Any, new: Any) -> None:
    """Makes `new` the protocol of a transport in place of `old`, and connects it.

    Args:
        transport: that of `old`.
        old: its protocol; behind an unknown wrapper, it stays in between.
        new: the other one, not connected yet.
    """
    if getattr(transport, "protocol", None) is old:
        transport.protocol = new
    elif getattr(transport, "wrappedProtocol", None) is old:
        transport.wrappedProtocol = new
    else:
        old.dataReceived, old.connectionLost = new.dataReceived, new.connectionLost
    new.makeConnection(transport)
