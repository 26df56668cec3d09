"""Connects to an address: TCP, TLS with the certificate verified, or a unix socket.

Stands on `connection`; `server` and `sentinel` dial. The only module that uses txredisapi, for its
parser: the queue of commands is in `connection`.
"""

import functools
from typing import Any

from twisted.internet import endpoints
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from relayd.errors import ConfigError, RedisUnavailable
from relayd.redis.connection import Connection
from relayd.redis.replies import describe
from relayd.redis.settings import Settings
from relayd.redis.urls import TCP, Address, Unix
from relayd.tls.verified import Connections, authorities


class Dialer:
    """Connects, each time within the deadline.

    Args:
        reactor: provides IReactorTCP, IReactorUNIX, IReactorTime and name resolution.
        settings: the deadline, the file with the authorities, whether they are asked.

    Raises:
        ConfigError: hiredis is missing, or the file cannot be read or has no certificate.
    """

    def __init__(self, reactor: Any, settings: Settings) -> None:
        _need_hiredis()
        self._reactor = reactor
        self._deadline = settings.deadline
        self._trust = _authorities(settings.ca_file)
        self._verify = settings.verify

    async def connect(self, address: Address, connection: Connection) -> None:
        """Connects `connection` to an address.

        Raises:
            RedisUnavailable: the connection failed or took too long. A bad certificate shows in
                the first command only.
        """
        connecting = self._endpoint(address).connect(_Once(connection))
        connecting.addTimeout(self._deadline, self._reactor, self._late)
        try:
            await connecting
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None
        except Exception as error:
            raise RedisUnavailable(f"{connection.label}: {describe(error)}") from error

    def _late(self, result: Any, _: float) -> Any:
        if isinstance(result, Failure):
            return Failure(TimeoutError(f"no connection in {self._deadline:.1f} s"))
        return result

    def _endpoint(self, address: Address) -> Any:
        if isinstance(address, Unix):
            return endpoints.UNIXClientEndpoint(self._reactor, address.path)
        plain = _plain_endpoint(self._reactor, address)
        if not address.tls:
            return plain
        name = address.tls_name or address.host
        connections = Connections(name, self._trust, verify=self._verify)
        return endpoints.wrapClientTLS(connections, plain)


def _plain_endpoint(reactor: Any, address: TCP) -> Any:
    if isIPAddress(address.host):  # no thread of the resolver for these
        return endpoints.TCP4ClientEndpoint(reactor, address.host, address.port)
    if isIPv6Address(address.host):
        return endpoints.TCP6ClientEndpoint(reactor, address.host, address.port)
    return endpoints.HostnameEndpoint(reactor, address.host, address.port)


def _authorities(path: str) -> Any:
    """The authorities that are trusted. Raises ConfigError."""
    try:
        return authorities(path)
    except OSError as error:
        raise ConfigError(f"the file of Redis' authorities, {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"the file of Redis' authorities, {path}, is not PEM") from error


def _need_hiredis() -> None:
    try:
        import hiredis  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "Redis needs the Python package hiredis, which is not installed: pip install hiredis"
        ) from error


class _Once(Factory):
    """Gives one connection its protocol."""

    noisy = False  # its start and stop would be logged for each attempt

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> Any:
        return _protocol_class()(self._connection)


@functools.cache
def _protocol_class() -> Any:
    import hiredis
    import txredisapi  # here, because it installs the reactor

    class Replies(txredisapi.HiredisProtocol):
        """Bytes in, whole replies out."""

        def __init__(self, connection: Connection) -> None:
            super().__init__(charset=None, convertNumbers=False)
            self._connection = connection
            self._parser = hiredis.Reader(
                protocolError=txredisapi.InvalidData, replyError=txredisapi.ResponseError
            )

        def connectionMade(self) -> None:
            super().connectionMade()
            if not isinstance(self.transport.getPeer(), UNIXAddress):
                self.transport.setTcpNoDelay(True)  # else a command waits for the last reply
            self._connection.made(self.transport)

        def dataReceived(self, data: bytes, unpause: bool = False) -> None:
            # as in the base class, without its conversions, which take four fifths of the time
            self._connection.alive = True
            received, parser = self._connection.received, self._parser
            try:
                parser.feed(data)
                while (reply := parser.gets()) is not False:
                    received(reply)
            except txredisapi.InvalidData:
                self._connection.abort("it does not speak Redis' protocol")

        def connectionLost(self, why: Failure) -> None:
            super().connectionLost(why)
            self._connection.lost(why)

    return Replies
