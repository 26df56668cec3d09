"""A code is one line in its table: status, sentence, metric and the documentation follow."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from relayd import errors
from relayd.close_codes import CloseCode, error_before
from relayd.errors import ClientError, ErrorCode, Refusal, Where

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
NOTHING = "–"


def table(head: str) -> list[str]:
    """The rows of the table in docs/protocol.md that has this head."""
    _, _, rest = PROTOCOL.partition(f"{head}\n|---|---|---|---|\n")
    return re.findall(r"(?m)^\|.*\|$", rest.partition("\n\n")[0])


def error_row(code: Any) -> str:
    """What the documentation is to say of an error code."""
    places = {"FRAME": "frame", "HANDSHAKE": "handshake", "HTTP": "HTTP"}
    where = ", ".join(places[place.name] for place in code.where)
    return f"| `{code}` | {code.status or NOTHING} | {where} | {code.sentence} |"


def close_row(code: Any) -> str:
    """What the documentation is to say of a close code."""
    reconnect = "yes" if code.reconnect else "no"
    return f"| {int(code)} | {code.reason or NOTHING} | {reconnect} | {code.meaning} |"


def load(path: str, name: str, *, more: dict[str, str] | None = None) -> ModuleType:
    """Executes a module of relayd again, under another name.

    Args:
        path: below the root.
        name: of the copy.
        more: lines to put into it, each behind the line that begins with its key.
    """
    source = (ROOT / path).read_text(encoding="utf-8")
    for after, line in (more or {}).items():
        found = re.search(rf"(?m)^{re.escape(after)}.*\n", source)
        assert found is not None, after
        source = source[: found.end()] + line + "\n" + source[found.end() :]
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, path, "exec"), module.__dict__)
    return module


def test_the_documentation_has_each_error_code_with_its_status_and_sentence() -> None:
    assert table("| code | status | where | sentence |") == [error_row(code) for code in ErrorCode]


def test_the_documentation_has_each_close_code_with_its_reason_and_meaning() -> None:
    assert table("| code | reason | reconnect | meaning |") == [
        close_row(code) for code in CloseCode
    ]


def test_every_code_named_in_the_documentation_exists() -> None:
    named = re.findall(r"`((?:bad|no|not|too)_[a-z_]+)`", PROTOCOL)
    assert set(named) <= set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_code_states_where_it_occurs_and_has_a_status_unless_only_in_frames(
    code: ErrorCode,
) -> None:
    assert code.where
    assert (code.status is None) == (code.where is Where.FRAME)
    assert re.fullmatch(r"\S.*\.", code.sentence)
    assert ErrorCode(code.value) is code


def test_a_refusal_gets_status_and_sentence_from_its_code() -> None:
    refusal = Refusal(ErrorCode.DRAINING)
    assert (refusal.status, refusal.message) == (503, ErrorCode.DRAINING.sentence)
    assert refusal.retry_after == 5
    assert str(refusal) == refusal.message


def test_a_caller_may_override_the_status_and_sentence_of_a_code() -> None:
    refusal = Refusal(ErrorCode.INTERNAL, "No worker answers.", status=503)
    assert (refusal.status, refusal.message) == (503, "No worker answers.")
    assert ClientError(ErrorCode.BAD_JSON, "No.").message == "No."
    assert ClientError(ErrorCode.BAD_JSON).message == ErrorCode.BAD_JSON.sentence


def test_one_line_adds_an_error_code(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '    TEAPOT = "teapot", 418, HANDSHAKE | HTTP, "This is a teapot."'
    copy = load("relayd/errors.py", "errors_copy", more={"    BAD_SINCE = ": line})
    code = copy.ErrorCode.TEAPOT
    refusal = copy.Refusal(code)
    assert (refusal.status, refusal.message) == (418, "This is a teapot.")
    assert set(copy.ErrorCode) - set(ErrorCode) == {"teapot"}
    assert error_row(code) == "| `teapot` | 418 | handshake, HTTP | This is a teapot. |"
    assert error_row(code) not in table("| code | status | where | sentence |")
    monkeypatch.setitem(sys.modules, "relayd.errors", copy)
    tally = load("relayd/tally.py", "tally_copy").Tally()
    assert tally.refused["teapot"] == 0
    tally.ended(4418, None)
    assert tally.closes_sent["4418"] == 1
    answer = load("relayd/edge/refusal.py", "refusal_copy").encode_refusal(refusal)
    assert answer.startswith(b"HTTP/1.1 418 ")
    assert answer.endswith(b'{"error":"teapot","message":"This is a teapot."}')


def test_one_line_adds_a_close_code(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '    TIRED = 4006, "tired", True, ErrorCode.OVERLOADED, "It is tired: wait a minute."'
    copy = load("relayd/close_codes.py", "close_codes_copy", more={"    NORMAL = ": line})
    code = copy.CloseCode.TIRED
    assert (code, code.reason, code.reconnect) == (4006, "tired", True)
    assert close_row(code) == "| 4006 | tired | yes | It is tired: wait a minute. |"
    assert copy.error_before(code, "") == "overloaded"
    monkeypatch.setitem(sys.modules, "relayd.close_codes", copy)
    assert load("relayd/tally.py", "tally_copy").Tally().closes_sent["4006"] == 0


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_code_has_an_error_frame_before_it_exactly_if_it_is_private(
    code: CloseCode,
) -> None:
    told = error_before(code, code.reason)
    assert told is code.error
    assert (told is not None) == (int(code) >= 4000)
    assert told is None or Where.FRAME in told.where


@pytest.mark.parametrize("code", [code for code in ErrorCode if Where.HANDSHAKE in code.where])
def test_the_error_before_the_close_of_a_refusal_is_its_reason(code: ErrorCode) -> None:
    assert error_before(4000 + (code.status or 0), code.value) is code


@pytest.mark.parametrize("reason", ["", "moving house"])
def test_the_error_before_a_code_that_an_operator_chose_says_so(reason: str) -> None:
    assert error_before(4999, reason) is ErrorCode.KICKED
    assert error_before(3999, reason) is None


def test_the_unavailable_exceptions_default_to_the_sentences_of_their_codes() -> None:
    for kind in (errors.DatabaseUnavailable, errors.RedisUnavailable, errors.NoUnity):
        assert kind.sentence == kind.code.sentence
