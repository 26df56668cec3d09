"""clients/unity as Unity and a compiler see it; the scenarios of all kits run it against relayd."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import csharp

UNREADABLE = (
    *("", " ", "{", "[1,", '"open', '{"a":}', '{"a" 1}', "{a:1}", "01", "-", "1.", ".5", "1e"),
    *("+1", "--1", "nul", "truex", "[1] 2", '"\\q"', '"\\u12g4"', '"\\u12', "'a'", "NaN", '"\t"'),
    *("1e999", "[,1]", "[" * 65 + "]" * 65, '{"a":1,}', "\u00a01"),
)
READABLE: tuple[Any, ...] = (
    *({}, [], "", 0, -1, 1.5, True, False, None, 2**63 - 1, -(2**63), 2**70, 5e-324),
    *(
        1.7976931348623157e308,
        0.1,
        -0.25,
        1e21,
        'a "quoted" \\ text\n\t\x00\x1f',
        "é 世 😀",
        "\u2028",
    ),
    {"a": [1, {"b": None}], "": {"c": [[]]}, "message": "x" * 70000},
    [[[[[[[["deep"]]]]]]]],
)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Has the kit's reader read some lines; returns what it wrote."""
    program = csharp.compile_csharp(
        tmp_path_factory.mktemp("reading") / "Reading.exe",
        [csharp.KIT / "Runtime" / "Json.cs", csharp.DRIVERS / "Reading.cs"],
    )

    def read_lines(lines: list[str]) -> list[str]:
        done = subprocess.run(
            ["mono", str(program)],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout.split("\n")[:-1]

    return read_lines


def test_the_json_reader_reads_what_python_reads(read: Any) -> None:
    lines = [
        json.dumps(value, ensure_ascii=escaped) for value in READABLE for escaped in (False, True)
    ]
    lines += [json.dumps(value, indent=1).replace("\n", " \t ") for value in READABLE]
    lines += ['"\\b\\f\\/"', "1E+2", "-0.0", '{"a":1,"a":2}', ' [ 1 , 2 ] ']  # fmt: skip
    for line, written in zip(lines, read(lines), strict=True):
        assert json.loads(written) == json.loads(line)


def test_the_json_reader_refuses_what_is_no_json(read: Any) -> None:
    for line, written in zip(UNREADABLE, read(list(UNREADABLE)), strict=True):
        assert written == "wrong", line


def test_half_of_a_surrogate_pair_is_not_sent_as_broken_utf_8(read: Any) -> None:
    assert [json.loads(line) for line in read(['"a\\ud83d"', '"\\ude00b"'])] == ["a�", "�b"]


def test_the_kit_compiles_without_unity(tmp_path: Path) -> None:
    csharp.build_driver(tmp_path)
