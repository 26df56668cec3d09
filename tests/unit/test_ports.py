"""The listening ports of a process, without a network; the rest is seen with a spawned relayd."""

import contextlib
from typing import Any, cast

import pytest
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from relayd.edge.ports import BACKLOG, Ports
from relayd.tls.served import Certificates


class ClosedPort:
    """Has no address any more, as a port of Twisted that the reactor has closed."""

    connected = False

    def getHost(self) -> object:
        raise AttributeError("socket")


def test_a_port_closed_by_the_reactor_is_not_reported_as_listening() -> None:
    """A worker whose parent has shut down their socket still reports to the cluster."""
    ports = Ports(None, (), lambda _: None, Certificates(Clock()))
    ports._ports = cast(list[IListeningPort], [ClosedPort()])
    assert ports.places() == []


class Listener:
    """Notes the backlog with which it is to listen, and fails."""

    backlog = 0

    def listenTCP(self, *_: object, backlog: int, **__: object) -> Any:
        self.backlog = backlog
        raise NotImplementedError

    listenUNIX = listenTCP


@pytest.mark.parametrize(
    ("description", "backlog"),
    [
        ("tcp:8080", BACKLOG),
        ("tcp:8080:interface=127.0.0.1", BACKLOG),
        (r"tcp6:8080:interface=\:\:1", BACKLOG),
        ("unix:/run/relayd.sock:mode=660", BACKLOG),
        ("haproxy:tcp:8080", BACKLOG),
        ("tcp:8080:backlog=9", 9),
        ("tcp:8080:127.0.0.1:9", 9),
        ("unix:/run/relayd.sock:660:9", 9),
        ("unix:/run/relayd.sock:backlog=9:mode=660", 9),
        ("haproxy:tcp:8080:backlog=9", 9),
    ],
)
def test_a_port_has_the_longest_backlog_unless_its_description_names_one(
    description: str, backlog: int
) -> None:
    listener = Listener()
    with contextlib.suppress(SystemExit, NotImplementedError):
        Ports(listener, [description], lambda _: None, Certificates(Clock())).open(Factory())
    assert listener.backlog == backlog


@pytest.mark.parametrize("description", ["tcp:8080:nonsense=1", "nowhere:8080"])
def test_a_wrong_description_fails_as_it_does_in_twisted(description: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"nonsense|nowhere"):
        Ports(None, [description], lambda _: None, Certificates(Clock())).open(Factory())
