"""Server-sent events (WHATWG HTML, section 9.2): a JSON payload as an event, and back. Pure.

Beside `wire`, whose payloads these carry. The events of a stream are

    event: hello    data: {"time": RFC 3339, "heartbeat": seconds}    the first, with `retry`
    data: PAYLOAD                                                     a frame of the WebSocket path
    id: ID          data: PAYLOAD                                     the same, of a payload with an
                                                                      integer member "id"
    event: close    data: {"code": integer, "reason": string}         the last, with `retry`
    :                                                                 a heartbeat, a comment
"""

import re
from datetime import UTC, datetime

import msgspec

from relayd import wire

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b":\n\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class _Id(msgspec.Struct):
    id: int = 0


_read_id = msgspec.json.Decoder(_Id).decode


def encode_event(payload: bytes) -> bytes:
    """An event with a payload; a client that reconnects sends the `id` of the last one.

    Args:
        payload: one JSON object, in lines perhaps.
    """
    try:
        id = _read_id(payload).id
    except wire.UNDECODABLE:
        id = 0
    head = b"id: %d\ndata: " % id if id > 0 else b"data: "
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(_LINE_END.split(payload))
    return b"%b%b\n\n" % (head, payload)


def encode_hello(now: float, heartbeat: float, retry: float) -> bytes:
    """The first event.

    Args:
        now: Unix time in seconds.
        heartbeat: seconds between two heartbeats.
        retry: seconds after which the client connects again when the connection is lost.
    """
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    hello = {"time": f"{moment.removesuffix('+00:00')}Z", "heartbeat": heartbeat}
    return b"event: hello\nretry: %d\ndata: %b\n\n" % (round(retry * 1000), wire.encode(hello))


def encode_close(code: int, reason: str, retry: float) -> bytes:
    """The last event.

    Args:
        code: the close code that a WebSocket would get.
        reason: its reason.
        retry: seconds after which the client may connect again.
    """
    close = wire.encode({"code": code, "reason": reason})
    return b"event: close\nretry: %d\ndata: %b\n\n" % (round(retry * 1000), close)


def read_events(data: bytes) -> list[tuple[str, bytes]]:
    """Name and data of each event, as relayd sends them; a heartbeat is a `comment`.

    Args:
        data: whole events, one after another.
    """
    found = []
    for event in data.split(b"\n\n")[:-1]:
        name, lines = "comment" if event.startswith(b":") else "message", []
        for line in event.split(b"\n"):
            field, _, value = line.partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                lines.append(value)
        found.append((name, b"\n".join(lines)))
    return found
