"""Answers clients at the sockets that systemd passed, while the configuration is wrong.

Beside `refusal`; `tap` calls it before a reactor exists. Without it, a client that connects makes
systemd start relayd again, which ends at once: the client waits without an answer, and after some
dozens of starts the socket unit fails, too.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Sequence

from relayd.edge.refusal import encode_refusal
from relayd.errors import ErrorCode, Refusal

STAY = 10.0
"""Seconds that the process stays: six starts a minute, as long as clients come."""
RETRY_AFTER = 15
"""Seconds that clients are asked to wait."""

_LOOK = 1.0  # seconds between two looks at the configuration
_PATIENCE = 2.0  # seconds that a client has for its request head, and to read the answer
_MOST = 500  # clients at a time; the others wait in the queue of the socket
_LONGEST_HEAD = 16384  # bytes


class _Client:
    """A connection: its request head is read, the answer sent, its end awaited."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.until = time.monotonic() + _PATIENCE
        self._head = b""
        self._answered = False

    def read(self) -> bool:
        """Reads what came; returns whether to wait for more."""
        try:
            data = self.line.recv(_LONGEST_HEAD)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if self._answered:
            return True
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > _LONGEST_HEAD:
            self._answered = True
            self._head = b""
            with contextlib.suppress(OSError):
                # an answer is far smaller than the buffer of a fresh socket
                self.line.send(encode_refusal(_refusal()))
                self.line.shutdown(socket.SHUT_WR)
        return True


def _refusal() -> Refusal:
    return Refusal(ErrorCode.MISCONFIGURED, retry_after=RETRY_AFTER)


def answer_until_right(
    descriptors: Sequence[int], is_right: Callable[[], bool], seconds: float = STAY
) -> bool:
    """Answers each request with 503 until the configuration is right, or the time is over.

    Args:
        descriptors: listening sockets that do not block; they stay open.
        is_right: reads the configuration, once a second.
        seconds: how long to answer.

    Returns:
        Whether the configuration is right now.
    """
    end = time.monotonic() + seconds
    look = time.monotonic() + _LOOK
    clients: set[_Client] = set()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            listening = stack.enter_context(socket.socket(fileno=descriptor))
            stack.callback(listening.detach)
            selector.register(listening, selectors.EVENT_READ)
        try:
            while (now := time.monotonic()) < end:
                if now >= look:
                    if is_right():
                        return True
                    look = time.monotonic() + _LOOK
                for late in [client for client in clients if client.until < now]:
                    _close(selector, clients, late)
                for key, _ in selector.select(min(look, end) - now):
                    if isinstance(key.data, _Client):
                        if not key.data.read():
                            _close(selector, clients, key.data)
                    elif len(clients) < _MOST:
                        _accept(selector, clients, key.fileobj)
        finally:
            for client in list(clients):
                _close(selector, clients, client)
    return False


def _accept(selector: selectors.BaseSelector, clients: set[_Client], listening: object) -> None:
    assert isinstance(listening, socket.socket)
    try:
        line, _ = listening.accept()
    except OSError:  # it has left already, or there is no file for it
        return
    line.setblocking(False)
    client = _Client(line)
    clients.add(client)
    selector.register(line, selectors.EVENT_READ, client)


def _close(selector: selectors.BaseSelector, clients: set[_Client], client: _Client) -> None:
    clients.discard(client)
    selector.unregister(client.line)
    client.line.close()
