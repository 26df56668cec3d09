"""The listening ports of a process, without a network; the rest is seen with a spawned relayd."""

from typing import cast

from twisted.internet.interfaces import IListeningPort

from relayd.edge.ports import Ports


class ClosedPort:
    """Has no address any more, as a port of Twisted that the reactor has closed."""

    connected = False

    def getHost(self) -> object:
        raise AttributeError("socket")


def test_a_port_closed_by_the_reactor_is_not_reported_as_listening() -> None:
    """A worker whose parent has shut down their socket still reports to the cluster."""
    ports = Ports(None, (), lambda _: None)
    ports._ports = cast(list[IListeningPort], [ClosedPort()])
    assert ports.places() == []
