"""The parts that all connections of this process share.

Beside `handshake` and `websocket`; `assembly` makes the one there is.
"""

import msgspec
from twisted.internet.interfaces import IReactorTime

from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.connection.keepalive import Keepalive
from relayd.connection.registry import Connections
from relayd.drops import Drops
from relayd.tally import Tally


class Context(msgspec.Struct):
    """The parts that all connections share."""

    current: Current
    clock: IReactorTime
    admission: Admission
    connections: Connections
    keepalive: Keepalive
    drops: Drops
    tally: Tally = msgspec.field(default_factory=Tally)
