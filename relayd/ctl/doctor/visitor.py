"""A WebSocket client that sends one pose and waits for it. Sits under `public`.

Stands on Autobahn, as the daemon does, but under asyncio: Twisted's reactor runs once in a process,
and the checks of Redis have it. Autobahn takes one of the two for the whole process when it is
imported, so it is imported when a visit begins, which only a process of relayctl makes.
"""

import asyncio
import contextlib
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from autobahn.asyncio.websocket import WebSocketClientFactory
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
    if trust is not None:
        trust.set_alpn_protocols(["http/1.1"])
    visit = _Visit()
    factory = _client_factory(visit, url, token)
    async with asyncio.timeout(patience):
        transport, client = await asyncio.get_running_loop().create_connection(
            factory, parts.hostname or "", parts.port or (80 if trust is None else 443), ssl=trust
        )
        try:
            await visit.opened
        except BaseException:
            transport.abort()
            raise

    async def send_a_pose() -> None:
        client.sendMessage(_POSE)
        async with asyncio.timeout(patience):
            ended = await visit.news.get()
        if ended is not None:
            raise ended

    try:
        await send_a_pose()
        if hold:
            with contextlib.suppress(TimeoutError):
                ended = await asyncio.wait_for(visit.news.get(), hold)
                if ended is not None:
                    raise Ended(ended.code, f"while it was silent for {hold:g} s")
            await send_a_pose()
        client.sendClose(client.CLOSE_STATUS_CODE_NORMAL)
    finally:
        transport.close()


class _Visit:
    """The result of one connection.

    Attributes:
        opened: fires when the handshake is done; fails with `Answered`.
        news: None for each pose that came back, and at last the end.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.news: asyncio.Queue[Ended | None] = asyncio.Queue()
        self._answer = b""
        self._refused = False

    def take(self, data: bytes) -> bool:
        """Keeps the answer to the handshake. Returns whether Autobahn needs the bytes."""
        if not self.opened.done():
            self._answer += data[: _LONGEST_ANSWER - len(self._answer)]
        if self._refused and _is_whole(self._answer):
            self.end_answer()
        return not self._refused

    def refuse(self) -> None:
        """The answer refuses; its body is waited for, because it says why."""
        self._refused = True
        if _is_whole(self._answer):
            self.end_answer()
        else:
            self._loop.call_later(_REST, self.end_answer)

    def end_answer(self) -> None:
        """No more of the answer comes. No effect after the handshake."""
        if not self.opened.done():
            self.opened.set_exception(Answered(self._answer))


def _client_factory(visit: _Visit, url: str, token: str) -> "WebSocketClientFactory":
    """Makes the client of a visit."""
    from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
    from autobahn.websocket.types import ConnectingRequest

    class Client(WebSocketClientProtocol):
        def onConnecting(self, transport_details: "TransportDetails") -> "ConnectingRequest":
            # Autobahn would leave out the brackets of an IPv6 address
            host = f"[{factory.host}]" if ":" in factory.host else factory.host
            return ConnectingRequest(
                host, factory.port, factory.resource, factory.headers, factory.useragent
            )

        def data_received(self, data: bytes) -> None:
            if visit.take(data):
                super().data_received(data)

        def failHandshake(self, reason: str) -> None:
            visit.refuse()

        def connection_lost(self, exc: Exception | None) -> None:
            visit.end_answer()
            super().connection_lost(exc)

        def onOpen(self) -> None:
            visit.opened.set_result(None)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            if payload == _POSE:
                visit.news.put_nowait(None)

        def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
            visit.news.put_nowait(Ended(code or 1005))

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    factory = WebSocketClientFactory(url, headers=headers, useragent="relayctl doctor")
    factory.protocol = Client
    factory.setProtocolOptions(openHandshakeTimeout=0)  # `patience` bounds it
    return factory


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^%b:[ \t]*([^\r\n]+)" % name, head)
    return found[1] if found else b""


def _is_whole(answer: bytes) -> bool:
    """Whether a body came whose length was named."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _header(head, b"content-length").strip()
    return length.isdigit() and len(body) >= int(length)
