"""A TCP connection whose bytes the test chooses: HTTP heads, answers and WebSocket frames."""

import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

from tests.frames import CLOSE, PING, PONG, TEXT, frame


def handshake(path: str, *headers: str) -> bytes:
    """A whole opening handshake (RFC 6455 section 4.1)."""
    return request(
        path,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    """A whole request head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode()


def text(value: Any) -> bytes:
    """One text frame with a JSON value."""
    return frame(TEXT, json.dumps(value).encode())


@dataclass(frozen=True)
class Response:
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Raw:
    """A connection to 127.0.0.1, a context manager.

    Args:
        port: where to.
        receive_buffer: bytes the kernel may keep for us; its default if None.
        timeout: seconds any step may take.
    """

    def __init__(
        self, port: int, *, receive_buffer: int | None = None, timeout: float = 20
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Sends everything in as few segments as TCP makes of it."""
        self.socket.sendall(b"".join(parts))

    def open(self, path: str, *headers: str) -> "Raw":
        """Does a whole opening handshake."""
        self.send(handshake(path, *headers))
        assert self.response().status == 101
        return self

    def response(self, *, bodyless: bool = False) -> Response:
        """Reads one HTTP answer with its body; the answer to HEAD has none."""
        status_line = self._file.readline()
        assert status_line.startswith(b"HTTP/1.1 "), status_line
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if bodyless else self._file.read(int(headers.get("content-length", 0)))
        return Response(int(status_line.split()[1]), headers, body)

    def frame(self) -> tuple[int, bytes]:
        """Reads one frame: opcode and payload."""
        first, second = self._exactly(2)
        assert first & 0x70 == 0, "a reserved bit is set"
        assert second & 0x80 == 0, "a server does not mask"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(size)

    def close_frame(self) -> tuple[int, str]:
        """Reads up to the close frame: its code and reason."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2]), payload[2:].decode()

    def settle(self) -> None:
        """Returns when the server has read all that was sent; nothing else may have come."""
        self.send(frame(PING, b"settle"))
        assert self.frame() == (PONG, b"settle")

    def ended(self) -> bool:
        """Whether the server has ended the connection; waits for it, and skips what still comes."""
        try:
            while self._file.read(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def reset(self) -> None:
        """Ends the connection with a TCP reset, as a machine that lost power looks in the end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        with contextlib.suppress(OSError):
            self.socket.close()

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        assert len(data) == size, f"the connection ended after {data!r}"
        return data
