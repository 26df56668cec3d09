"""Group, room and UUID names as they stand in paths."""

import re
import unicodedata
import uuid as uuids
from collections.abc import Callable
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd import names
from relayd.errors import Refusal

GROUP_LETTERS = "ABCXYZabcxyz0189_-."
PARSERS = [names.parse_group, names.parse_room, names.parse_uuid]


def refused(parse: Callable[[str], str], segment: str) -> str:
    """The code with which a segment is refused; the status must be 400."""
    with pytest.raises(Refusal) as caught:
        parse(segment)
    assert caught.value.status == 400
    assert caught.value.message.endswith(".")
    return caught.value.code.value


def in_every_encoding(name: str) -> list[str]:
    """A name as it is (if it may stand in a URL so), and with every byte percent-encoded."""
    every = "".join(f"%{byte:02X}" for byte in name.encode())
    return [quote(name, safe=""), every, every.lower()]


@given(st.text(GROUP_LETTERS, min_size=1, max_size=100))
def test_a_group_is_the_same_in_every_encoding(name: str) -> None:
    assert {names.parse_group(segment) for segment in in_every_encoding(name)} == {name}


WORDS = [
    *(
        "हिन्दी",
        "বাংলা",
        "தமிழ்",
        "ไทย",
        "ภาษาไทย",
        "עִבְרִית",
        "العَرَبِيَّة",
        "မြန်မာ",
        "ខ្មែរ",
        "བོད་".rstrip("་"),
    ),
    *("Việt", "한국어", "日本語", "ქართული", "አማርኛ", "Ⅷ", "x²", "٣", "৪", "résumé", "ǅ", "𝒳", "𐍈"),
]


@pytest.mark.parametrize("word", WORDS)
def test_a_room_may_have_the_letters_marks_and_digits_of_every_script(word: str) -> None:
    assert names.parse_room(quote(word)) == unicodedata.normalize("NFC", word)


@pytest.mark.parametrize("word", WORDS)
def test_every_form_of_a_word_is_one_room(word: str) -> None:
    """macOS types NFD, where most others type NFC."""
    forms = {unicodedata.normalize(form, word) for form in ("NFC", "NFD")}
    assert len({names.parse_room(each) for form in forms for each in in_every_encoding(form)}) == 1


@given(st.text(st.characters(categories=["L", "M", "N"]), min_size=1, max_size=25))
def test_the_canonical_form_of_a_room_is_its_own(word: str) -> None:
    room = names.normalize_room(word)
    assert room is not None
    assert (
        names.normalize_room(room)
        == room
        == names.normalize_room(unicodedata.normalize("NFD", word))
    )


def test_every_room_that_could_be_named_before_can_be_named() -> None:
    """Until now, these were the characters of `\\w`."""
    characters = map(chr, {*range(0x110000)} - {*range(0xD800, 0xE000)})
    assert all(names.normalize_room(each) for each in characters if re.match(r"[\w-]", each))


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ("می\u200cخواهم", True),  # Persian: between letters that would join
        ("क्\u200dष", True),  # Devanagari: behind a virama
        ("क्\u200cष", True),
        ("lob\u200cby", False),
        ("lobby\u200d", False),
        ("\u200clobby", False),
        ("\u200d", False),
        ("क\u200dष", False),
    ],
)
def test_a_joiner_is_a_letter_only_where_it_changes_how_a_word_is_written(
    word: str, is_one: bool
) -> None:
    assert (names.normalize_room(word) == word) == is_one


@pytest.mark.parametrize(
    "character",
    [" ", ".", "/", "\u2028", "\u202e", "\u200b", "\u2060", "€", "😀", "\0", "\ue000", "\u0378"],
)
def test_a_room_has_no_blanks_signs_controls_or_unknown_characters(character: str) -> None:
    assert names.normalize_room(f"a{character}b") is None


def test_the_length_of_a_room_is_counted_after_its_normalization() -> None:
    assert names.normalize_room("e\u0301" * 100) == "é" * 100
    assert names.normalize_room("ᾂ" * 100) == "ᾂ" * 100
    assert names.normalize_room(unicodedata.normalize("NFD", "ᾂ" * 100)) == "ᾂ" * 100
    assert names.normalize_room("e\u0301" * 101) is None
    assert names.normalize_room("\u0958" * 51) is None  # NFC takes it apart


def test_a_name_too_long_to_become_one_is_refused_before_it_is_normalized() -> None:
    """Marks are put in order by insertion: ten thousand of them would take a second."""
    with mock.patch.object(unicodedata, "normalize") as normalize:
        assert names.normalize_room("a" + "\u0301\u0323" * 5000) is None
    normalize.assert_not_called()


@given(st.characters(codec="utf-8", exclude_characters="_-.", min_codepoint=128))
def test_a_group_has_ascii_letters_and_digits_only(character: str) -> None:
    """Other letters and digits of Unicode are refused, plain and percent-encoded."""
    for segment in (character, quote(character), f"a{quote(character)}"):
        assert refused(names.parse_group, segment) == "bad_name"


@pytest.mark.parametrize("parse", [names.parse_group, names.parse_room])
@pytest.mark.parametrize("length", [1, 99, 100])
def test_a_name_may_have_1_to_100_characters(parse: Callable[[str], str], length: int) -> None:
    assert parse("a" * length) == "a" * length
    assert parse("%61" * length) == "a" * length


@pytest.mark.parametrize("parse", [names.parse_group, names.parse_room])
@pytest.mark.parametrize("length", [0, 101, 1000])
def test_a_name_may_not_be_empty_or_longer(parse: Callable[[str], str], length: int) -> None:
    assert refused(parse, "a" * length) == "bad_name"
    assert refused(parse, "%61" * length) == "bad_name"


def test_the_length_of_a_room_is_counted_in_characters() -> None:
    assert names.parse_room(quote("房" * 100)) == "房" * 100
    assert refused(names.parse_room, quote("房" * 101)) == "bad_name"


def test_the_case_of_a_room_is_kept() -> None:
    assert names.parse_room("%C3%89") == "\u00c9"
    assert names.parse_room("%C3%A9") == "\u00e9"


@pytest.mark.parametrize(
    "segment",
    ["%FF", "%C3", "a%C3", "%ED%A0%80", "%C0%AF", "%F5%80%80%80", "a%80b"],
)
@pytest.mark.parametrize("parse", PARSERS)
def test_bytes_that_are_not_utf8_are_refused_as_a_name(
    parse: Callable[[str], str], segment: str
) -> None:
    assert refused(parse, segment) in ("bad_name", "bad_uuid")


@pytest.mark.parametrize(
    "segment", ["%", "%6", "%zz", "a%2Fb", "a%00", "%0A", "a%0A", "a+b", "a%20", "a:b", "a\n"]
)
@pytest.mark.parametrize("parse", [names.parse_group, names.parse_room])
def test_names_with_smuggled_percent_encoding_are_refused(
    parse: Callable[[str], str], segment: str
) -> None:
    assert refused(parse, segment) == "bad_name"


@pytest.mark.parametrize("parse", PARSERS)
def test_a_name_is_decoded_once(parse: Callable[[str], str]) -> None:
    assert refused(parse, "%2561") in ("bad_name", "bad_uuid")


@given(st.one_of(st.text(), st.text("%0123456789abcdefABCDEF-_.")))
def test_any_segment_is_a_good_name_or_refused_with_400(segment: str) -> None:
    for parse in PARSERS:
        try:
            name = parse(segment)
        except Refusal as refusal:
            status = refusal.status
        else:
            status = 400
            assert 1 <= len(name) <= 100
        assert status == 400


@given(st.uuids())
def test_a_uuid_is_the_same_in_upper_and_lower_case(value: uuids.UUID) -> None:
    for text in (str(value), str(value).upper(), str(value).replace("-", "%2D")):
        assert names.parse_uuid(text) == str(value)


@pytest.mark.parametrize("version", range(16))
def test_a_uuid_may_have_every_version(version: int) -> None:
    """RFC 9562 section 4: versions 1 to 8 today, Nil and Max, and what is still to come."""
    text = f"123e4567-e89b-{version:x}2d3-a456-426614174000"
    assert names.parse_uuid(text) == text


@pytest.mark.parametrize("digit", ["0", "f"])
def test_nil_and_max_are_uuids(digit: str) -> None:
    text = "-".join(digit * length for length in (8, 4, 4, 4, 12))
    assert names.parse_uuid(text) == text


GOOD = "123e4567-e89b-42d3-a456-426614174000"


@pytest.mark.parametrize(
    "segment",
    [
        "",
        GOOD.replace("-", ""),
        f"{{{GOOD}}}",
        f"urn:uuid:{GOOD}",
        GOOD[:-1],
        f"{GOOD}0",
        f"{GOOD}%0A",
        f" {GOOD}",
        GOOD.replace("1", "g", 1),
        "123e4567e-89b-42d3-a456-426614174000",
        # fullwidth digit one, and a letter whose lower case is ASCII
        GOOD.replace("1", "%EF%BC%91", 1),
        GOOD.replace("1", "%E2%84%AA", 1),
    ],
)
def test_a_uuid_that_is_not_hyphenated_is_refused(segment: str) -> None:
    assert refused(names.parse_uuid, segment) == "bad_uuid"
