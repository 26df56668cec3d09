"""The table of paths: the sentences and lists made from it, and what a path of each kind says."""

from importlib import import_module
from typing import Any

import pytest

from relayd.config import Config
from relayd.config.sections import Chat, Echo
from relayd.connection.websocket import RelayFactory
from relayd.errors import Refusal
from relayd.names import Kind, Kinds, Place, split_path, split_target
from relayd.relays.paths import KINDS

UUID = "123e4567-e89b-42d3-a456-426614174000"


def refusal(call: Any, *arguments: Any) -> tuple[int, str, str]:
    """Status, code and sentence of a refusal."""
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.status, caught.value.code.value, caught.value.message


def test_every_kind_is_built_by_its_own_module() -> None:
    for kind in KINDS:
        factory = getattr(import_module(f"relayd.relays.{kind.name}"), kind.factory)
        assert issubclass(factory, RelayFactory)
        assert factory.protocol.entry is kind


def test_the_404_sentence_names_the_paths_that_are_always_there() -> None:
    assert KINDS.not_found == (
        "There is no such path; WebSocket paths are /ws/camera, /ws/difficulty/unity/{uuid}, "
        "/ws/difficulty/android/{uuid}, /ws/chat/{room} and /ws/push/{topic}."
    )


def test_an_added_kind_is_in_every_sentence() -> None:
    own = Kind("shout", ("/ws/shout/{name}",), fanned_out=True, published="Shouts.")
    kinds = Kinds(*KINDS, own)
    assert kinds.not_found.endswith("/ws/push/{topic} and /ws/shout/{name}.")
    assert kinds.publishing == "push/TOPIC, shout/NAME or chat/ROOM"
    assert kinds.parse_group("shout/a") == "shout/a"
    assert refusal(kinds.parse_group, "x")[2].endswith("camera/GROUP, push/TOPIC or shout/NAME.")
    assert kinds.speaks("/ws/shout/a", Config())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("camera", "The path is /ws/camera or /ws/camera/{group}."),
        ("chat", "The path is /ws/chat or /ws/chat/{room}."),
        (
            "difficulty",
            "The path is /ws/difficulty/unity/{uuid} or /ws/difficulty/android/{uuid}.",
        ),
        ("echo", "There is no such path, or [echo] enabled is false."),
        ("push", "The path is /ws/push/{topic}."),
    ],
)
def test_a_path_that_goes_on_is_refused_with_the_paths_of_its_kind(
    kind: str, sentence: str
) -> None:
    config = Config(echo=Echo(enabled=True))
    assert refusal(KINDS[kind].locate, ["a", "b", "c"], config) == (404, "not_found", sentence)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/ws/camera", Place("", "Camera_group")),
        ("/ws/camera/%67", Place("", "g")),
        ("/ws/chat/", Place("", "hall")),
        ("/ws/chat/r/", Place("", "r")),
        ("/ws/push/t", Place("", "t")),
        (f"/ws/difficulty/unity/{UUID.upper()}", Place("unity", UUID)),
        (f"/ws/difficulty/android/{UUID}", Place("android", UUID)),
        ("/ws/echo", Place()),
    ],
)
def test_a_path_gives_its_side_and_its_name(path: str, place: Place) -> None:
    config = Config(chat=Chat(default_room="hall"), echo=Echo(enabled=True))
    kind, segments = split_path(path)
    assert KINDS[kind].locate(segments, config) == place
    assert KINDS.speaks(path, config)


@pytest.mark.parametrize("path", ["/ws/echo", "/ws/echo/"])
def test_a_kind_that_is_off_has_no_path(path: str) -> None:
    assert refusal(KINDS["echo"].locate, [], Config())[0] == 404
    assert not KINDS.speaks(path, Config())


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/ws", "/ws/", "/ws//", "ws/camera", "/wss/camera", "/ws/cameras", "/ws/camera//"),
        *("/ws/push", "/ws/chat/a/b", "/ws/difficulty/unity", f"/ws/difficulty/other/{UUID}"),
    ],
)
def test_an_unknown_path_speaks_no_websocket(path: str) -> None:
    assert not KINDS.speaks(path, Config())


@pytest.mark.parametrize(
    ("line", "kind", "segments"),
    [
        (b"GET /ws/chat/r?a=/b HTTP/1.1", "chat", ["r"]),
        (b"GET https://example.org/ws/chat/r/ HTTP/1.1", "chat", ["r"]),
        (b"GET /ws/chat// HTTP/1.1", "chat", [""]),
        (b"GET /ws/camera", "", []),
        (b"GET /chat/r HTTP/1.1", "", []),
        (b"get /ws/chat HTTP/1.1", "", []),
    ],
)
def test_a_request_line_leads_to_a_kind(line: bytes, kind: str, segments: list[str]) -> None:
    assert split_target(line + b"\r\nHost: x\r\n\r\n") == (kind, segments)


def test_a_group_is_named_by_its_kind_and_read_back() -> None:
    for kind in KINDS.fanned_out:
        group = kind.group("x")
        assert KINDS.of_group(group) is kind
        assert KINDS.parse_group(group) == group


@pytest.mark.parametrize("group", ["x", "echo/a", f"difficulty/{UUID}", "", "/"])
def test_the_name_of_a_kind_that_is_not_fanned_out_is_no_group(group: str) -> None:
    assert refusal(KINDS.parse_group, group) == (
        400,
        "bad_name",
        f"{group!r} is no group: say chat/ROOM, camera/GROUP or push/TOPIC.",
    )


def test_operators_and_programs_may_publish_to_topics_and_rooms() -> None:
    assert KINDS.publishing == "push/TOPIC or chat/ROOM"


def test_the_sides_of_a_pair_are_the_fixed_words_of_its_paths() -> None:
    assert [side for kind in KINDS for side in kind.sides] == ["unity", "android"]
