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
_MOST = 500  # clients at a time; beyond it, those that came first are closed
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


class _Clients:
    """The listening sockets and the connections; a context manager that closes the latter."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listening: list[socket.socket] = []
        self._clients: set[_Client] = set()

    def __enter__(self) -> "_Clients":
        return self

    def __exit__(self, *error: object) -> None:
        for client in list(self._clients):
            self._close(client)
        self._selector.close()

    def __len__(self) -> int:
        return len(self._clients)

    def listen(self, listening: socket.socket) -> None:
        """Accepts connections of a socket from now on."""
        self._listening.append(listening)
        self._selector.register(listening, selectors.EVENT_READ)

    def accept_no_more(self) -> None:
        """Accepts no connection from now on."""
        while self._listening:
            self._selector.unregister(self._listening.pop())

    def serve(self, seconds: float) -> None:
        """Accepts, reads and answers what is there now, or comes within some seconds."""
        now = time.monotonic()
        for late in [client for client in self._clients if client.until < now]:
            self._close(late)
        first = min((client.until for client in self._clients), default=now + seconds)
        for key, _ in self._selector.select(max(min(seconds, first - now), 0)):
            if isinstance(key.data, _Client):
                if not key.data.read():
                    self._close(key.data)
            else:
                if len(self._clients) == _MOST:
                    self._close(min(self._clients, key=lambda client: client.until))
                self._accept(key.fileobj)

    def _accept(self, listening: object) -> None:
        assert isinstance(listening, socket.socket)
        try:
            line, _ = listening.accept()
        except OSError:  # it has left already, or there is no file for it
            return
        line.setblocking(False)
        client = _Client(line)
        self._clients.add(client)
        self._selector.register(line, selectors.EVENT_READ, client)

    def _close(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.line)
        client.line.close()


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
    right = False
    with contextlib.ExitStack() as stack, _Clients() as clients:
        for descriptor in descriptors:
            listening = stack.enter_context(socket.socket(fileno=descriptor))
            stack.callback(listening.detach)
            clients.listen(listening)
        while not right and (now := time.monotonic()) < end:
            if now >= look:
                right = is_right()
                look = time.monotonic() + _LOOK
            clients.serve(min(look, end) - now)
        # those that were accepted are answered; the others wait in the queue of the socket
        clients.accept_no_more()
        while clients:
            clients.serve(_PATIENCE)
    return right
