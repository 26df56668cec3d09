"""An HTTP answer as a value: status, body, headers. Pure; `request` sends it.

The handlers in `pages`, `health` and `api` return one. Errors are the flat JSON object that every
path of relayd uses, or a small page for a browser.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from relayd import wire
from relayd.edge.refusal import JSON
from relayd.errors import ErrorCode, Refusal

LINES = "application/x-ndjson"
HTML = "text/html; charset=utf-8"
_TAGS = re.compile(r'"[^"]*"|\*')
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: the HTTP status code.
        body: the whole body; answers are small. An endless answer is a `Stream`.
        content_type: of the body.
        headers: further headers, beside those of every answer.
        cookies: values of `Set-Cookie`, one line each (RFC 6265 section 3).
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ()

    def unless_known(self, known: str | None) -> "Answer":
        """Itself, or 304 if its ETag is in `If-None-Match` (RFC 9110 section 13.1.2)."""
        if not {"*", self.headers["ETag"]} & {*_TAGS.findall(known or "")}:
            return self
        kept = {name: value for name, value in self.headers.items() if name != "Content-Encoding"}
        return Answer(304, headers=kept)


class Sink(Protocol):
    """The destination of the lines of a `Stream`."""

    def write(self, line: bytes) -> None:
        """Sends a line of JSON. While the client does not read, lines are dropped and counted."""

    def end(self) -> None:
        """Ends the answer after the lines so far."""


@dataclass(frozen=True)
class Stream:
    """An answer without a length: lines of JSON until either side ends it.

    Attributes:
        open: begins to write to a sink; returns a function that is called when the client has
            disconnected, or after `end`.
    """

    open: Callable[[Sink], Callable[[], None]]


def json_answer(message: Any, status: int = 200, **headers: str) -> Answer:
    """A message as JSON. A keyword `retry_after="5"` sets the header `Retry-After: 5`."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(status, wire.encode(message), JSON, {"Cache-Control": "no-store", **named})


def tagged_answer(
    body: bytes, content_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Answer:
    """A body with its ETag, which a cache keeps, but revalidates each time (`no-cache`).

    Args:
        body: the body.
        content_type: of the body.
        headers: further headers, in place of these, too.
    """
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    all_headers = {"ETag": tag, "Cache-Control": "no-cache", **(headers or {})}
    return Answer(200, body, content_type, all_headers)


def error_answer(
    code: ErrorCode, message: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """The flat error object, `{"error": code, "message": sentence}`, with the status of the code.

    Args:
        code: the code.
        message: the sentence, in place of the code's own.
        headers: further headers.
    """
    return refusal_answer(Refusal(code, message), headers)


def refusal_answer(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer for a `Refusal`, with further headers."""
    all_headers = {"Cache-Control": "no-store", **refusal.headers, **(headers or {})}
    body = wire.encode_error(refusal.code, refusal.message)
    return Answer(refusal.status, body, JSON, all_headers)


def redirect(location: str, status: int = 308) -> Answer:
    """A redirect to a relative reference (RFC 9110 section 10.2.2).

    Relative, because only the client knows scheme and host if a proxy terminates TLS before us.
    """
    body = b"See " + location.encode() + b"\n"
    return Answer(status, body, "text/plain; charset=utf-8", {"Location": location})


def host_of(header: str | None) -> str:
    """The Host header, if it is a plain name or IPv4 address, perhaps with a port; else empty."""
    return header if header and _HOST.fullmatch(header) else ""


def security_headers(host: str | None) -> dict[str, str]:
    """The headers of every answer.

    Args:
        host: the Host header; it names the WebSocket origin in the policy, because Safari before
            15.4 does not let `connect-src 'self'` cover ws: and wss: (CSP3 section 6.7.2.8 does).
    """
    named = host_of(host)
    sockets = f" ws://{named} wss://{named}" if named else ""
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
