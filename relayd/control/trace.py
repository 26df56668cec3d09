"""`trace`: every frame of one connection, in and out, and how it ends.

Sits under `process`. A connection has one slot for an observer, which hears of all that passes
(`sockets.observer`); the observer here passes it on to everybody who traces the connection, and
leaves the slot with the last of them.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from relayd.connection.websocket import RelayProtocol
from relayd.native.framing import OPCODE_NAMES, read_frames
from relayd.web.answers import Sink, Stream

_LONGEST = 4096
"""Characters of a payload that are shown."""

Tell = Callable[[dict[str, Any]], None]


def trace(connection: RelayProtocol, now: Callable[[], float]) -> Stream:
    """The stream of what passes through a connection from now on.

    Args:
        connection: an open one.
        now: Unix time.
    """

    def open_(sink: Sink) -> Callable[[], None]:
        def tell(event: dict[str, Any]) -> None:
            sink.write(msgspec.json.encode({"time": round(now(), 6), **event}))
            if event["event"] == "ended":
                sink.end()

        tracer = connection.observer
        if not isinstance(tracer, _Tracer):
            tracer = connection.observer = _Tracer()
        tracer.listeners.append(tell)
        tell({"event": "begin", "path": connection.path, "peer": str(connection.peer)})

        def close() -> None:
            tracer.listeners.remove(tell)
            if not tracer.listeners:
                connection.observer = None

        return close

    return Stream(open_)


class _Tracer:
    """Tells what passes through one connection (`sockets.observer.Observer`).

    Attributes:
        listeners: who is told.
    """

    def __init__(self) -> None:
        self.listeners: list[Tell] = []

    def received(self, payload: bytes, is_binary: bool) -> None:
        self._came("binary" if is_binary else "text", payload)

    def pinged(self, payload: bytes) -> None:
        self._came("ping", payload)

    def ponged(self, payload: bytes) -> None:
        self._came("pong", payload)

    def sent(self, frames: bytes, waits: bool) -> None:
        for opcode, payload in read_frames(frames):
            more = {"waits": True} if waits else {}
            name = OPCODE_NAMES.get(opcode, str(opcode))
            self._tell("out", type=name, **_shown(payload), **more)

    def close_received(self, code: int | None, reason: bytes | None) -> None:
        self._close("in", code, reason)

    def close_sent(self, code: int | None, reason: bytes | None) -> None:
        self._close("out", code, reason)

    def ended(self) -> None:
        self._tell("ended")

    def _came(self, kind: str, payload: bytes) -> None:
        self._tell("in", type=kind, **_shown(payload))

    def _close(self, event: str, code: int | None, reason: bytes | None) -> None:
        text = (reason or b"").decode(errors="replace")
        self._tell(event, type="close", code=code, reason=text)

    def _tell(self, event: str, **more: Any) -> None:
        for tell in tuple(self.listeners):
            tell({"event": event, **more})


def _shown(payload: bytes) -> dict[str, Any]:
    text = payload.decode(errors="backslashreplace")
    shown: dict[str, Any] = {"size": len(payload), "text": text[:_LONGEST]}
    if len(text) > _LONGEST:
        shown["cut"] = True
    return shown
