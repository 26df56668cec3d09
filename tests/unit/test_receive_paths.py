"""The two receive paths of a connection have the same effect for every input (RFC 6455).

Here for every kind of frame, cut at every place, and for readers that are wrong, which must be
found; `test_receive_paths_drawn` compares drawn streams.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest

from relayd.config import Limits
from relayd.connection import receiving
from tests.frames import CLOSE, PING, TEXT, frame
from tests.unit.receive_paths import (
    ABORT,
    BROKEN,
    CLOSES,
    COMPRESSED,
    CONTROL,
    HOLD,
    PAIRS,
    PAUSE,
    RAISE,
    REFUSE,
    SHUT,
    SILENT,
    SPLIT,
    WELL_MADE,
    Pair,
    Relay,
    Side,
    cut,
    drawn_case,
    right,
)

PIECES = tuple(
    dict.fromkeys((*WELL_MADE[::4], *SPLIT[::3], *CONTROL, *BROKEN, *CLOSES, *COMPRESSED[::7]))
)
PARTS = 4
"""So many tests share the pieces; a worker of pytest-xdist takes a test."""


@pytest.mark.parametrize("part", range(PARTS))
def test_both_paths_have_the_same_effect_for_every_piece_cut_at_every_place(part: int) -> None:
    """Every kind of frame between two short ones, in two segments."""
    short = frame(TEXT, b"hi")
    for piece in PIECES[part::PARTS]:
        pair = PAIRS[-2 if piece in COMPRESSED else 0]
        stream = (short + piece + short)[:50]
        for at in range(len(stream)):
            pair.check(cut(stream, [at]))


@pytest.mark.parametrize("size", [1000, 1001, 4096, 1 << 20])
@pytest.mark.parametrize("first", [b"", frame(PING, b""), frame(TEXT, b"l" * 5000)])
def test_an_unusual_frame_sends_few_other_frames_through_the_parser(
    first: bytes, size: int
) -> None:
    """A client that is ahead of us fills every read, and each ends within a frame."""
    parsed: list[int] = []

    class Counting(Relay):
        def parse(self, data: bytes) -> None:
            parsed.append(len(data))
            super().parse(data)

    stream = first + b"".join(frame(TEXT, SILENT + b"x" * (number % 100)) for number in range(500))
    segments = [stream[at : at + size] for at in range(0, len(stream), size)]
    events = Side(Limits(), Counting).run(segments, 0)
    assert [len(event[1]) for event in events if event[0] == "message"][-500:] == [
        1 + number % 100 for number in range(500)
    ]
    # of the frame at each cut the begin, the rest of its head and the rest
    [_head, *parsed] = parsed
    assert sum(parsed) <= len(first) + 512 + 106 * len(segments)
    assert len(parsed) <= 3 + 3 * len(segments)


def kinds(events: list[tuple[Any, ...]]) -> list[str]:
    return [event[0] for event in events if event[0] not in ("read", "end", "late")]


ANSWERED = ["message", "write"]
# what was sent to its groups before comes before the CLOSE
CLOSED = ["left", "write"]
A, B = frame(TEXT, b"a"), frame(TEXT, b"b")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (A + B, [*ANSWERED, *ANSWERED, "left"]),
        (frame(TEXT, RAISE) + B, ["message", "failed", "write", *ANSWERED, "left"]),
        (frame(TEXT, REFUSE) + B, [*ANSWERED, *ANSWERED, "left"]),
        (frame(TEXT, SHUT) + B, ["message", "left", "write", "write", "abort"]),
        (frame(TEXT, ABORT) + B, ["message", "abort", *ANSWERED, "left"]),
        (frame(TEXT, PAUSE) + B, ["message", "pause", *ANSWERED, "resume", "left"]),
        (frame(TEXT, HOLD) * 3, ["message", "message", "message", "pause", "resume", "left"]),
        (frame(TEXT, b"\xff") + B, [*CLOSED, "abort"]),
        (frame(TEXT, b"a", mask=None) + B, [*CLOSED, "abort"]),
        (frame(CLOSE, b"") + B, [*CLOSED, "lose"]),
    ],
)
def test_the_compared_record_is_what_happens_on_the_connection(
    stream: bytes, expected: list[str]
) -> None:
    """The comparison is worth something: messages, answers and the end are in it."""
    assert kinds(PAIRS[0].check([stream])) == expected


Reader = Callable[[bytes, int, int], tuple[bytes, int] | None]


def unmasked(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes an unmasked frame for a good one."""
    if len(data) > at + 1 and data[at] == 0x81 and data[at + 1] <= longest:
        end = at + 2 + data[at + 1]
        return (data[at + 2 : end], end) if end <= len(data) else None
    return real(data, at, longest)


def unchecked(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes anything for UTF-8."""
    length = data[at + 1] & 0x7F if len(data) > at + 6 else 126
    end = at + 6 + length
    if data[at : at + 1] != b"\x81" or data[at + 1] < 0x80 or length > longest or end > len(data):
        return None
    mask = data[at + 2 : at + 6] * 32
    return bytes(a ^ b for a, b in zip(data[at + 6 : end], mask, strict=False)), end


def too_short(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Does not wait for the last byte."""
    return real(data, at, longest) or real(data + b"\0", at, longest)


def too_long(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes what is longer than a message may be."""
    return real(data, at, 125)


def continued(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Takes the first fragment for the whole."""
    if data[at] == 0x01:
        return real(data[:at] + b"\x81" + data[at + 1 :], at, longest)
    return real(data, at, longest)


def reserved(data: bytes, at: int, longest: int) -> tuple[bytes, int] | None:
    """Does not look at the reserved bits."""
    if data[at] == 0xC1:
        return real(data[:at] + b"\x81" + data[at + 1 :], at, longest)
    return real(data, at, longest)


real: Reader = right


class PlainInlet:
    """`native.inlet.Inlet` in plain Python, with a reader that can be another one."""

    def __init__(self, read: Reader, owner: Relay) -> None:
        self._read = read
        self.owner = owner
        self.receive: Any = None
        self.longest = self.received_count = self.missing = 0
        self.short = self.waits = False
        self.alive = True
        self._closed = False
        self._allowed = math.inf

    def limit(self, frames: float, size: float, seconds: Callable[[], float]) -> None:
        self._rate = frames
        self.allow()

    def allow(self) -> None:
        self._allowed = max(1, int(2 * self._rate)) if self._rate else math.inf

    def count_frame(self) -> None:
        self._allowed -= 1
        if self._allowed < 0 and not self._closed:
            self.owner.over_rate()

    def close(self, bound: int) -> None:
        self._closed = True

    def feed(self, data: bytes, turn: int) -> bool:
        self.alive = True
        at = 0
        while at < len(data):
            found = self._read(data, at, self.longest) if self.short else None
            if found is None:
                end = min(len(data), at + (self.missing or 512)) if self.longest else len(data)
                self.missing = 0
                self.owner.parse(data[at:end])
                at = end
                continue
            payload, at = found
            if self._closed:
                continue
            self.received_count += 1
            self.count_frame()
            self._receive(payload)
        return True

    def _receive(self, payload: bytes) -> None:
        if not self._closed:
            try:
                self.receive(payload, False)
            except Exception:
                self.owner.failed()


@pytest.fixture
def steps() -> list[tuple[Pair, list[bytes]]]:
    """A few hundred streams: each piece, a short one behind it, whole and cut once."""
    short = frame(TEXT, b"hi")
    return [
        (pair, cut(piece + short, places))
        for pair in (PAIRS[0], PAIRS[4])
        for piece in (*WELL_MADE, *SPLIT, *BROKEN)
        for places in ([], [len(piece) - 1])
    ]


@pytest.mark.parametrize("wrong", [unmasked, unchecked, too_short, too_long, continued, reserved])
def test_a_wrong_short_path_is_detected(
    wrong: Reader, steps: list[tuple[Pair, list[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "Inlet", functools.partial(PlainInlet, wrong))

    def find() -> None:
        for pair, segments in steps:
            pair.check(segments)

    with pytest.raises((AssertionError, IndexError)):
        find()


@pytest.mark.parametrize("wrong", [unmasked, unchecked, too_short, too_long, continued, reserved])
def test_the_drawn_streams_detect_a_wrong_short_path_early(
    wrong: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "Inlet", functools.partial(PlainInlet, wrong))

    def find() -> None:
        for number in range(1000):
            pair, segments, resume_every = drawn_case(number)
            pair.check(segments, resume_every)

    with pytest.raises((AssertionError, IndexError)):
        find()


def test_the_comparison_passes_for_a_reader_in_plain_python(
    steps: list[tuple[Pair, list[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hence the faults detected by the tests of this module are faults of the reader."""
    monkeypatch.setattr(receiving, "Inlet", functools.partial(PlainInlet, right))
    for pair, segments in steps:
        pair.check(segments)
