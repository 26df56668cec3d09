"""A TCP proxy between two programs that lets bytes through, or holds, swallows or cuts them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Literal

State = Literal["through", "stalled", "swallow", "mute", "cut"]
_CHUNK = 64 * 1024


class Cable:
    """Listens on a free port of 127.0.0.1 and leads to another one.

    Args:
        port: where it leads to.

    Attributes:
        port: where it listens.
        delay: seconds that bytes take, each way.
        swallowed: the chunks that did not go through, oldest first.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._state: State = "through"
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.delay = 0.0
        self._awaited: tuple[bytes, Callable[[], object], threading.Event] | None = None
        self.swallowed: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        self.be("cut")

    def lead_to(self, port: int) -> None:
        """From now on new connections lead to another port."""
        self._to = port

    def be(self, state: State) -> None:
        """From now on it lets bytes through, swallows them without a word, or cuts connections.

        A mute one swallows what comes from the other port, the answers of a server, and nothing
        else. A stalled one reads nothing, so that what is sent waits with its sender.
        """
        self._state = state
        if state == "stalled":
            self._flows.clear()
        else:
            self._flows.set()
        if state == "cut":
            with self._lock:
                for end in self._sockets:
                    _hang_up(end)
                self._sockets.clear()

    def at(self, words: bytes, action: Callable[[], object]) -> threading.Event:
        """Calls something once, when a client next says these words, before they go on.

        Returns:
            An event that is set after the call.
        """
        done = threading.Event()
        self._awaited = (words, action, done)
        return done

    def _look_for(self, data: bytes) -> None:
        if self._awaited is not None and self._awaited[0] in data:
            (_, action, done), self._awaited = self._awaited, None
            action()
            done.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._state == "cut":
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._sockets |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(
                    target=self._carry, args=(source, target, far), daemon=True
                ).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, answering: socket.socket
    ) -> None:
        swallowed = False
        try:
            while data := source.recv(_CHUNK):
                self._flows.wait()
                if self.delay:
                    time.sleep(self.delay)
                if source is not answering:
                    self._look_for(data)
                mute = self._state == "mute" and source is answering
                swallowed = swallowed or self._state == "swallow" or mute
                # half of a stream is of no use: this connection never recovers
                if swallowed:
                    self.swallowed.append(data)
                else:
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
