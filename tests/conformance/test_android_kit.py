"""clients/android as a compiler and Android see it; `test_kits` has its scenarios."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import java
from tests.conformance.tutorials import play
from tests.daemon import Daemon
from tests.integration.clients import say

GUIDE = java.ROOT / "docs" / "guides" / "android.md"
PACKAGE = "com.example.circle"


@pytest.fixture(
    scope="module",
    params=[java.OKHTTP_3, java.OKHTTP_4],
    ids=["OkHttp 3.13", "OkHttp 4.12"],
)
def libraries(request: pytest.FixtureRequest) -> tuple[Path, ...]:
    """OkHttp; the newer one where it is there."""
    found: tuple[Path, ...] = request.param
    java.skip_without(found)
    return found


@pytest.fixture(scope="module")
def relayd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("android")).start()
    yield daemon
    daemon.stop()


def start(folder: Path, libraries: tuple[Path, ...], *command: str) -> subprocess.Popen[str]:
    """Starts a program of Java."""
    path = java.class_path(folder, *libraries, java.JSON)
    pipe = subprocess.PIPE
    return subprocess.Popen([*java.JAVA, "-cp", path, *command], stdin=pipe, stdout=pipe, text=True)


def test_the_activity_of_the_guide_shows_a_circle_that_a_sender_moves(
    libraries: tuple[Path, ...], relayd: Daemon, tmp_path: Path
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for block in java.blocks(GUIDE):
        name = re.search(r"^public final class (\w+)", block, re.MULTILINE)
        assert name
        text = block.replace("ws://127.0.0.1:8080", relayd.ws_url)
        (sources / f"{name[1]}.java").write_text(text)
    assert relayd.ws_url in (sources / "MainActivity.java").read_text()
    classes = tmp_path / "classes"
    files = [*sources.glob("*.java"), *java.STUBS.rglob("*.java"), *java.KIT.rglob("*.java")]
    java.compile_java(classes, files, [*libraries, java.JSON])
    app = start(classes, libraries, "android.app.Activity", f"{PACKAGE}.MainActivity")
    try:
        with relayd.connect("/ws/camera/demo") as sender:
            assert app.stdout
            lines = iter(app.stdout.readline, "")
            assert next(lines) == "title CONNECTING\n"
            assert next(lines) == "title CONNECTED\n"
            for pose, circle in (((0, 1, 0), "200.0 400.0"), ((1, 1, 2), "240.0 320.0")):
                say(sender, dict(zip("xyz", pose, strict=True)))
                assert next(lines) == f"circle {circle}\n"
        rest, _ = app.communicate(timeout=20)
        assert rest == "title IDLE\n"
        assert app.returncode == 0
    finally:
        app.kill()


def test_the_activity_of_the_readme_compiles(tmp_path: Path) -> None:
    [block] = java.blocks(java.KIT / "README.md")
    activity = tmp_path / "CameraActivity.java"
    activity.write_text(block)
    files = [activity, *java.STUBS.rglob("*.java"), *java.KIT.rglob("*.java")]
    java.compile_java(tmp_path / "classes", files, [*java.OKHTTP_3, java.JSON])


def test_a_client_as_in_the_tutorials_of_okhttp_works_unchanged(
    libraries: tuple[Path, ...], relayd: Daemon, tmp_path: Path
) -> None:
    java.compile_java(tmp_path, [java.DRIVERS / "minimal" / "Minimal.java"], libraries)

    def run(path: str, *frame: str) -> subprocess.Popen[str]:
        return start(tmp_path, libraries, "Minimal", relayd.ws_url + path, *frame)

    assert play(relayd, run, "/ws/difficulty/android/no-uuid") == "HTTP 400\n"
