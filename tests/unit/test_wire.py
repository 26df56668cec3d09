"""Payloads: every parser against any bytes, every encoder against another decoder."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relayd import wire
from relayd.errors import ClientError, ErrorCode
from relayd.native.framing import text_frame
from tests.unit.payloads import DECODERS, PIECES, is_object

decoders = pytest.mark.parametrize("code", DECODERS)
# pytest-twisted wraps a test of hypothesis once for each of its parameters and then fails
codes = st.sampled_from(list(DECODERS))

any_bytes = st.one_of(
    st.binary(),
    st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode()),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("xyzab"), inner),
    ).map(lambda value: json.dumps(value).encode()),
)
coordinates = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), st.none()
)
others = st.dictionaries(
    st.text().filter(lambda name: name not in ("x", "y", "z", "difficulty", "message")),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8),
    max_size=5,
)


def error_of(decode: Callable[[bytes], Any], payload: bytes) -> str:
    """The code with which a payload is answered."""
    with pytest.raises(ClientError) as caught:
        decode(payload)
    assert caught.value.message.endswith(".")
    return caught.value.code.value


@given(code=codes, payload=any_bytes)
@example(code="bad_message", payload=b"")
@example(code="bad_pose", payload=b'{"x":1e400}')
@example(code="bad_difficulty", payload=b"[" * 100_000)
def test_any_bytes_are_a_value_or_a_client_error(code: str, payload: bytes) -> None:
    """The error is `bad_json` exactly for payloads other than a JSON object in UTF-8."""
    try:
        DECODERS[code](payload)
    except ClientError as error:
        got = error.code.value
    else:
        assert is_object(payload) or not payload.decode().strip()
        return
    assert got == (code if is_object(payload) else "bad_json")


@given(coordinates, coordinates, coordinates, others)
def test_a_pose_comes_out_with_the_same_numbers_and_nothing_else(
    x: float | None, y: float | None, z: float | None, more: dict[str, Any]
) -> None:
    payload = json.dumps({**more, "x": x, "y": y, "z": z}).encode()
    pose = wire.decode_pose(payload)
    assert pose is not None
    out = json.loads(wire.encode(pose))
    assert list(out) == ["x", "y", "z"]
    for got, sent in zip(out.values(), (x, y, z), strict=True):
        assert got == sent
        if isinstance(sent, float):
            assert math.copysign(1, got) == math.copysign(1, sent)


@given(st.sets(st.sampled_from("xyz")))
def test_a_missing_coordinate_is_null(present: set[str]) -> None:
    pose = wire.decode_pose(json.dumps(dict.fromkeys(present, 1)).encode())
    assert json.loads(wire.encode(pose)) == {n: 1 if n in present else None for n in "xyz"}


@pytest.mark.parametrize("value", ['"1"', "true", "false", "[1]", "{}", '""', '"NaN"'])
@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_a_coordinate_other_than_a_number_is_a_bad_pose(name: str, value: str) -> None:
    assert error_of(wire.decode_pose, f'{{"{name}":{value}}}'.encode()) == "bad_pose"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 5000])
def test_a_number_that_cannot_be_forwarded_is_a_bad_pose(number: str) -> None:
    assert error_of(wire.decode_pose, f'{{"x":{number}}}'.encode()) == "bad_pose"


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "nan", "01", "+1", ".5", "1.", "0x1", "1_0", "--1"]
)
@decoders
def test_a_number_that_json_does_not_know_is_bad_json(code: str, number: str) -> None:
    for name in ("x", "difficulty", "other"):
        assert error_of(DECODERS[code], f'{{"{name}":{number}}}'.encode()) == "bad_json"


@given(st.integers(-(10**30), 10**30), others)
def test_a_difficulty_may_be_any_integer(difficulty: int, more: dict[str, Any]) -> None:
    payload = json.dumps({**more, "difficulty": difficulty}).encode()
    assert wire.decode_difficulty(payload) == wire.DifficultyRequest(difficulty)


@pytest.mark.parametrize("value", ["1.5", '"1"', "true", "null", "[1]", "{}", "1" + "0" * 5000])
def test_a_difficulty_other_than_an_integer_is_a_bad_difficulty(value: str) -> None:
    payload = f'{{"difficulty":{value}}}'.encode()
    assert error_of(wire.decode_difficulty, payload) == "bad_difficulty"


def test_a_missing_difficulty_is_a_bad_difficulty() -> None:
    assert error_of(wire.decode_difficulty, b'{"Difficulty":1}') == "bad_difficulty"


@given(st.text(), others)
def test_a_chat_text_is_not_changed(text: str, more: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        payload = json.dumps({**more, "message": text}, ensure_ascii=ascii_only).encode()
        found = wire.decode_chat(payload)
        assert found is not None
        assert found.message == text


@pytest.mark.parametrize("tag", ["1", "{}", '["a"]', "true", f'"{"x" * 65}"'])
def test_a_tag_is_a_string_of_up_to_64_characters(tag: str) -> None:
    assert error_of(wire.decode_chat, b'{"message":"a","tag":%b}' % tag.encode()) == "bad_message"
    for good in ('""', "null", f'"{"é" * 64}"'):
        assert wire.decode_chat(b'{"message":"a","tag":%b}' % good.encode()) is not None


@pytest.mark.parametrize("value", ["1", "true", "null", '["a"]', "{}"])
def test_a_chat_text_other_than_a_string_is_a_bad_message(value: str) -> None:
    assert error_of(wire.decode_chat, f'{{"message":{value}}}'.encode()) == "bad_message"


@given(code=codes, blank=st.text("".join(c for c in map(chr, range(0x3001)) if c.isspace())))
def test_a_blank_frame_is_parsed_as_nothing(code: str, blank: str) -> None:
    """Empty, or any of Unicode's white space."""
    assert DECODERS[code](blank.encode()) is None
    assert wire.is_blank(blank.encode())


@pytest.mark.parametrize(
    "payload",
    ["\ufeff", "\u200b", "\x00", "\u2060", "\u00ad"],
    ids=["byte order mark", "zero width space", "NUL", "word joiner", "soft hyphen"],
)
@decoders
def test_a_frame_that_only_looks_blank_is_bad_json(code: str, payload: str) -> None:
    assert error_of(DECODERS[code], payload.encode()) == "bad_json"
    assert not wire.is_blank(payload.encode())


@given(
    code=codes,
    valid=st.sampled_from([b'{"x":1,', b'{"difficulty":1,', b'{"message":"a",']),
    bad=st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"]),
    key=st.booleans(),
)
def test_bytes_that_are_not_utf8_are_bad_json_wherever_they_stand(
    code: str, valid: bytes, bad: bytes, key: bool
) -> None:
    """This holds inside members that relayd ignores, too."""
    member = b'"%s":1' % bad if key else b'"other":["%s"]' % bad
    assert error_of(DECODERS[code], valid + member + b"}") == "bad_json"


@decoders
@pytest.mark.parametrize("depth", [100_000, 1_000_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("whole", [True, False])
def test_deep_nesting_is_bad_json(
    code: str, depth: int, opens: str, closes: str, whole: bool
) -> None:
    payload = '{"other":' + opens * depth + ("1" + closes * depth + "}" if whole else "")
    assert error_of(DECODERS[code], payload.encode()) == "bad_json"


def test_nesting_of_a_usual_depth_is_accepted() -> None:
    payload = b'{"other":' + b"[" * 100 + b"]" * 100 + b',"x":1}'
    assert wire.decode_pose(payload) == wire.Pose(x=1)


@given(
    st.dictionaries(st.text(max_size=8) | st.just("sender"), st.integers() | st.just({})),
    st.sampled_from(["", " ", "\n\t "]),
    st.none() | st.just("9c1f0a6b72de"),
)
def test_the_name_of_a_sender_is_one_more_member_of_any_object(
    value: dict[str, Any], blank: str, sender: str | None
) -> None:
    text = json.dumps(value)
    payload = f"{text[:-1]}{blank}}}{blank}".encode()
    assert json.loads(wire.add_sender(payload, sender)) == {**value, "sender": sender}


def test_the_last_of_two_equal_coordinate_names_counts() -> None:
    """RFC 8259 section 4 leaves it open; browsers and Python take the last one."""
    assert wire.decode_pose(b'{"x":1,"y":5,"x":2}') == wire.Pose(x=2, y=5)
    assert error_of(wire.decode_pose, b'{"x":1,"x":"a"}') == "bad_pose"


def test_names_may_be_written_with_escapes() -> None:
    assert wire.decode_pose(rb'{"\u0078":1}') == wire.Pose(x=1)


@pytest.mark.parametrize(
    "payload", [b"[1]", b"1", b"null", b'"x"', b'{"x":1}{"x":2}', b"{", b"{}x"]
)
@decoders
def test_a_frame_that_is_not_one_object_is_bad_json(code: str, payload: bytes) -> None:
    assert error_of(DECODERS[code], payload) == "bad_json"


@given(any_bytes)
def test_an_object_to_publish_is_forwarded_byte_for_byte_or_refused(payload: bytes) -> None:
    if is_object(payload):
        assert wire.check_object(payload) == payload
    else:
        assert error_of(wire.check_object, payload) == "bad_json"


# Positions in frames


@given(st.integers(0, 2**63 - 1), st.integers(0, 70_000))
def test_the_position_of_a_chat_message_is_read_from_its_frame(position: int, size: int) -> None:
    entry = wire.ChatDraft.of("x" * size, 0, "ada").entry(position)
    assert wire.read_position(text_frame(entry.body)) == position


@pytest.mark.parametrize("payload", [b"", b"1", b"[1]", b'{"id":"1"}', wire.GAP])
def test_a_frame_without_a_chat_message_has_position_0(payload: bytes) -> None:
    assert wire.read_position(text_frame(payload)) == 0


# What is sent


def test_an_error_is_one_flat_object_with_code_and_sentence() -> None:
    sentence = 'It said "no".\n\u2028'
    assert json.loads(wire.encode_error(ErrorCode.BAD_JSON, sentence)) == {
        "error": "bad_json",
        "message": sentence,
    }
    answer = {"status": "error", "error": "no_unity", "message": sentence}
    encode = wire.encode_not_received
    assert json.loads(encode(ErrorCode.NO_UNITY, sentence, "")) == answer
    assert json.loads(encode(ErrorCode.NO_UNITY, sentence, "\n")) == {**answer, "tag": "\n"}
    notice = json.loads(wire.encode_notice(ErrorCode.NO_UNITY, sentence))
    assert notice == {**answer, "status": "notice"}


def test_prebuilt_frames_match_the_contract() -> None:
    assert json.loads(wire.encode_received("")) == {"status": "received"}
    assert json.loads(wire.encode_received("é")) == {"status": "received", "tag": "é"}
    assert json.loads(wire.UNITY_CONNECTED) == {"status": "unity_connected"}
    assert json.loads(wire.UNITY_DISCONNECTED) == {"status": "unity_disconnected"}
    gap = json.loads(wire.GAP)
    assert (gap.pop("gap"), gap.pop("error")) == (True, "gap")
    assert list(gap) == ["message"]
    assert gap["message"].endswith(".")


def test_an_assignment_has_the_two_members_of_the_contract() -> None:
    encoded = wire.encode(wire.Assignment(quiz_id=[1, 2, 3], action_id=1))
    assert json.loads(encoded) == {"quiz_id": [1, 2, 3], "action_id": 1}


@pytest.mark.parametrize("user", [None, "", "ada"])
def test_a_chat_message_names_its_user_only_where_there_is_one(user: str | None) -> None:
    out = json.loads(wire.ChatDraft.of("hi", 0, user).entry(7).body)
    expected: dict[str, Any] = {"message": "hi", "id": 7, "time": "1970-01-01T00:00:00.000Z"}
    assert out == (expected if user is None else {**expected, "user": user})


@given(st.text(), st.integers(0, 2**53), st.integers(0, 4_102_444_800_000), st.text())
def test_the_id_of_a_chat_message_stands_between_head_and_tail(
    text: str, id: int, time: int, user: str
) -> None:
    """The script that keeps a message in Redis joins the three by itself."""
    draft = wire.ChatDraft.of(text, time, user)
    entry = draft.entry(id)
    assert (entry.id, entry.body) == (id, draft.head + str(id).encode() + draft.tail)
    stamp = datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")
    fields = {"message": text, "id": id, "time": stamp.replace("+00:00", "Z"), "user": user}
    assert entry.body == wire.encode(fields)
