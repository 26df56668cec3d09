"""One HTTP request: its body is bounded, exceptions become answers, an answer is sent whole.

Sits on `twisted.web.http`, which parses, keeps connections alive and answers pipelined requests in
order; gets an `Answer` from the `site`. twisted.web reads a body of any size; the limit is here.
"""

import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, Protocol, cast
from urllib.parse import parse_qs, quote

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http, server

from relayd import forwarded
from relayd.errors import ClientError, ErrorCode, Refusal, Unavailable
from relayd.logs import Logger
from relayd.names import hide_uuids
from relayd.web.answers import (
    HTML,
    Answer,
    Stream,
    error_answer,
    refusal_answer,
    security_headers,
)
from relayd.web.pace import Pace
from relayd.web.stream import LineWriter
from relayd.web.templates import View

# After the answer "too large", up to so many bytes of a body are read and dropped, so that the
# client gets the answer instead of a reset connection (RFC 9112 section 9.6).
MOST_DROPPED = 4 * 1024 * 1024

_ABSOLUTE = re.compile(r"(?:http|ws)s?://([^/]*)", re.IGNORECASE)
_FOR_PROGRAMS = re.compile(r"/(api|ws|sse|healthz|readyz|metrics|static|clients)(/|$)")


class Answering(Protocol):
    """The part of the site that a request needs."""

    def max_body(self, target: str) -> int:
        """Bytes that the body of a request may have, by its path; "" while that is unknown."""

    @property
    def body_timeout(self) -> float:
        """Seconds within which a whole body has to arrive."""

    @property
    def body_rate(self) -> float:
        """Bytes of a body that have to arrive in a second at least."""

    def admit(self, request: "Request") -> Answer | None:
        """Looks at a complete head, before the body; returns a refusal, or None."""

    def headers(self, request: "Request") -> Mapping[str, str]:
        """Further headers of every answer to a request."""

    def closing(self) -> bool:
        """Whether connections should end after their answer."""

    def answer(self, request: "Request") -> Answer | Stream | Awaitable[Answer | Stream]:
        """Answers a request. Raises exceptions that `Request.process` turns into answers."""


class Request(server.Request):
    """A request that `Answering.answer` answers.

    Attributes beside Twisted's: `target`, `gone`, and `client_host`, the client's address, which
    the public site notes with the head.
    """

    log = Logger()
    defaultContentType = None

    content: Any = None
    gone = False
    client_host = ""
    _admitted = False
    _refusal: Answer | None = None
    _pace: Pace | None = None
    _dropped = -1  # bytes dropped of a body that is too large; -1 while it is not

    @property
    def answering(self) -> Answering:
        """The site, with the interface that this module uses."""
        site: Answering = cast(Any, self.channel).site
        return site

    @property
    def target(self) -> str:
        """The path, still percent-encoded; without the origin of an absolute-form target."""
        path = self.path.decode("utf-8", "replace")
        absolute = _ABSOLUTE.match(path)
        return (path[absolute.end() :] or "/") if absolute else path

    @property
    def absolute_host(self) -> str | None:
        """The host of an absolute-form target (RFC 9112 section 3.2.2); None for any other."""
        absolute = _ABSOLUTE.match(self.path.decode("utf-8", "replace"))
        return None if absolute is None else absolute[1]

    def argument(self, name: str) -> str | None:
        """The first value of a name in the query, decoded; None if it is absent."""
        _, _, query = self.uri.decode("utf-8", "replace").partition("?")
        values = parse_qs(query, keep_blank_values=True).get(name)
        return values[0] if values else None

    @property
    def safe_query(self) -> str:
        """The query with its question mark, safe in a Location header; empty without one."""
        _, mark, query = self.uri.decode("latin-1").partition("?")
        return mark + quote(query, safe="%&=+~;:@/?!*'(),")

    def header(self, name: str) -> str | None:
        """A header of the request as text."""
        value: bytes | None = self.getHeader(name.encode())
        return None if value is None else value.decode("latin-1")

    def whole_header(self, name: str) -> str | None:
        """A list header, its lines joined (RFC 9110 section 5.3); None if it is absent."""
        lines = self.requestHeaders.getRawHeaders(name.encode())
        return None if lines is None else b", ".join(lines).decode("latin-1")

    @property
    def connected(self) -> str:
        """The peer of the connection, a proxy perhaps: an IP address or `unix:`."""
        return forwarded.host_of(self.getClientAddress())

    @property
    def _max_body(self) -> int:
        # the path is unknown before the end of the body on other channels than the front door's
        return self.answering.max_body(self.target if self.path else "")

    def body(self) -> bytes:
        """The whole body; not larger than the site's `max_body`."""
        content: bytes = self.content.getvalue()
        return content

    # The channel calls these while it reads

    def gotLength(self, length: int | None) -> None:
        """The head is complete; `length` is None for a chunked body."""
        self.content = BytesIO()
        method = getattr(self.channel, "method", b"")
        if method:
            # Twisted sets both when the body is complete
            self.method, self.uri = method, cast(Any, self.channel).target
            self.path = self.uri.partition(b"?")[0]
            self._admit()
        if length == 0:
            return
        self._pace = Pace(
            self.channel.callLater,
            self.answering.body_timeout,
            self.answering.body_rate,
            self._too_slow,
        )
        if length is not None and length > self._max_body:
            self._refuse_too_large()
        elif self._refusal is not None:
            self._refuse_body(self._refusal, stays=True)

    def _admit(self) -> None:
        self._admitted = True
        try:
            self._refusal = self.answering.admit(self)
        except Exception:
            self._refusal = self._error(Failure())

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body arrived."""
        if self._pace is not None:
            self._pace.received(len(data))
        if self._dropped < 0 and self.content.tell() + len(data) > self._max_body:
            self._refuse_too_large()
        if self._dropped < 0:
            self.content.write(data)
            return
        self._dropped += len(data)
        if self._dropped > MOST_DROPPED:
            # not finish(): the channel is still in its parser, which needs the request
            self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request has arrived."""
        self._end_pace()
        if self._dropped >= 0:
            self.finish()
        else:
            super().requestReceived(command, path, version)

    def connectionLost(self, reason: Failure) -> None:
        """The client has disconnected; a pending answer will be dropped."""
        self.gone = True
        self._end_pace()
        super().connectionLost(reason)

    def _end_pace(self) -> None:
        pace, self._pace = self._pace, None  # each has the other
        if pace is not None:
            pace.end()

    def _too_slow(self) -> None:
        """The body is slower than it may be: the answer is 408, or the end after an answer."""
        if self._dropped >= 0:
            cast(Any, self.channel).forceAbortClient()
        else:
            sentence = "The body came too slowly, or not within [keepalive] request_timeout."
            self._refuse_body(error_answer(ErrorCode.TIMEOUT, sentence))

    def _refuse_too_large(self) -> None:
        limit = self._max_body
        sentence = f"The body must not exceed {limit} bytes."
        self._refuse_body(error_answer(ErrorCode.TOO_LARGE, sentence))

    def _refuse_body(self, answer: Answer, *, stays: bool = False) -> None:
        """Answers before the body, which is dropped.

        Args:
            answer: the answer.
            stays: whether the connection goes on when the body has arrived.
        """
        self._dropped = 0
        self.content = BytesIO()
        if self._pace is not None:
            self._pace.refused()
        self.channel.persistent = self.channel.persistent and stays
        self.clientproto = b"HTTP/1.1"
        waits = self.requestHeaders.hasHeader("Expect")
        self.requestHeaders.removeHeader("Expect")  # the channel would send 100 Continue, too
        self._write(answer)
        if waits:
            self.channel.loseConnection()

    # A whole request goes through these

    def process(self) -> None:
        """Answers the request, at once or when the answer is ready; never raises."""
        self.content.seek(0)
        if not self._admitted:
            self._admit()
        try:
            answer = self._refusal or self.answering.answer(self)
        except Exception:
            self._send(self._error(Failure()))
            return
        if isinstance(answer, Answer | Stream):
            self._send(answer)
            return
        waiting = Deferred.fromCoroutine(_awaited(answer))
        waiting.addErrback(self._error)
        waiting.addCallback(self._send)
        waiting.addErrback(self._lost)

    def _error(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, Refusal):
            answer = refusal_answer(error)
        elif isinstance(error, ClientError):
            answer = error_answer(error.code, error.message)
        elif isinstance(error, Unavailable):
            answer = refusal_answer(Refusal(error.code, error.sentence, status=error.status))
        else:
            self.log.failure("{path} failed", failure=failure, path=hide_uuids(self.target))
            sentence = "Something went wrong inside relayd; its log says what."
            answer = error_answer(ErrorCode.INTERNAL, sentence)
        return answer

    def _lost(self, failure: Failure) -> None:
        self.log.failure(
            "{path} could not be answered", failure=failure, path=hide_uuids(self.target)
        )

    def _send(self, answer: Answer | Stream) -> None:
        if self.gone:
            return
        if isinstance(answer, Stream):
            LineWriter(self).run(answer)
            return
        if self.answering.closing():
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders("Connection", ["close"])
        if answer.status >= 400 and answer.content_type != HTML and self._is_for_people():
            answer = View.of(self).error(answer)
        self._write(answer)
        self.finish()

    def _is_for_people(self) -> bool:
        """Whether an error becomes a page: for a browser, on a path that is not for programs."""
        wants_html = "text/html" in (self.header("Accept") or "")
        return wants_html and not _FOR_PROGRAMS.match(self.target)

    def _write(self, answer: Answer) -> None:
        # Twisted has no phrases for 426 and some other codes
        self.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
        headers = {
            "Server": "relayd",
            "Date": http.datetimeToString().decode(),
            **security_headers(self.header("Host")),
            **self.answering.headers(self),
            **answer.headers,
        }
        if answer.status not in http.NO_BODY_CODES:
            headers["Content-Type"] = answer.content_type
            headers["Content-Length"] = str(len(answer.body))
        if not self.channel.persistent and self.clientproto == b"HTTP/1.1":
            self.responseHeaders.setRawHeaders("Connection", ["close"])
        for name, value in headers.items():
            # Connection is a list, which may contain "close" already
            self.responseHeaders.addRawHeader(name, value)
        for cookie in answer.cookies:
            self.responseHeaders.addRawHeader("Set-Cookie", cookie)
        self.write(answer.body)


async def _awaited(answer: Awaitable[Answer | Stream]) -> Answer | Stream:
    return await answer
