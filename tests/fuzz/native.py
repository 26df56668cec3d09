"""The compiled readers of frames, beside the same in plain Python.

Fed from bytes objects of exactly the size, so that the address sanitizer sees a read behind them,
and through a socket, as the loop does.
"""

import itertools
import socket
import zlib
from collections.abc import Iterable
from typing import Any

from relayd.native.framing import (
    LONGEST_SHORT_PAYLOAD,
    binary_frame,
    missing_of_head,
    payload_of,
    read_frames,
    text_frame,
)
from relayd.native.inlet import Inlet
from relayd.native.reading import Turns
from tests.frames import TEXT, frame
from tests.unit.fakes import InletOwner
from tests.unit.receive_paths import BROKEN, CONTROL, SPLIT, WELL_MADE, cut, right


def places(data: bytes) -> tuple[list[int], bytes]:
    """Where a stream is cut, and the stream: the first byte says how many places follow it."""
    count = data[0] % 4
    return list(data[1 : 1 + count]), data[1 + count :]


def segments(data: bytes) -> list[bytes]:
    """An input as segments."""
    cuts, stream = places(data)
    return cut(stream, cuts)


# -- the inlet


class _Owner(InletOwner):
    """Notes what an inlet does, as short frames and other bytes, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, bytes]] = []

    def receive(self, payload: bytes, is_binary: bool) -> None:
        payload.decode()
        assert not is_binary
        self.done.append(("message", payload))
        if payload[:1] == b"R":
            raise RuntimeError("a bug")

    def parse(self, data: bytes) -> None:
        self.done.append(("rest", data))

    def failed(self) -> None:
        self.done.append(("failed", b""))


def streams() -> Iterable[bytes]:
    """The pieces of the tests of both receive paths."""
    short = frame(TEXT, b"hi")
    for number, piece in enumerate((*WELL_MADE, *SPLIT, *CONTROL, *BROKEN)):
        yield bytes([number % 256, number % 3, 5, 9][: 2 + number % 3]) + piece + short


def check_inlet(data: bytes) -> None:
    """The compiled inlet takes the short frames that plain Python takes, and leaves all else."""
    if len(data) < 2:
        return
    longest = data[0] & 0x7F
    longest = min(longest, LONGEST_SHORT_PAYLOAD)
    pieces = segments(data[1:])
    owner = _Owner()
    inlet: Any = Inlet(owner)
    inlet.short, inlet.longest, inlet.receive = True, longest, owner.receive
    if data[0] & 0x80:
        _feed_through_socket(inlet, pieces)
    else:
        for piece in pieces:
            inlet.feed(piece, 10**12)
    assert _joined(owner.done) == _joined(_expected(pieces, longest))


def _feed_through_socket(inlet: Any, pieces: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        inlet.descriptor = ours.fileno()
        ended: list[object] = []
        turns = Turns(-1, {}, lambda inlet, reason: ended.append(reason))
        for piece in pieces:
            theirs.sendall(piece)
            turns.read_one(inlet)
            while inlet.waits:
                turns.read_one(inlet)
        assert ended == []


def _expected(pieces: list[bytes], longest: int) -> list[tuple[str, bytes]]:
    done: list[tuple[str, bytes]] = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            found = right(piece, at, longest)
            if found is None:
                part = piece[at : at + 512] if longest else piece[at:]
                done.append(("rest", part))
                at += len(part)
                continue
            payload, at = found
            done.append(("message", payload))
            if payload[:1] == b"R":
                done.append(("failed", b""))
    return done


def _joined(done: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The same with neighbouring bytes for the owner's parser joined."""
    found: list[tuple[str, bytes]] = []
    for kind, group in itertools.groupby(done, key=lambda each: each[0]):
        if kind == "rest":
            found.append((kind, b"".join(data for _, data in group)))
        else:
            found += group
    return found


# -- framing


def frames() -> Iterable[bytes]:
    """Frames of a server with lengths of every form, and their beginnings."""
    for length in (0, 1, 125, 126, 127, 300):
        whole = text_frame(b"t" * length) + binary_frame(b"b" * length)
        yield whole
        yield whole[:-1]
    yield b"\x82\x7f" + (2**63).to_bytes(8) + b"abc"
    yield from (piece for piece in WELL_MADE[:20])


def check_framing(data: bytes) -> None:
    """Frames are read as in plain Python, and written so that they are read again."""
    expected = _plain_frames(data)
    try:
        found = read_frames(data)
    except ValueError:
        found = None
    assert found == expected
    try:
        payload: bytes | None = bytes(payload_of(data))
    except ValueError:
        payload = None
    assert payload == _plain_payload(data)
    assert 1 <= missing_of_head(data[:13]) <= LONGEST_MISSING
    both = text_frame(data) + binary_frame(data)
    assert read_frames(both) == [(1, data), (2, data)]


LONGEST_MISSING = 14


def _plain_payload(data: bytes, at: int = 0) -> bytes | None:
    """The payload of the frame that begins there; None if it is masked or not whole."""
    if len(data) < at + 2 or data[at + 1] & 0x80:
        return None
    size = {126: 2, 127: 8}.get(data[at + 1], 0)
    head = data[at + 2 : at + 2 + size]
    length = int.from_bytes(head) if size else data[at + 1]
    payload = data[at + 2 + size : at + 2 + size + length]
    return payload if len(head) == size and len(payload) == length else None


def _plain_frames(data: bytes) -> list[tuple[int, bytes]] | None:
    at, found = 0, []
    while at < len(data):
        payload = _plain_payload(data, at)
        if payload is None:
            return None
        head = 2 + {126: 2, 127: 8}.get(data[at + 1], 0)
        inflated = payload
        if data[at] & 0x40:
            try:
                inflated = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
            except zlib.error:
                return None
        found.append((data[at] & 0x0F, inflated))
        at += head + len(payload)
    return found
