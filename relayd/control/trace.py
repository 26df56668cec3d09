"""`trace`: every frame of one connection, in and out, and how it ends.

Sits under `process`. A connection has one slot for an observer of its frames (`sockets.observer`).
The observer here forwards each event to all traces of the connection, and leaves the slot with the
last of them.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from relayd.connection.websocket import RelayProtocol
from relayd.web.answers import Sink, Stream

_LONGEST = 4096
"""Characters of a payload in an event; the rest is cut off."""

Report = Callable[[dict[str, Any]], None]


def trace(connection: RelayProtocol, now: Callable[[], float]) -> Stream:
    """Streams the frames of a connection from now on.

    Args:
        connection: an open one.
        now: returns the Unix time.
    """

    def open_(sink: Sink) -> Callable[[], None]:
        def report(event: dict[str, Any]) -> None:
            sink.write(msgspec.json.encode({"time": round(now(), 6), **event}))
            if event["event"] == "ended":
                sink.end()

        tracer = connection.observer
        if not isinstance(tracer, _Tracer):
            tracer = connection.observer = _Tracer(connection.read_sent)
        tracer.traces.append(report)
        report({"event": "begin", "path": connection.path, "peer": str(connection.peer)})

        def close() -> None:
            tracer.traces.remove(report)
            if not tracer.traces:
                connection.observer = None

        return close

    return Stream(open_)


class _Tracer:
    """Reports the frames of one connection (`sockets.observer.Observer`).

    Args:
        read: reads what the connection has sent: name and payload of each frame.

    Attributes:
        traces: get each event.
    """

    def __init__(self, read: Callable[[bytes], list[tuple[str, bytes]]]) -> None:
        self.traces: list[Report] = []
        self._read = read

    def received(self, payload: bytes, is_binary: bool) -> None:
        self._received("binary" if is_binary else "text", payload)

    def pinged(self, payload: bytes) -> None:
        self._received("ping", payload)

    def ponged(self, payload: bytes) -> None:
        self._received("pong", payload)

    def sent(self, frames: bytes, waits: bool) -> None:
        for name, payload in self._read(frames):
            more = {"waits": True} if waits else {}
            self._report("out", type=name, **_described(payload), **more)

    def close_received(self, code: int | None, reason: bytes | None) -> None:
        self._close("in", code, reason)

    def close_sent(self, code: int | None, reason: bytes | None) -> None:
        self._close("out", code, reason)

    def ended(self) -> None:
        self._report("ended")

    def _received(self, kind: str, payload: bytes) -> None:
        self._report("in", type=kind, **_described(payload))

    def _close(self, event: str, code: int | None, reason: bytes | None) -> None:
        text = (reason or b"").decode(errors="replace")
        self._report(event, type="close", code=code, reason=text)

    def _report(self, event: str, **more: Any) -> None:
        for report in tuple(self.traces):
            report({"event": event, **more})


def _described(payload: bytes) -> dict[str, Any]:
    text = payload.decode(errors="backslashreplace")
    found: dict[str, Any] = {"size": len(payload), "text": text[:_LONGEST]}
    if len(text) > _LONGEST:
        found["cut"] = True
    return found
