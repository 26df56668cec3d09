"""The asking end of a control socket, for a parent: one of its workers is asked, within a bound.

Sits under `parent`, on the HTTP client of Twisted. (`relayctl` has no reactor and asks by itself.)
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

PATIENCE = 2.0
"""Seconds that a process may take for an answer."""


class NoAnswer(RelaydError):
    """A process does not answer, or not in time; what was asked for may be done all the same."""


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Endpoint:
    """Wherever a URI points, the connection goes to one socket."""

    def __init__(self, reactor: Any, path: Path) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, str(path), timeout=PATIENCE)

    def endpointForURI(self, uri: object) -> "_Endpoint":  # noqa: N802
        return self

    def connect(self, protocolFactory: Any) -> "Deferred[IProtocol]":
        # its start and stop would be two lines in the log for each question
        protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)


class Asker:
    """Asks one process.

    Args:
        reactor: connects, and bounds the time.
        path: of its control socket.
        patience: seconds that it may take for an answer.
    """

    def __init__(self, reactor: Any, path: Path, patience: float = PATIENCE) -> None:
        self._reactor = reactor
        self._patience = patience
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoint(reactor, path), pool)

    async def ask(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The body of the answer.

        Raises:
            NoAnswer: it does not answer in time.
            Refusal: it refuses, and why.
        """
        return await self._bounded(self._ask(method, target, body))

    async def stream(self, target: str) -> Stream:
        """The lines of an answer without end, passed on. Raises as `ask`."""
        response = await self._bounded(self._request("GET", target, b""))

        def open_(sink: Sink) -> Callable[[], None]:
            lines = _Lines(sink)
            response.deliverBody(lines)
            return lines.close

        return Stream(open_)

    async def _bounded(self, asking: Any) -> Any:
        try:
            return await Deferred.fromCoroutine(asking).addTimeout(self._patience, self._reactor)
        except (TimeoutError, ConnectError, ResponseNeverReceived, CancelledError) as error:
            raise NoAnswer("it does not answer") from error

    async def _request(self, method: str, target: str, body: bytes) -> Any:
        """The response, whose body is still to be read. Raises Refusal."""
        # whoever is at the socket is meant, by whatever name
        uri = b"http://localhost" + target.encode()
        response: Any = await self._agent.request(
            method.encode(), uri, bodyProducer=FileBodyProducer(BytesIO(body)) if body else None
        )
        if response.code != 200:
            raise _refusal(response.code, await readBody(response))
        return response

    async def _ask(self, method: str, target: str, body: bytes) -> bytes:
        return bytes(await readBody(await self._request(method, target, body)))


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
        """The one who reads the lines has gone."""
        if not self._over:
            self._over = True
            self.transport.loseConnection()


def _refusal(status: int, body: bytes) -> Refusal:
    try:
        error = msgspec.json.decode(body, type=dict[str, str])
        return Refusal(ErrorCode(error["error"]), error["message"], status=status)
    except (msgspec.MsgspecError, KeyError, ValueError):
        return Refusal(ErrorCode.INTERNAL, f"A worker answered {status}.", status=502)
