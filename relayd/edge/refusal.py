"""A refused request as bytes: the answer of `frontdoor` and of the WebSocket handshake. Pure."""

from http import HTTPStatus
from typing import Any

from relayd import wire
from relayd.errors import Refusal

JSON = "application/json; charset=utf-8"
"""RFC 8259 has no charset, and websocket-sharp fails at a refusal without one."""


def encode_refusal(refusal: Refusal, headers: Any = ()) -> bytes:
    """A whole HTTP/1.1 answer (RFC 9112) with the flat JSON body; the connection ends after it."""
    body = wire.encode_error(refusal.code, refusal.message)
    lines = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
        "Server: relayd",
        f"Content-Type: {JSON}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    lines.extend(f"{name}: {value}" for name, value in (*refusal.headers.items(), *headers))
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
