"""The CSV parser: what it takes, and what it says about what it does not."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.storage.tables import ACTIONS, QUIZZES, CSVError, parse, shield

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=255)
INTEGERS = st.integers(-(2**31), 2**31 - 1)


def write(columns: list[str], rows: list[list[object]]) -> bytes:
    file = io.StringIO()
    shielded = [[shield(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    csv.writer(file).writerows([columns, *shielded])
    return file.getvalue().encode()


@given(st.permutations(QUIZZES.columns), st.lists(st.tuples(TEXTS, INTEGERS, TEXTS, TEXTS, TEXTS)))
def test_every_table_comes_back_as_it_was_written(
    order: list[str], rows: list[tuple[object, ...]]
) -> None:
    dicts = [dict(zip(QUIZZES.columns[1:], row, strict=True)) for row in rows]
    cells = [[{"id": n, **row}[name] for name in order] for n, row in enumerate(dicts, 1)]
    parsed = parse(QUIZZES, write(order, cells))
    assert parsed.without_id == []
    assert [
        {"id": row[0], **dict(zip(parsed.columns, row[1:], strict=True))} for row in parsed.with_id
    ] == [{"id": n, **row} for n, row in enumerate(dicts, 1)]


DANGEROUS = "=+-@\t\r\n＝＋－＠"


@given(st.text(st.sampled_from("'=+-@\t\r\n＝＋－＠ax1 ,\""), max_size=8))
def test_no_exported_text_begins_as_a_formula_and_each_comes_back(text: str) -> None:
    cell = shield(text)
    assert cell[:1] not in DANGEROUS or not cell
    assert cell == text or text.lstrip("'")[:1] in DANGEROUS
    assert parse(ACTIONS, write(["difficulty", "detail"], [[1, text]])).without_id == [(1, text)]


def test_a_file_by_hand_may_have_formulas_and_apostrophes_as_texts() -> None:
    parsed = parse(ACTIONS, b"difficulty,detail\n-1,=1+1\n+1,'tis\n1,'-5\n1,''-5\n")
    assert parsed.without_id == [(-1, "=1+1"), (1, "'tis"), (1, "-5"), (1, "'-5")]


def test_the_apostrophe_of_an_export_does_not_count_as_a_character() -> None:
    assert parse(ACTIONS, b"difficulty,detail\n1,'-" + b"5" * 254 + b"\n").without_id


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_a_line(data: bytes) -> None:
    for start in (b"", b"difficulty\n", b"id,difficulty,detail\n1,1,"):
        try:
            parse(QUIZZES, start + data)
        except CSVError as error:
            words = str(error)
        else:
            continue
        assert words.startswith("line ")


def test_a_byte_order_mark_spaces_in_the_header_and_blank_lines_are_fine() -> None:
    parsed = parse(ACTIONS, b"\xef\xbb\xbfid, difficulty ,detail\r\n\r\n,1,a\r\n 7 ,-2,\r\n")
    assert parsed.columns == ("difficulty", "detail")
    assert parsed.without_id == [(1, "a")]
    assert parsed.with_id == [(7, -2, "")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1: no header row"),
        (b"difficulty,colour\n1,red\n", "line 1: unknown column 'colour'"),
        (b"difficulty,difficulty\n1,1\n", "line 1: the column difficulty occurs twice"),
        (b"name\nx\n", "line 1: the column difficulty is missing"),
        (b"name,difficulty\nx,\n", "line 2, column difficulty: is empty"),
        (b"difficulty\n1\n\n1.5\n", "line 4, column difficulty: '1.5' is not a whole number"),
        (b"difficulty\n2147483648\n", "line 2, column difficulty: '2147483648' is not"),
        ("difficulty\n١\n".encode(), "line 2, column difficulty: '١' is not a whole number"),
        (b"id,difficulty\n0,1\n", "line 2, column id: '0' is not a whole number from 1"),
        (b"id,difficulty\n7,1\n8,1\n7,1\n", "line 4, column id: 7 was on line 2 already"),
        (b"difficulty,name\n1,x\n1\n", "line 3: 1 cells, but the header row has 2"),
        (b"difficulty,name\n1," + b"x" * 256, "line 2, column name: 256 characters; at most 255"),
        (b'difficulty,name\n1,"a\nb"\n1,"c', "line 4: not CSV"),
        (b"difficulty,name\n1,a\n1,\xff\n", "line 3: not UTF-8 (byte 0xff)"),
        (b"difficulty,name\n1,a\0b\n", "line 2, column name: holds the character U+0000"),
    ],
)
def test_a_wrong_file_is_refused_naming_line_and_column(data: bytes, words: str) -> None:
    with pytest.raises(CSVError) as caught:
        parse(QUIZZES, data)
    assert str(caught.value).startswith(words)


def test_255_characters_count_as_characters() -> None:
    assert parse(QUIZZES, b"difficulty,name\n1," + "ü".encode() * 255).without_id
