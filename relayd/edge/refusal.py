"""A refused request as bytes: the answer of `frontdoor` and of the WebSocket handshake. Pure."""

from http import HTTPStatus
from typing import Any

from relayd import wire
from relayd.errors import Refusal

JSON = "application/json; charset=utf-8"
"""RFC 8259 has no charset, and websocket-sharp fails at a refusal without one."""


def refusal_parts(refusal: Refusal, headers: Any = ()) -> tuple[list[tuple[str, str]], bytes]:
    """The fields of the head of an answer, after which the connection ends, and its JSON body."""
    body = wire.encode_error(refusal.code, refusal.message)
    fields = [
        ("Server", "relayd"),
        ("Content-Type", JSON),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    return [*fields, *refusal.headers.items(), *headers], body


def encode_refusal(refusal: Refusal, headers: Any = ()) -> bytes:
    """A whole HTTP/1.1 answer (RFC 9112) with the flat JSON body; the connection ends after it."""
    fields, body = refusal_parts(refusal, headers)
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
    lines.extend(f"{name}: {value}" for name, value in fields)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
