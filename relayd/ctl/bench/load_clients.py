"""The connections of `relayctl bench`: picows clients that count their messages.

Every client only counts its frames; sampled clients decode them. Imports picows, so it is imported
only when the command runs.
"""

import asyncio
import logging
import re
import socket
import ssl
import time
from array import array
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from relayd.ctl.bench.report import NO_CODE
from relayd.ctl.bench.target import PATH, BenchFailed, Full, Silent, Target
from relayd.errors import ErrorCode

NO_STATUS = 1005  # RFC 6455 section 7.1.5: the close frame has no code
_TEXT, _CLOSE = WSMsgType.TEXT, WSMsgType.CLOSE
_AT_ONCE = 50
_TIMEOUT = 10.0  # seconds for a handshake
_CLOSE_TIMEOUT = 2.0  # seconds for all closing handshakes
_now = time.monotonic

# picows also logs the errors that become sentences here
logging.getLogger("picows").addHandler(logging.NullHandler())
logging.getLogger("picows").propagate = False


class _Pose(msgspec.Struct):
    """The poses of the load: `x` a number, `y` the time of sending, `z` the sender."""

    y: float


class _Refusal(msgspec.Struct):
    """The body of a refused handshake."""

    error: str
    message: str


_decode = msgspec.json.Decoder(_Pose).decode


class Tally:
    """Counts the open connections, and notes the end of the last one.

    Attributes:
        open: connections now.
        empty: set while `open` is 0 again.
    """

    def __init__(self) -> None:
        self.open = 0
        self.empty = asyncio.Event()


class Client(WSListener):
    """A connection that counts the messages it gets.

    Attributes:
        count: messages so far.
        closed: the close code with which it has ended, `NO_CODE` for none; 0 while it has not.
    """

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.count = 0
        self.closed = 0
        self._tally = tally
        self._transport: WSTransport | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened and has not ended."""
        return self._transport is not None and not self.closed

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Notes the opened connection."""
        self._transport = transport
        self._tally.open += 1
        self._tally.empty.clear()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Counts a message, or answers a close frame."""
        if frame.msg_type is _TEXT:
            self.count += 1
        elif frame.msg_type is _CLOSE:
            self.close()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Notes the end and the close code."""
        shake = transport.close_handshake
        if shake and shake.recv:
            self.closed = int(shake.recv.code) or NO_STATUS  # type: ignore[call-overload]
        else:
            self.closed = NO_CODE
        self._tally.open -= 1
        if not self._tally.open:
            self._tally.empty.set()

    def send(self, payload: bytes) -> bool:
        """Sends a text frame; False if the connection has ended."""
        if self._transport is None or self.closed or self._transport.is_close_frame_sent:
            return False
        self._transport.send(_TEXT, payload)
        return True

    def close(self) -> None:
        """Begins the closing handshake, or answers it; the server ends the TCP connection."""
        if self._transport is not None and not self._transport.is_close_frame_sent:
            self._transport.send_close(WSCloseCode.OK)

    def abort(self) -> None:
        """Ends the TCP connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)


class Sampled(Client):
    """A client that also notes when each message was sent and how long it took.

    Attributes:
        sent, took: the two columns, in seconds; the clock is `time.monotonic`.
        strange: messages that are no pose of ours.
    """

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.sent = array("d")
        self.took = array("d")
        self.strange = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Counts a message, and notes its latency."""
        if frame.msg_type is not _TEXT:
            super().on_ws_frame(transport, frame)
            return
        self.count += 1
        try:
            sent = _decode(frame.get_payload_as_memoryview()).y
        except msgspec.MsgspecError:
            self.strange += 1
            return
        self.sent.append(sent)
        self.took.append(_now() - sent)

    def forget(self) -> None:
        """Drops the notes so far."""
        self.sent, self.took = array("d"), array("d")


async def join_all(target: Target, wanted: Sequence[tuple[str, Client]]) -> None:
    """Connects clients to their groups, in order, `_AT_ONCE` at the same time.

    Raises:
        BenchFailed: a client could not connect; others may be open.
    """
    for start in range(0, len(wanted), _AT_ONCE):
        outcomes = await asyncio.gather(
            *(_join(target, group, client) for group, client in wanted[start : start + _AT_ONCE]),
            return_exceptions=True,
        )
        for error in outcomes:
            if isinstance(error, BaseException):
                connected = sum(client.is_open for _, client in wanted)
                raise _explained(error, target, connected, len(wanted)) from error


async def leave_all(clients: Iterable[Client]) -> None:
    """Closes every connection by a closing handshake, or by TCP without an answer."""
    left = [client for client in clients if client.is_open]
    for client in left:
        client.close()
    deadline = _now() + _CLOSE_TIMEOUT
    while left and _now() < deadline:
        await asyncio.sleep(0.02)
        left = [client for client in left if client.is_open]
    for client in left:
        client.abort()
    await asyncio.sleep(0)


class _UnixSocket(socket.socket):
    """A unix socket that ignores the TCP options that picows sets on every socket."""

    def setsockopt(self, level: int, *rest: Any) -> None:
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *rest)

    def getsockopt(self, level: int, *rest: Any) -> Any:
        return 0 if level == socket.IPPROTO_TCP else super().getsockopt(level, *rest)


async def _join(target: Target, group: str, client: Client) -> None:
    async def connected_socket(url: object) -> socket.socket | None:
        if not target.unix:
            return None
        unix = _UnixSocket(socket.AF_UNIX)
        unix.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(unix, target.unix)
        except BaseException:
            unix.close()
            raise
        return unix

    async with asyncio.timeout(_TIMEOUT + 1):
        await ws_connect(
            lambda: client,
            f"{target.url}{PATH}/{group}",
            ssl_context=target.trust,
            websocket_handshake_timeout=_TIMEOUT,
            extra_headers={"Authorization": f"Bearer {target.token}"} if target.token else None,
            max_redirects=0,
            read_buffer_init_size=4096,
            socket_factory=connected_socket,
        )
    if client._transport is None:  # picows treats this as a success
        raise ConnectionResetError


def _explained(error: BaseException, target: Target, connected: int, wanted: int) -> BaseException:
    """The failure of a connection, in a sentence."""
    where = target.shown
    so_far = f"; {connected:,} of {wanted:,} were connected" if connected else ""
    if isinstance(error, WSHandshakeError):
        return _refused(error, target, connected, so_far)
    if isinstance(error, ssl.SSLCertVerificationError):
        return BenchFailed(
            f"the certificate of {where} is not valid: {error.verify_message}. --ca FILE trusts "
            "an authority of your own, --insecure any certificate"
        )
    if isinstance(error, ssl.SSLError):
        return BenchFailed(
            f"TLS with {where} failed ({error.reason}); for a server without TLS, write ws://"
        )
    if isinstance(error, socket.gaierror):
        return BenchFailed(f"{where}: the host {target.host!r} cannot be found: {error.strerror}")
    if isinstance(error, TimeoutError):
        return Silent(f"{where} did not answer within {_TIMEOUT:.0f} s{so_far}")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return BenchFailed(f"no server listens at {where}{so_far}")
    if isinstance(error, ConnectionError):
        hint = "" if target.trust or connected else "; if it speaks TLS, write wss://"
        return Silent(f"{where} ended a connection before it was open{so_far}{hint}")
    if isinstance(error, OSError):
        return BenchFailed(f"{where} cannot be reached: {error.strerror or error}{so_far}")
    if isinstance(error, WSError):
        return BenchFailed(f"{where}: {error}")
    return error


def _refused(error: WSHandshakeError, target: Target, connected: int, so_far: str) -> BenchFailed:
    """The meaning of an answer to a handshake other than 101."""
    where = target.shown
    line = re.match(rb"HTTP/1\.[01] (\d{3})", error.raw_header or b"")
    if line is None or int(line[1]) == HTTPStatus.SWITCHING_PROTOCOLS:
        hint = "" if target.trust else "; if it speaks TLS, write wss://"
        return BenchFailed(f"{where} does not answer as a WebSocket server does{hint}")
    status = int(line[1])
    try:
        refusal = msgspec.json.decode(error.raw_body or b"", type=_Refusal)
    except msgspec.MsgspecError:
        if 300 <= status < 400:
            to = error.response.headers.get("Location") if error.response else None
            return BenchFailed(f"{where} answers {status}: it redirects to {to or 'another URL'}")
        return BenchFailed(
            f"{where} answers {status}, but not as relayd: does a relayd serve this path?"
        )
    sentence = refusal.message.rstrip(".")
    if refusal.error == ErrorCode.TOO_MANY:
        return Full(f"{where} is full: {sentence}{so_far}", connected)
    no_token = refusal.error == ErrorCode.UNAUTHORIZED and not target.token
    hint = " (--token-file FILE)" if no_token else ""
    return BenchFailed(f"{where} refuses with {status}: {sentence}{hint}{so_far}")
