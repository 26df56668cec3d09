"""The client end of a control socket, for a parent and its workers: one request, with a timeout.

Sits under `parent` and `worker_metrics`, on the HTTP client of Twisted. (`relayctl` has no reactor;
its client is `ctl.control_client`.)
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    ResponseNeverReceived,
    readBody,
)
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from relayd.errors import ErrorCode, Refusal, RelaydError
from relayd.web.answers import Sink, Stream

TIMEOUT = 2.0
"""Seconds within which a process has to answer."""


class NoAnswer(RelaydError):
    """A process did not answer in time; it may have executed the request."""


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Endpoint:
    """Connects to one socket, for any URI."""

    def __init__(self, reactor: Any, path: Path) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, str(path), timeout=TIMEOUT)

    def endpointForURI(self, uri: object) -> "_Endpoint":  # noqa: N802
        return self

    def connect(self, protocolFactory: Any) -> "Deferred[IProtocol]":
        # a noisy factory would log two lines for each request
        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)


class SocketClient:
    """Sends requests to one process.

    Args:
        reactor: connects, and times out.
        path: of its control socket.
        timeout: seconds within which it has to answer.
    """

    def __init__(self, reactor: Any, path: Path, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._timeout = timeout
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoint(reactor, path), pool)

    async def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """Sends a request and returns the body of the answer.

        Args:
            method: of HTTP.
            target: path and query.
            body: of the request.

        Raises:
            NoAnswer: the process does not answer in time.
            Refusal: the process refuses; the message says why.
        """
        return await self._bounded(self._read(method, target, body))

    async def stream(self, target: str) -> Stream:
        """Forwards the lines of an endless answer. Raises as `request`."""
        response = await self._bounded(self._respond("GET", target, b""))

        def open_(sink: Sink) -> Callable[[], None]:
            lines = _Lines(sink)
            response.deliverBody(lines)
            return lines.close

        return Stream(open_)

    async def _bounded(self, work: Any) -> Any:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(self._timeout, self._reactor)
        except (TimeoutError, ConnectError, ResponseNeverReceived, CancelledError) as error:
            raise NoAnswer("it does not answer") from error

    async def _respond(self, method: str, target: str, body: bytes) -> Any:
        """Returns the response, whose body is not read yet. Raises Refusal."""
        # the socket alone determines the peer, so the name does not matter
        uri = b"http://localhost" + target.encode()
        response: Any = await self._agent.request(
            method.encode(), uri, bodyProducer=FileBodyProducer(BytesIO(body)) if body else None
        )
        if response.code != 200:
            raise _refusal(response.code, await readBody(response))
        return response

    async def _read(self, method: str, target: str, body: bytes) -> bytes:
        return bytes(await readBody(await self._respond(method, target, body)))


class _Lines(Protocol):
    """The body of an answer without end."""

    transport: Any

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rest = b""
        self._over = False

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._sink.write(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._over:
            self._over = True
            self._sink.end()

    def close(self) -> None:
        """Drops the connection after the reader of the lines has disconnected."""
        if not self._over:
            self._over = True
            self.transport.loseConnection()


def _refusal(status: int, body: bytes) -> Refusal:
    try:
        error = msgspec.json.decode(body, type=dict[str, str])
        return Refusal(ErrorCode(error["error"]), error["message"], status=status)
    except (msgspec.MsgspecError, KeyError, ValueError):
        return Refusal(ErrorCode.INTERNAL, f"A worker answered {status}.", status=502)
