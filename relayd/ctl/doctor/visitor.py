"""A WebSocket client that sends one pose and waits for it. Sits under `public`.

It uses Autobahn like the daemon, but under asyncio: Twisted's reactor runs only once in a process,
and the checks of Redis use it. Autobahn chooses one of the two for the whole process when it is
imported, so it is imported at the start of a visit, which only a process of relayctl makes.
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
_BODY_TIMEOUT = 1.0  # seconds for the body of a refusal
_LONGEST_ANSWER = 64 * 1024


class Answered(Exception):
    """The handshake was answered with something else than 101.

    Attributes:
        status: the HTTP status; 0 if the answer is no HTTP/1.1.
        server: the header `Server`, or "".
        body: the body, as far as it was received.
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
        when: the point of time, in words.
    """

    def __init__(self, code: int, when: str = "before its pose came back") -> None:
        super().__init__(code)
        self.code = code
        self.when = when


async def visit(
    url: str, trust: ssl.SSLContext | None, token: str, *, hold: float, timeout: float
) -> None:
    """Opens a WebSocket, sends a pose, receives it, and closes.

    Args:
        url: `ws://` or `wss://`, with a path of a camera group.
        trust: for `wss://`, the trusted authorities; None for `ws://`.
        token: for the handshake, or "".
        hold: seconds without frames between the first pose and a second one; 0 for one pose.
        timeout: seconds for the handshake, and for each pose.

    Raises:
        Answered: the handshake was refused.
        Ended: the connection ended early.
        TimeoutError: the timeout has passed.
        ssl.SSLError: TLS failed.
        OSError: the connection failed.
    """
    parts = urlsplit(url)
    if trust is not None:
        trust.set_alpn_protocols(["http/1.1"])
    visit = _Visit()
    factory = _client_factory(visit, url, token)
    async with asyncio.timeout(timeout):
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
        async with asyncio.timeout(timeout):
            ended = await visit.events.get()
        if ended is not None:
            raise ended

    try:
        await send_a_pose()
        if hold:
            with contextlib.suppress(TimeoutError):
                ended = await asyncio.wait_for(visit.events.get(), hold)
                if ended is not None:
                    raise Ended(ended.code, f"within {hold:g} s without frames")
            await send_a_pose()
        client.sendClose(client.CLOSE_STATUS_CODE_NORMAL)
    finally:
        transport.close()


class _Visit:
    """The result of one connection.

    Attributes:
        opened: fires when the handshake is done; fails with `Answered`.
        events: None for each pose that was received, and the end as the last one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.events: asyncio.Queue[Ended | None] = asyncio.Queue()
        self._answer = b""
        self._refused = False

    def receive(self, data: bytes) -> bool:
        """Keeps the answer to the handshake. Returns whether Autobahn needs the bytes."""
        if not self.opened.done():
            self._answer += data[: _LONGEST_ANSWER - len(self._answer)]
        if self._refused and _is_whole(self._answer):
            self.end_answer()
        return not self._refused

    def refuse(self) -> None:
        """Waits for the body of a refusal, which has the reason."""
        self._refused = True
        if _is_whole(self._answer):
            self.end_answer()
        else:
            self._loop.call_later(_BODY_TIMEOUT, self.end_answer)

    def end_answer(self) -> None:
        """Ends the answer, as far as it was received. No effect after the handshake."""
        if not self.opened.done():
            self.opened.set_exception(Answered(self._answer))


def _client_factory(visit: _Visit, url: str, token: str) -> "WebSocketClientFactory":
    """Builds the client of a visit."""
    from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
    from autobahn.websocket.types import ConnectingRequest

    class Client(WebSocketClientProtocol):
        def onConnecting(self, transport_details: "TransportDetails") -> "ConnectingRequest":
            # Autobahn omits the brackets of an IPv6 address
            host = f"[{factory.host}]" if ":" in factory.host else factory.host
            return ConnectingRequest(
                host, factory.port, factory.resource, factory.headers, factory.useragent
            )

        def data_received(self, data: bytes) -> None:
            if visit.receive(data):
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
                visit.events.put_nowait(None)

        def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
            visit.events.put_nowait(Ended(code or 1005))

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    factory = WebSocketClientFactory(url, headers=headers, useragent="relayctl doctor")
    factory.protocol = Client
    factory.setProtocolOptions(openHandshakeTimeout=0)  # `visit` has a timeout
    return factory


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^%b:[ \t]*([^\r\n]+)" % name, head)
    return found[1] if found else b""


def _is_whole(answer: bytes) -> bool:
    """Whether the whole body was received, by its Content-Length."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _header(head, b"content-length").strip()
    return length.isdigit() and len(body) >= int(length)
