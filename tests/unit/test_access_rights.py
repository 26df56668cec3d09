"""Rights by path and direction, read from the table of the protocol and matched with paths."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.access.rights import directions, parse_right, read_rights
from relayd.config import Config, Echo
from relayd.errors import Refusal
from relayd.names import split_path
from relayd.relays.paths import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
ROWS = PAGE.read_text().partition("| right | good for |")[2].partition("\n\n")[0].splitlines()[2:]
DOCUMENTED = {re.findall("`([^`]*)`", row)[0] for row in ROWS}
UUID = "123e4567-e89b-42d3-a456-426614174000"
HEADSET, PHONE = f"/ws/difficulty/unity/{UUID}", f"/ws/difficulty/android/{UUID}"
OTHER = "/ws/difficulty/unity/00000000-0000-4000-8000-000000000000"

PATHS = ["/ws/camera", "/ws/camera/stage1", "/ws/chat", "/ws/chat/other", "/ws/push/build"]
PATHS += ["/ws/push/other", HEADSET, PHONE, OTHER, "/ws/echo"]
CONFIG = Config(echo=Echo(enabled=True))
BOTH, SEND, VIEW = {"send", "view"}, {"send"}, {"view"}
GRANTS: dict[str, dict[str, set[str]]] = {
    "camera": {"/ws/camera": BOTH, "/ws/camera/stage1": BOTH},
    "camera/*": {"/ws/camera": BOTH, "/ws/camera/stage1": BOTH},
    "camera/stage1": {"/ws/camera/stage1": BOTH},
    "camera/stage1:send": {"/ws/camera/stage1": SEND},
    "camera/stage1:view": {"/ws/camera/stage1": VIEW},
    "camera/*:view": {"/ws/camera": VIEW, "/ws/camera/stage1": VIEW},
    "camera/Camera_group": {"/ws/camera": BOTH},
    "chat/lobby": {"/ws/chat": BOTH},
    "chat/lobby:send": {"/ws/chat": SEND},
    "chat/lobby:view": {"/ws/chat": VIEW},
    "push/build": {"/ws/push/build": VIEW},
    "push/build:view": {"/ws/push/build": VIEW},
    "difficulty": {HEADSET: BOTH, PHONE: BOTH, OTHER: BOTH},
    "difficulty/unity": {HEADSET: BOTH, OTHER: BOTH},
    "difficulty/unity/*": {HEADSET: BOTH, OTHER: BOTH},
    "difficulty/unity/<uuid>": {HEADSET: BOTH},
    "difficulty/*/<uuid>": {HEADSET: BOTH, PHONE: BOTH},
    "echo": {"/ws/echo": BOTH},
    "echo/*": {"/ws/echo": BOTH},
}


def granted(words: list[str], path: str) -> set[str]:
    """What these rights allow on a path."""
    kind, segments = split_path(path)
    place = KINDS[kind].locate(segments, CONFIG)
    return set(directions(read_rights(words, KINDS), kind, place))


@pytest.mark.parametrize("right", GRANTS)
def test_a_right_is_good_for_these_paths_and_no_others(right: str) -> None:
    for uuid in (UUID, UUID.upper()):
        words = [right.replace("<uuid>", uuid)]
        assert {p: g for p in PATHS if (g := granted(words, p))} == GRANTS[right]


def test_the_table_of_the_protocol_has_rights_that_are_tested() -> None:
    assert set(GRANTS) >= DOCUMENTED
    assert len(DOCUMENTED) >= 14


def test_several_rights_add_up() -> None:
    words = ["camera/stage1:send", "camera/*:view"]
    assert granted(words, "/ws/camera/stage1") == BOTH
    assert granted(words, "/ws/camera") == VIEW


def test_a_name_in_a_right_is_normalized_as_in_a_path() -> None:
    for word in ("chat/größe", "chat/gr%C3%B6%C3%9Fe"):
        assert granted([word], "/ws/chat/gr%C3%B6%C3%9Fe") == BOTH


WRONG = [
    *("", "*", "*/a", "camera:", "camera/a:see", "camera/a:send:view", "camera/a/b", "camera/"),
    *("camera/a b", "nothing", "Camera", "chat/a.b", "echo/a", "echo:send", "push/a:send"),
    *("difficulty/unity:send", "difficulty/ios", f"difficulty/{UUID}", "difficulty/unity/1"),
    *(f"difficulty/unity/{UUID}/x", "camera/st*", "/camera", "camera//a", ":view", "openid"),
]


@pytest.mark.parametrize("word", WRONG)
def test_a_word_that_is_no_right_gives_none_and_is_explained(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_right(word, KINDS)
    assert read_rights([word, "camera"], KINDS) == (parse_right("camera", KINDS),)


@given(st.text())
def test_any_text_is_a_right_or_explained(text: str) -> None:
    try:
        parse_right(text, KINDS)
    except Refusal:
        pytest.fail("a refusal left the grammar")
    except ValueError:
        pass
