"""permessage-deflate (RFC 7692) of one connection, both directions without context takeover.

Sits beside `observed`; `factory` derives its connections from `Deflating` while `[server] deflate`
is on. A message is inflated in one go when it has ended, so a connection holds no state of zlib
between two messages, or between two frames of one. Autobahn parses the frames and sees the
compressed bytes; its own `PerMessageDeflate` keeps a window of 39 KB for each connection, and its
bound depends on how a message is cut into segments.

Groups compress for all their members at once (`native.fanout`); frames to one connection alone are
compressed here.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from autobahn.websocket.compress import PerMessageDeflateOffer
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.defer import Deferred

from relayd import private
from relayd.connection.handshake import Handshake
from relayd.native.framing import deflated

EXTENSION = "permessage-deflate"
_BOTH = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"
_TAIL = b"\x00\x00\xff\xff"
"""The end of a message that its sender leaves out (section 7.2.1)."""
_AFTER_FINAL = (b"", _TAIL, b"\x00" + _TAIL)
"""All that may follow a final block: an empty block (section 7.2.3.4)."""
TOO_BIG, INVALID = 1009, 1007


class Agreed(NamedTuple):
    """An agreed extension.

    Attributes:
        header: the value of `Sec-WebSocket-Extensions` in the answer.
        compresses: whether frames to the client are compressed.
    """

    header: str
    compresses: bool


def agree(extensions: Sequence[tuple[str, dict[str, list[Any]]]]) -> Agreed | None:
    """Accepts the first valid offer of permessage-deflate; None if there is none (section 5.1).

    Both parameters without a value are answered, offered or not, and no other one, since
    websocket-sharp fails at any other. One is demanded: a client that bounds the window that it
    inflates with gets its `server_max_window_bits` back (section 7.1.2.1). Such a client is read,
    and gets frames that are not compressed: a group compresses with one window for all.

    Args:
        extensions: the offers by name, as Autobahn reads the header.
    """
    for name, params in extensions:
        if name != EXTENSION:
            continue
        try:
            offer = PerMessageDeflateOffer.parse(params)
        except Exception:
            continue  # section 7.1: an offer with an unknown or invalid parameter is declined
        bits = offer.request_max_window_bits
        if not bits:
            return Agreed(_BOTH, True)
        return Agreed(f"{_BOTH}; server_max_window_bits={bits}", False)
    return None


class TooBigError(Exception):
    """A message is larger than its bound when it is inflated."""


def inflate(payload: bytes, limit: int) -> bytes:
    """The message in a compressed payload (section 7.2.2).

    Args:
        payload: of all frames of the message.
        limit: bytes of the message; inflating ends behind them.

    Raises:
        TooBigError: it is larger.
        zlib.error: it is no compressed data.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    message = stream.decompress(payload + _TAIL, limit + 1)
    if len(message) > limit:
        raise TooBigError
    if stream.eof and stream.unused_data not in _AFTER_FINAL:
        raise zlib.error("something follows the final block")
    return message


class _Unchanged:
    """Stands in for Autobahn's extension: passes compressed bytes on; one for all connections."""

    EXTENSION_NAME = EXTENSION

    def start_decompress_message(self) -> None:
        """A compressed message begins."""

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """The data as it came."""
        return data

    def end_decompress_message(self) -> None:
        """A compressed message has ended."""


class Deflating(Handshake):
    """A connection that accepts permessage-deflate; comes before its relay among the bases."""

    deflates = False
    """Whether frames to the client are compressed."""

    maxMessagePayloadSize: int  # noqa: N815
    outbox: Any
    _close: Callable[[int, str], None]

    def _consider(
        self, request: ConnectionRequest, path: str, host: str | None = None
    ) -> "Deferred[None]":
        agreed = agree(self.websocket_extensions)
        if agreed is not None:
            self.extension, self.deflates = agreed
        return super()._consider(request, path, host)

    def onOpen(self) -> None:
        """The handshake is answered."""
        if self.extension:
            private.set_extension(self, _UNCHANGED)
        super().onOpen()

    def opened(self) -> None:
        """The handshake is answered, and nothing has been sent yet."""
        self.outbox.deflates = self.deflates
        super().opened()  # type: ignore[misc]

    def send(self, frame: bytes) -> None:
        """Sends a complete frame, compressed if that makes it shorter."""
        super().send(deflated(frame) if self.deflates else frame)  # type: ignore[misc]

    def onMessageBegin(self, isBinary: bool) -> None:
        """The first frame of a message has begun."""
        super().onMessageBegin(isBinary)
        if private.is_compressed(self):
            private.leave_text_unchecked(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """The last frame of a message has ended: inflates it."""
        if private.is_compressed(self):
            try:
                payload = inflate(payload, self.maxMessagePayloadSize)
                if not isBinary:
                    payload.decode()
            except TooBigError:
                limit = self.maxMessagePayloadSize
                self._close(TOO_BIG, f"a message is over {limit} bytes when inflated")
            except (zlib.error, UnicodeDecodeError) as error:
                self._close(INVALID, f"a compressed message is invalid: {error}")
        # no longer open, it is not looked at
        super().onMessage(payload, isBinary)


_UNCHANGED = _Unchanged()
