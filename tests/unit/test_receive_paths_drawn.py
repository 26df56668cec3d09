"""Both receive paths of a connection have the same effect for 10,000 drawn streams and 300 others.

A stream is drawn from its number, so every run compares the same; the others are long frames.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frames import BINARY, TEXT, frame
from tests.unit.receive_paths import MASKS, UNICODE, Pair, cut, drawn_case, smallest

STREAMS = 10_000
AT_ONCE = 500
"""Streams that one test compares; a worker of pytest-xdist takes a test."""


@pytest.mark.parametrize("first", range(0, STREAMS, AT_ONCE))
def test_both_paths_have_the_same_effect(first: int) -> None:
    for number in range(first, first + AT_ONCE):
        pair, segments, resume_every = drawn_case(number)
        try:
            pair.check(segments, resume_every)
        except AssertionError as error:
            least = smallest(pair, segments, resume_every)
            error.add_note(f"stream {number}: {segments}, read again after every {resume_every}")
            error.add_note(f"the same without what is not needed: {least}")
            raise


@settings(max_examples=300, derandomize=True, database=None)
@given(
    st.sampled_from((TEXT, TEXT, BINARY)),
    st.sampled_from((125, 126, 127, 65_535, 65_536)),
    st.sampled_from((0, 126, 127)),
    st.sampled_from(MASKS),
    st.sampled_from((b"", UNICODE, b"\xff", b"\xc3")),
    st.sampled_from((Pair(65_535), Pair(65_536), Pair(1 << 20))),
    st.lists(
        st.one_of(st.integers(0, 16), st.integers(-16, 0), st.integers(0, 65_536)), max_size=5
    ),
)
def test_both_paths_have_the_same_effect_for_long_frames_between_short_ones(
    opcode: int, length: int, header: int, mask: bytes, last: bytes, pair: Pair, places: list[int]
) -> None:
    short = frame(TEXT, b"short", mask=mask)
    payload = b"l" * (length - len(last)) + last
    stream = short + frame(opcode, payload, mask=mask, header=header) + short
    pair.check(cut(stream, places))
