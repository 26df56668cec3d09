"""A WebSocket client that sends one pose and waits for it. Sits under `public`.

Stands on Autobahn, as the daemon does, but under asyncio: Twisted's reactor runs once in a process,
and the checks of Redis have it. `public` imports this module only when there is a URL to try.
"""

import asyncio
import contextlib
import re
import ssl
from urllib.parse import urlsplit

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.types import ConnectingRequest

_POSE = b'{"x":1,"y":2,"z":3}'
_REST = 1.0  # seconds for the body of an answer that refuses
_LONGEST_ANSWER = 64 * 1024


class Answered(Exception):
    """The handshake was answered with something else than 101.

    Attributes:
        status: the HTTP status; 0 if what came is no HTTP/1.1.
        server: the header `Server`, or "".
        body: as far as it came.
    """

    def __init__(self, answer: bytes) -> None:
        head, _, self.body = answer.partition(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        self.status = int(line[1]) if line else 0
        self.server = _header(head, b"server").decode(errors="replace")
        super().__init__(self.status)


class Ended(Exception):
    """The connection ended early.

    Attributes:
        code: the close code (RFC 6455 section 7.1.5).
        when: at which point, in words.
    """

    def __init__(self, code: int, when: str = "before its pose came back") -> None:
        super().__init__(code)
        self.code = code
        self.when = when


async def visit(
    url: str, trust: ssl.SSLContext | None, token: str, *, hold: float, patience: float
) -> None:
    """Opens a WebSocket, sends a pose, gets it back, and closes.

    Args:
        url: `ws://` or `wss://`, with a path of a camera group.
        trust: for `wss://`, whom the certificate may come from; None for `ws://`.
        token: shown in the handshake, or "".
        hold: seconds of silence after the first pose, before a second one; 0 for none.
        patience: seconds for the handshake, and for each pose.

    Raises:
        Answered: the handshake was refused.
        Ended: the connection ended early.
        TimeoutError: the patience was over.
        ssl.SSLError: there is no TLS connection.
        OSError: there is no connection.
    """
    parts = urlsplit(url)
    factory = WebSocketClientFactory(url, headers=_headers(token), useragent="relayctl doctor")
    factory.protocol = _Visitor
    factory.setProtocolOptions(openHandshakeTimeout=0)  # `patience` bounds it
    if trust is not None:
        trust.set_alpn_protocols(["http/1.1"])
    async with asyncio.timeout(patience):
        transport, visitor = await asyncio.get_running_loop().create_connection(
            factory, parts.hostname or "", parts.port or (80 if trust is None else 443), ssl=trust
        )
        try:
            await visitor.opened
        except BaseException:
            transport.abort()
            raise
    try:
        await visitor.send_a_pose(patience)
        if hold:
            await visitor.be_silent(hold)
            await visitor.send_a_pose(patience)
        visitor.sendClose(visitor.CLOSE_STATUS_CODE_NORMAL)
    finally:
        transport.close()


class _Visitor(WebSocketClientProtocol):
    """One connection.

    Attributes:
        opened: fires when the handshake is done; fails with `Answered`.
    """

    factory: WebSocketClientFactory

    def __init__(self) -> None:
        super().__init__()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._came: asyncio.Queue[Ended | None] = asyncio.Queue()
        self._answer = b""
        self._refused = False

    async def send_a_pose(self, patience: float) -> None:
        """Returns when it came back. Raises Ended, TimeoutError."""
        self.sendMessage(_POSE)
        async with asyncio.timeout(patience):
            ended = await self._came.get()
        if ended is not None:
            raise ended

    async def be_silent(self, seconds: float) -> None:
        """Says and hears nothing. Raises Ended."""
        with contextlib.suppress(TimeoutError):
            ended = await asyncio.wait_for(self._came.get(), seconds)
            if ended is not None:
                raise Ended(ended.code, f"while it was silent for {seconds:g} s")

    # -- what asyncio and Autobahn call

    def onConnecting(self, transport_details: TransportDetails) -> ConnectingRequest:
        """Autobahn would leave out the brackets of an IPv6 address."""
        factory = self.factory
        host = f"[{factory.host}]" if ":" in factory.host else factory.host
        return ConnectingRequest(
            host, factory.port, factory.resource, factory.headers, factory.useragent
        )

    def data_received(self, data: bytes) -> None:
        """Keeps the answer to the handshake; all of it, if it refuses."""
        if not self.opened.done():
            self._answer += data[: _LONGEST_ANSWER - len(self._answer)]
        if not self._refused:
            super().data_received(data)
        elif _is_whole(self._answer):
            self._end_answer()

    def failHandshake(self, reason: str) -> None:
        """Waits for the body instead of dropping the connection: it says why."""
        self._refused = True
        if _is_whole(self._answer):
            self._end_answer()
        else:
            self.factory.loop.call_later(_REST, self._end_answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_answer()
        super().connection_lost(exc)

    def onOpen(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if payload == _POSE:
            self._came.put_nowait(None)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._came.put_nowait(Ended(code or 1005))

    def _end_answer(self) -> None:
        if not self.opened.done():
            self.opened.set_exception(Answered(self._answer))


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^%b:[ \t]*([^\r\n]+)" % name, head)
    return found[1] if found else b""


def _is_whole(answer: bytes) -> bool:
    """Whether a body came whose length was named."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _header(head, b"content-length").strip()
    return length.isdigit() and len(body) >= int(length)
