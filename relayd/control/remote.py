"""The operations of a parent of workers, requested by one of its workers over the control socket.

Under `assembly`, on `socket_client`: the console of a worker shows all workers, which the parent
alone knows. `site` answers these requests, as it answers those of `relayctl`.
"""

from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from relayd.access.denials import Denial
from relayd.control.address import Place
from relayd.control.live import View
from relayd.control.messages import (
    Client,
    Denied,
    Done,
    Drain,
    Kick,
    Listing,
    Pair,
    Publish,
    Room,
    Selection,
)
from relayd.control.socket_client import NoAnswer, SocketClient
from relayd.errors import ErrorCode, Refusal
from relayd.web.answers import Stream

TIMEOUT = 5.0
"""Seconds within which the parent has to answer: it asks its workers first."""

T = TypeVar("T")


class ConsoleOperations(Protocol):
    """The operations that a console needs; `site.Operations` has all of them."""

    async def live(self, since: float) -> View: ...
    async def clients(self, selection: Selection) -> Listing[Client]: ...
    async def rooms(self) -> Listing[Room]: ...
    async def pairs(self) -> Listing[Pair]: ...
    async def trace(self, id: str) -> Stream: ...
    async def kick(self, kick: Kick) -> Done: ...
    async def deny(self, denial: Denial) -> Denied: ...
    async def drain(self, drain: Drain) -> Done: ...
    async def undrain(self) -> Done: ...
    async def publish(self, publish: Publish) -> dict[str, Any]: ...


class ParentOperations:
    """The operations of the parent (`ConsoleOperations`). Each raises Refusal: 503 without answer.

    Args:
        reactor: for the requests.
        place: of the parent's control socket; None if it is turned off.
    """

    def __init__(self, reactor: Any, place: Place | None) -> None:
        self._client = None if place is None else SocketClient(reactor, place.path, TIMEOUT)

    async def live(self, since: float) -> View:
        """The figures of all workers after a time."""
        return await self._get(f"/live?{urlencode({'since': since})}", View)

    async def clients(self, selection: Selection) -> Listing[Client]:
        """The connections of all workers that match the selection."""
        query = urlencode(msgspec.to_builtins(selection))
        return await self._get(f"/clients?{query}", Listing[Client])

    async def rooms(self) -> Listing[Room]:
        """The groups of all workers."""
        return await self._get("/rooms", Listing[Room])

    async def pairs(self) -> Listing[Pair]:
        """The pairs of all workers."""
        return await self._get("/pairs", Listing[Pair])

    async def trace(self, id: str) -> Stream:
        """Streams the frames of a connection of any worker."""
        try:
            return await self._reach().stream(f"/trace?{urlencode({'id': id})}")
        except NoAnswer as error:
            raise _unanswered() from error

    async def kick(self, kick: Kick) -> Done:
        """Begins to close connections of any worker."""
        return await self._post("/kick", kick, Done)

    async def deny(self, denial: Denial) -> Denied:
        """Adds a denial in all workers."""
        return await self._post("/denials", denial, Denied)

    async def drain(self, drain: Drain) -> Done:
        """Drains all workers."""
        return await self._post("/drain", drain, Done)

    async def undrain(self) -> Done:
        """Makes all workers admit clients again."""
        return await self._post("/undrain", None, Done)

    async def publish(self, publish: Publish) -> dict[str, Any]:
        """Publishes through any worker."""
        return await self._post("/publish", publish, dict[str, Any])

    async def _get(self, target: str, kind: type[T]) -> T:
        return msgspec.json.decode(await self._request("GET", target, b""), type=kind)

    async def _post(self, target: str, message: Any, kind: type[T]) -> T:
        body = b"" if message is None else msgspec.json.encode(message)
        return msgspec.json.decode(await self._request("POST", target, body), type=kind)

    async def _request(self, method: str, target: str, body: bytes) -> bytes:
        try:
            return await self._reach().request(method, target, body)
        except NoAnswer as error:
            raise _unanswered() from error

    def _reach(self) -> SocketClient:
        if self._client is None:
            raise Refusal(
                ErrorCode.INTERNAL,
                "The console of workers needs the control socket, which [control] socket has "
                "turned off.",
                status=503,
            )
        return self._client


def _unanswered() -> Refusal:
    return Refusal(
        ErrorCode.TIMEOUT,
        "The parent of the workers did not answer in time; the log says whether it has a control "
        "socket.",
        status=503,
    )
