"""clients/unity as Unity and a compiler see it; the scenarios of all kits run it against relayd."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import csharp
from tests.conformance.driver import Driver
from tests.conformance.kits import CSHARP_LIBRARIES, KITS
from tests.conformance.tutorials import play
from tests.daemon import Daemon

KIT = next(kit for kit in KITS if kit.name == "unity, ClientWebSocket")
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
def reread(tmp_path_factory: pytest.TempPathFactory) -> Any:
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


def test_the_json_reader_reads_what_python_reads(reread: Any) -> None:
    lines = [
        json.dumps(value, ensure_ascii=escaped) for value in READABLE for escaped in (False, True)
    ]
    lines += [json.dumps(value, indent=1).replace("\n", " \t ") for value in READABLE]
    lines += ['"\\b\\f\\/"', "1E+2", "-0.0", '{"a":1,"a":2}', ' [ 1 , 2 ] ']  # fmt: skip
    for line, written in zip(lines, reread(lines), strict=True):
        assert json.loads(written) == json.loads(line)


def test_the_json_reader_refuses_what_is_no_json(reread: Any) -> None:
    for line, written in zip(UNREADABLE, reread(list(UNREADABLE)), strict=True):
        assert written == "wrong", line


def test_half_of_a_surrogate_pair_is_not_sent_as_broken_utf_8(reread: Any) -> None:
    assert [json.loads(line) for line in reread(['"a\\ud83d"', '"\\ude00b"'])] == ["a�", "�b"]


@pytest.mark.parametrize(
    "defines",
    [
        ["RELAYD_WEBSOCKET_SHARP"],
        ["RELAYD_NATIVEWEBSOCKET", "UNITY_2019_4_OR_NEWER"],
        ["RELAYD_WEBSOCKET_SHARP", "RELAYD_NATIVEWEBSOCKET"],
        ["RELAYD_NATIVEWEBSOCKET", "UNITY_2019_4_OR_NEWER", "UNITY_WEBGL"],
        ["UNITY_WEBGL"],
    ],
    ids=" ".join,
)
def test_the_kit_compiles_with_each_library_and_for_a_browser(
    defines: list[str], tmp_path: Path
) -> None:
    """Against stubs of their public interfaces; as it runs in the scenarios, it has neither."""
    samples = [csharp.KIT / "Samples~"] if "UNITY_2019_4_OR_NEWER" in defines else []
    files = csharp.sources(csharp.KIT / "Runtime", csharp.STUBS, *samples)
    csharp.compile_csharp(tmp_path / "kit.dll", files, defines=defines)


def test_a_chat_goes_on_after_a_message_that_is_too_long(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).start()
    client = Driver(KIT, "chat", daemon.ws_url, "room")
    try:
        client.state("connected")
        client.tell(send={"message": "x" * 70_000})
        client.tell(send={"message": "after"})
        client.state("lost", close_code=1009)
        client.until("message", message="after", mine=True)
    finally:
        client.end()
        client.wait()
        daemon.stop()


def test_the_sample_plays_with_two_senders_and_a_viewer_and_events_come_on_the_main_thread(
    tmp_path: Path,
) -> None:
    folders = (csharp.KIT / "Runtime", csharp.KIT / "Samples~")
    scene = csharp.compile_csharp(
        tmp_path / "Scene.exe",
        [*csharp.sources(*folders), csharp.STUBS / "UnityEngine.cs", csharp.DRIVERS / "Scene.cs"],
        defines=["UNITY_2019_4_OR_NEWER", "ENABLE_LEGACY_INPUT_MANAGER"],
    )
    daemon = Daemon(tmp_path).start()
    try:
        played = subprocess.run(
            ["mono", str(scene), daemon.ws_url], capture_output=True, text=True, check=False
        )
    finally:
        daemon.stop()
    steps = ("followers", "moving", "chat", "headset", "forgotten", "no address")
    assert played.stdout.splitlines() == [f"{step}: yes" for step in steps], played.stderr


def test_the_example_of_the_developers_page_compiles(tmp_path: Path) -> None:
    example = csharp.ROOT / "relayd" / "web" / "html" / "example_unity.txt"
    shutil.copy(example, tmp_path / "Example.cs")
    files = [tmp_path / "Example.cs", *csharp.sources(csharp.STUBS)]
    csharp.compile_csharp(tmp_path / "example.dll", files)


@pytest.mark.parametrize("library", ["websocket-sharp", "NativeWebSocket"])
def test_a_client_as_in_the_tutorials_of_a_library_works_unchanged(
    library: str, tmp_path: Path
) -> None:
    """Where the library is there (`kits.CSHARP_LIBRARIES`); else it compiles against its stub."""
    found = CSHARP_LIBRARIES.get(library)
    program = csharp.DRIVERS / "minimal" / f"{library}.cs"
    if found is None:
        stub = csharp.STUBS / f"{library.replace('websocket-sharp', 'WebSocketSharp')}.cs"
        csharp.compile_csharp(tmp_path / "minimal.exe", [program, stub])
        return
    shutil.copy(found, tmp_path)
    minimal = csharp.compile_csharp(tmp_path / "minimal.exe", [program], references=[found])
    daemon = Daemon(tmp_path).start()

    def run(path: str, *frame: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = ["mono", str(minimal), daemon.ws_url + path, *frame]
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    try:
        said = play(daemon, run, "/ws/difficulty/android/no-uuid?refuse=close")
    finally:
        daemon.stop()
    assert json.loads(said)["error"] == "bad_uuid"
