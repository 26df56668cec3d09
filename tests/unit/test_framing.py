"""The head of a WebSocket frame, written and read (RFC 6455 section 5.2)."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from relayd.native.framing import (
    LONGEST_SHORT_PAYLOAD,
    OPCODE_NAMES,
    PING_FRAME,
    binary_frame,
    missing_of_head,
    payload_of,
    read_frames,
    text_frame,
)
from relayd.native.inlet import Inlet
from tests.unit.fakes import InletOwner, mask_frame, parse_frames, unmasked_frame

LENGTHS = [0, 1, 2, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 100_000]
"""Those around which the length takes more bytes, above all."""

CONTROL = (Opcode.CLOSE, Opcode.PING, Opcode.PONG)
any_payload = st.one_of(st.binary(max_size=300), st.sampled_from(LENGTHS).map(bytes))
any_frame = st.one_of(
    st.tuples(st.sampled_from([each for each in Opcode if each not in CONTROL]), any_payload),
    # section 5.5: a control frame has at most 125 bytes of payload
    st.tuples(st.sampled_from(CONTROL), st.binary(max_size=125)),
)


def numbered(length: int) -> bytes:
    """A payload in which no part looks like another one."""
    return bytes(number % 251 for number in range(length))


# -- written


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("encode", "opcode"), [(text_frame, Opcode.TEXT), (binary_frame, Opcode.BINARY)]
)
def test_a_frame_of_every_length_is_read_by_another_decoder(
    encode: Callable[[bytes], bytes], opcode: Opcode, length: int
) -> None:
    payload = numbered(length)
    assert parse_frames(encode(payload)) == [(opcode, payload)]


@given(st.lists(st.binary(max_size=300)))
def test_consecutive_frames_are_read(payloads: list[bytes]) -> None:
    data = b"".join(text_frame(payload) for payload in payloads)
    assert parse_frames(data) == [(Opcode.TEXT, payload) for payload in payloads]


@pytest.mark.parametrize("encode", [text_frame, binary_frame])
def test_the_length_is_written_in_the_fewest_bytes(encode: Callable[[bytes], bytes]) -> None:
    """RFC 6455 section 5.2: the minimal number of bytes MUST be used."""
    lengths = (0, 125, 126, 65535, 65536)
    overhead = [len(encode(bytes(length))) - length for length in lengths]
    assert overhead == [2, 2, 4, 4, 10]


def test_our_ping_is_a_whole_ping_without_a_payload() -> None:
    assert parse_frames(PING_FRAME) == [(Opcode.PING, b"")]


# -- read


@given(st.lists(any_frame, max_size=5))
def test_frames_that_another_encoder_wrote_are_taken_apart(
    frames: list[tuple[Opcode, bytes]],
) -> None:
    data = b"".join(unmasked_frame(opcode, payload) for opcode, payload in frames)
    assert read_frames(data) == frames


@given(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(LENGTHS).map(numbered))))
def test_reading_is_the_inverse_of_writing(payloads: list[bytes]) -> None:
    data = b"".join(text_frame(each) + binary_frame(each) for each in payloads)
    assert read_frames(data) == [(opcode, each) for each in payloads for opcode in (1, 2)]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_payload_of_a_frame_is_a_view_of_it(length: int) -> None:
    frame = text_frame(numbered(length))
    payload = payload_of(frame)
    assert payload.obj is frame
    assert bytes(payload) == numbered(length)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("read", [read_frames, payload_of])
def test_a_part_of_a_frame_is_not_read_as_a_whole_one(
    read: Callable[[bytes], object], length: int
) -> None:
    frame = binary_frame(bytes(length))
    for end in {*range(1, min(len(frame), 16)), len(frame) - 1}:
        with pytest.raises(ValueError, match="not whole"):
            read(frame[:end])


@pytest.mark.parametrize("told", [2**15, 2**63 - 11, 2**63, 2**64 - 1])
def test_a_frame_whose_length_exceeds_the_bytes_is_not_whole(told: int) -> None:
    with pytest.raises(ValueError, match="not whole"):
        read_frames(b"\x82\x7f" + told.to_bytes(8) + b"abc")


def test_a_masked_frame_is_not_read_as_a_server_frame() -> None:
    with pytest.raises(ValueError, match="masked"):
        read_frames(text_frame(b"1") + mask_frame(1, b"2"))


def test_every_opcode_of_the_specification_has_its_name() -> None:
    assert {code: code.name.lower() for code in Opcode} == {
        code: {"continuation": "cont"}.get(name, name) for code, name in OPCODE_NAMES.items()
    }


# -- what a client sends


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_the_missing_part_of_a_head_never_reaches_into_the_payload(
    opcode: Opcode, length: int
) -> None:
    frame = mask_frame(opcode, bytes(length))
    head = len(frame) - length
    at, steps = 1, 0
    while at < head:
        at += missing_of_head(frame[:at])
        steps += 1
    assert at == head
    assert steps <= 2, "the first bytes tell how long it is"


def test_at_least_one_byte_of_a_head_is_missing() -> None:
    assert missing_of_head(mask_frame(1, b"")) == 1


class Owner(InletOwner):
    """Notes what an inlet does not read by itself."""

    def __init__(self) -> None:
        self.parsed: list[bytes] = []

    def parse(self, data: bytes) -> None:
        self.parsed.append(data)


def read_short(
    data: bytes, longest: int = LONGEST_SHORT_PAYLOAD
) -> tuple[list[bytes], list[bytes]]:
    """What an inlet takes of some bytes, and what it leaves to its owner."""
    taken: list[bytes] = []
    owner = Owner()
    inlet = Inlet(owner)
    inlet.short, inlet.longest = True, longest
    inlet.receive = lambda payload, is_binary: taken.append(payload)
    inlet.feed(data, 10**12)
    return taken, owner.parsed


@given(st.lists(st.text(max_size=125), max_size=5))
def test_short_text_frames_are_read_as_another_encoder_masked_them(texts: list[str]) -> None:
    payloads = [text.encode()[:125].decode(errors="ignore").encode() for text in texts]
    assert read_short(b"".join(mask_frame(1, each) for each in payloads)) == (payloads, [])


@pytest.mark.parametrize("longest", [1, 124, 125])
def test_a_text_frame_is_short_up_to_its_longest_payload(longest: int) -> None:
    fits, longer = mask_frame(1, b"x" * longest), mask_frame(1, b"x" * (longest + 1))
    assert read_short(fits, longest) == ([b"x" * longest], [])
    assert read_short(longer, longest) == ([], [longer])


@pytest.mark.parametrize("opcode", [each for each in Opcode if each is not Opcode.TEXT])
def test_every_other_kind_of_frame_is_left_to_the_parser(opcode: Opcode) -> None:
    frame = mask_frame(opcode, b"{}")
    assert read_short(frame) == ([], [frame])


@pytest.mark.parametrize("length", [0, 1, 8, 125])
def test_a_part_of_a_short_frame_is_left_to_the_parser(length: int) -> None:
    frame = mask_frame(1, b"x" * length)
    for end in range(1, len(frame)):
        assert read_short(frame[:end]) == ([], [frame[:end]])


@pytest.mark.parametrize(
    "frame",
    [
        mask_frame(1, b"a", fin=False),
        text_frame(b"a"),
        b"\xc1" + mask_frame(1, b"a")[1:],
        mask_frame(1, b"\xff"),
        mask_frame(1, b"12345678\xed\xa0\x80"),
    ],
    ids=["a fragment", "not masked", "a reserved bit", "not UTF-8", "a surrogate"],
)
def test_wrong_and_unusual_frames_are_left_to_the_parser(frame: bytes) -> None:
    assert read_short(frame) == ([], [frame])
