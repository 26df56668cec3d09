"""What a connection sends: request heads, whole HTTP exchanges, and frames.

Each head and each stream of frames goes through both ways that relayd has for it, its own and
Autobahn's, which must agree.
"""

from collections.abc import Iterable
from typing import Any

from relayd.close_codes import CloseCode
from relayd.errors import ErrorCode
from relayd.native.framing import read_frames
from tests.frames import TEXT, frame
from tests.fuzz.native import places, segments
from tests.fuzz.street import Street
from tests.unit.doors import CONFIG, SEQUENCES
from tests.unit.fakes import logged_failures
from tests.unit.opening_ways import (
    BEHIND,
    CLIENTS,
    ENDS,
    ERRORS,
    KEY,
    SINGLE,
    WAYS,
    head,
)
from tests.unit.receive_paths import (
    BINARIES,
    BROKEN,
    CLOSES,
    COMPRESSED,
    CONTROL,
    PAIRS,
    SPLIT,
    WELL_MADE,
    cut,
)

STATUSES = {101, 200, 301, 302, 304, 505, *(code.status for code in ErrorCode)}
OUR_CLOSES = {1002, 1007, 1009, *CloseCode}
"""Codes with which relayd closes a connection (RFC 6455 section 7.4.1, and its own)."""
LONGEST_HEAD = 14
"""Bytes of the longest frame head: more of a frame never waits to be parsed."""


# -- heads


def heads() -> Iterable[bytes]:
    """Every oddity of the unit tests, the heads of clients, frames behind a head."""
    for number, each in enumerate(SINGLE):
        yield bytes([number % 8, 0]) + each
    for behind in BEHIND:
        yield bytes([0, 0]) + head() + behind
    for lines in CLIENTS.values():
        key = b"Host: relay.example:8080\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
        yield bytes([0, 1, 40]) + b"GET /ws/camera?token=a HTTP/1.1\r\n" + key + lines + b"\r\n"


def check_head(data: bytes) -> None:
    """Both ways through the handshake have the same effect, and a documented answer."""
    if len(data) < 2:
        return
    end = ("", *ENDS)[data[0] % (len(ENDS) + 1)]
    cuts, stream = places(data[1:])
    if not stream:
        return
    usual = WAYS.check(stream, cuts, end)
    for error in ERRORS.values():
        error.__traceback__ = None  # one object for all inputs: it would grow
    written = b"".join(event[1] for event in usual.factory.events if event[0] == "write")
    check_answer(written)


def check_answer(written: bytes) -> None:
    """What was answered begins with a status that docs/protocol.md knows, if anything was."""
    if not written:
        return
    version, status, *_ = written.split(b" ", 2)
    assert version in (b"HTTP/1.1", b"HTTP/1.0"), written[:80]
    assert int(status[:3]) in STATUSES, written[:80]


# -- the door


_street: Street | None = None


def requests() -> Iterable[bytes]:
    """Exchanges of the unit tests, and calls of the HTTP API."""
    for stream in SEQUENCES.values():
        yield bytes([0]) + stream
        yield bytes([1, 30]) + stream
    for target, body in (
        (b"/api/groups/camera/a", b'{"x":1}'),
        (b"/api/rooms/lobby", b'{"message":"hi"}'),
        (b"/api/groups/push/a", b"{}"),
    ):
        for key in (b"a key", b"another"):
            yield (
                b"\0POST " + target + b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + key
                + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )  # fmt: skip
    # found: UnicodeDecodeError where a list header is read
    yield b"\0GET / HTTP/1.1\r\nHost: \xff\r\nX-Forwarded-For: \xff\r\n\r\n"
    for page in (b"/", b"/metrics", b"/readyz", b"/static/page.css", b"/static/../x", b"/%2e%2e/"):
        yield b"\0GET " + page + b" HTTP/1.1\r\nHost: a\r\nCookie: a=b; c\r\n\r\n"


def check_door(data: bytes) -> None:
    """Nothing fails, an answer is documented, a head has a bound and a deadline."""
    global _street
    if not data:
        return
    if _street is None:
        _street = Street(CONFIG)
    street, _street = _street, None
    with logged_failures() as failures:
        caller = street.visit(segments(data))
        check_answer(caller.transport.arrived)
        street.leave(caller)
    assert failures == [], failures
    _street = street


# -- frames


def streams() -> Iterable[bytes]:
    """The pieces of the tests of both receive paths, each with a short frame before and behind."""
    short = frame(TEXT, b"hi")
    for number, piece in enumerate((*WELL_MADE, *SPLIT, *CONTROL, *BROKEN, *CLOSES, *BINARIES)):
        yield bytes([number % 256, number % 3, 5, 9][: 2 + number % 3]) + short + piece + short
    for number, piece in enumerate(COMPRESSED):
        yield bytes([len(PAIRS) - 1 - number % 2, number % 2, 20][: 2 + number % 2]) + piece + short


def check_stream(data: bytes) -> None:
    """Both receive paths have the same effect; buffers and close codes are bounded."""
    if len(data) < 2:
        return
    pair, resume_every = PAIRS[data[0] % len(PAIRS)], data[0] // len(PAIRS) % 4
    cuts, stream = places(data[1:])
    for event in pair.check(cut(stream, cuts), resume_every):
        if event[0] == "write":
            read_frames(event[1])  # whole frames, whatever came
        elif event[0] in ("read", "end"):
            _check_state(event[1])


def _check_state(state: tuple[Any, ...]) -> None:
    _state, _alive, _reading, _clean, failed_by_me, code, _reason, *_, rest = state
    if failed_by_me:
        assert code in OUR_CLOSES, code
    if rest:
        assert len(rest[0]) <= LONGEST_HEAD + 125, "what waits to be parsed has a bound"
