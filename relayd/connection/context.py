"""The parts that all connections of this process share.

Beside `handshake` and `websocket`; `assembly` builds the one of a process.
"""

import msgspec
from twisted.internet.interfaces import IReactorTime

from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.connection.keepalive import Keepalive
from relayd.connection.registry import Connections
from relayd.drops import Drops
from relayd.edge.seats import Seats
from relayd.quotas.names import NamesInUse
from relayd.tally import Tally


class Context(msgspec.Struct):
    """The parts that all connections share.

    Attributes:
        current: holds the configuration.
        clock: for all timers of connections.
        admission: the rules of every path.
        connections: the open connections.
        keepalive: the sweep over them.
        drops: counts frames that clients did not get.
        seats: of all TCP connections.
        names: of the groups, rooms, topics and pairs in use.
        tally: counts refusals and close codes.
    """

    current: Current
    clock: IReactorTime
    admission: Admission
    connections: Connections
    keepalive: Keepalive
    drops: Drops
    seats: Seats
    names: NamesInUse
    tally: Tally = msgspec.field(default_factory=Tally)
