"""The connections of the load generator: picows clients that count what they get.

Nothing here is relayd's own code. What every client does for every frame is compiled, and kept to a
counter; only sampled clients look into the frames.
"""

import asyncio
import time
from array import array
from typing import Any, TypeVar

import msgspec
from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport, ws_connect

from bench.counter import Counter

TEXT = WSMsgType.TEXT


class _Pose(msgspec.Struct):
    """The poses the generator sends: `x` a number, `y` the time of sending, `z` the sender."""

    y: float


_decode = msgspec.json.Decoder(_Pose).decode
_now = time.monotonic


class Client(Counter):
    """A connection that counts the messages it gets.

    Attributes:
        closed: whether the connection has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.transport: Any = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is through."""
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is over."""
        self.closed = True

    def send(self, payload: bytes) -> None:
        """Sends a text frame, unless the connection has ended."""
        if not self.closed:
            self.transport.send(TEXT, payload)

    def close(self) -> None:
        """Ends it: the close frame, then TCP."""
        if not self.closed:
            self.transport.send_close(WSCloseCode.OK)
            self.transport.disconnect()


class Sampled(Client):
    """A client that also notes when each message was sent and how long it took.

    Attributes:
        sent, took: the two columns, in seconds; the clock is `time.monotonic`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = array("d")
        self.took = array("d")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One more, and its latency."""
        if frame.msg_type is TEXT:
            self.count += 1
            sent = _decode(frame.get_payload_as_memoryview()).y
            self.sent.append(sent)
            self.took.append(_now() - sent)


class Phone(Client):
    """The Android side of a pair: asks, waits for the receipt, asks again.

    Attributes:
        sent, took: as of `Sampled`, of each acknowledged request.
        errors: answers that are no receipt.
        asked: requests so far.
    """

    def __init__(self, question: bytes) -> None:
        super().__init__()
        self.sent = array("d")
        self.took = array("d")
        self.errors = 0
        self.asked = 0
        self.asking = True
        self._question = question
        self._since = 0.0

    def ask(self) -> None:
        """Sends a request."""
        self.asked += 1
        self._since = _now()
        self.send(self._question)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """The answer; then the next request."""
        if frame.msg_type is not TEXT:
            return
        if b"received" in frame.get_payload_as_bytes():
            self.count += 1
            self.sent.append(self._since)
            self.took.append(_now() - self._since)
        else:
            self.errors += 1
        if self.asking:
            self.ask()


T = TypeVar("T", bound=Client)


async def join(port: int, path: str, client: T) -> T:
    """Connects a client to a server on 127.0.0.1."""
    await ws_connect(
        lambda: client,  # type: ignore[arg-type]
        f"ws://127.0.0.1:{port}{path}",
        websocket_handshake_timeout=30,
        read_buffer_init_size=4096,
    )
    return client


async def join_all(port: int, wanted: list[tuple[str, T]]) -> list[T]:
    """Connects many, 50 at a time, in their order."""
    for start in range(0, len(wanted), 50):
        some = wanted[start : start + 50]
        await asyncio.gather(*(join(port, path, client) for path, client in some))
    return [client for _, client in wanted]
