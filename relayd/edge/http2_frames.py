"""The heads of the frames of HTTP/2 (RFC 9113 section 4.1), looked at before `h2` gets the bytes.

Under `http2`. The library refuses a frame that is too long only when all of it has come (16 MB),
and collects 64 frames of one head (1 MB) before it looks at their size.
"""

from h2.errors import ErrorCodes

LONGEST = 16384
"""Bytes of a frame; what a peer may send without our leave (section 4.2)."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_HEAD = 9
_HEADERS, _CONTINUATION = 1, 9
_END_HEADERS = 4


class Overlong(Exception):
    """A frame, or the head of a request, is over its limit.

    Attributes:
        code: what the peer is told.
    """

    def __init__(self, code: ErrorCodes) -> None:
        super().__init__(code)
        self.code = code


class Frames:
    """The frames of a peer, from its preface on.

    Args:
        max_head: the largest head of a request, in bytes.
    """

    def __init__(self, max_head: int) -> None:
        self._max_head = max_head
        self._rest = len(PREFACE)  # of the present frame
        self._head = b""
        self._of_request = 0

    def look(self, data: bytes) -> int:
        """Looks at the next bytes.

        Returns:
            The number of frames whose head ends in them.

        Raises:
            Overlong: a limit is passed; the bytes must not be used.
        """
        count = at = 0
        while at < len(data):
            if self._rest:
                passed = min(self._rest, len(data) - at)
                self._rest -= passed
                at += passed
                continue
            missing = data[at : at + _HEAD - len(self._head)]
            self._head += missing
            at += len(missing)
            if len(self._head) == _HEAD:
                count += 1
                self._begin(self._head)
                self._head = b""
        return count

    def _begin(self, head: bytes) -> None:
        self._rest = int.from_bytes(head[:3])
        if self._rest > LONGEST:
            raise Overlong(ErrorCodes.FRAME_SIZE_ERROR)
        kind, flags = head[3], head[4]
        if kind in (_HEADERS, _CONTINUATION):
            # what is compressed is not longer than what is counted (section 6.5.2)
            self._of_request = self._rest + (self._of_request if kind == _CONTINUATION else 0)
            if self._of_request > self._max_head:
                raise Overlong(ErrorCodes.ENHANCE_YOUR_CALM)
            if flags & _END_HEADERS:
                self._of_request = 0
