"""An endless answer to one HTTP client: lines of JSON, bounded while the client does not read.

Sits under `request`, which begins the answer here.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from relayd.web.answers import LINES, Stream


@implementer(IPushProducer)
class LineWriter:
    """The answer to one request (`answers.Sink`).

    While the client does not read, lines are dropped; when it reads again, one line says how many.

    Args:
        request: a request of twisted.web whose answer has not begun.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._paused = False
        self._left_out = 0
        self._over = False
        self._close: Callable[[], None] | None = None

    def run(self, stream: Stream) -> None:
        """Answers 200 and begins the stream."""
        request = self._request
        request.setResponseCode(200)
        for name, value in (
            ("Server", "relayd"),
            ("Content-Type", LINES),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Accel-Buffering", "no"),  # nginx would collect lines for a while
        ):
            request.setHeader(name, value)
        request.registerProducer(self, True)
        request.notifyFinish().addErrback(lambda _: self._stop())
        request.write(b"")  # the head goes out at once
        close = stream.open(self)
        if self._over:
            close()
        else:
            self._close = close

    def write(self, line: bytes) -> None:
        if self._over:
            return
        if self._paused:
            self._left_out += 1
        else:
            self._request.write(line + b"\n")

    def end(self) -> None:
        if not self._over:
            self._stop()
            self._request.unregisterProducer()
            self._request.finish()

    def _stop(self) -> None:
        self._over = True
        close, self._close = self._close, None
        if close is not None:
            close()

    def pauseProducing(self) -> None:
        """The client does not read (`IPushProducer`)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The client reads again (`IPushProducer`)."""
        self._paused = False
        left_out, self._left_out = self._left_out, 0
        if left_out:
            self.write(msgspec.json.encode({"event": "left_out", "lines": left_out}))

    def stopProducing(self) -> None:
        """The client has disconnected (`IPushProducer`); `notifyFinish` handles that."""
