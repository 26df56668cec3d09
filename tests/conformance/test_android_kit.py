"""clients/android as a compiler and Android see it; `test_kits` has its scenarios."""

import contextlib
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import jwt
import pytest

from tests.conformance import java
from tests.conformance.tutorials import play
from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, say
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually

GUIDE = java.ROOT / "docs" / "guides" / "android.md"
PACKAGE = "com.example.circle"
SECRET = "a secret for tests that is long enough for HS256"
ACTIVITY = """
import android.app.Activity;
import android.os.Bundle;
import android.util.Log;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import org.json.JSONException;
import org.json.JSONObject;

public final class ExampleActivity extends Activity {
    private static final class Circle {
        void moveTo(double x, double z) {
            System.out.println("circle " + x + " " + z);
        }
    }

    private final Circle circle = new Circle();

    @Override
    protected void onCreate(Bundle saved) {
        EXAMPLE
    }
}
"""
"""What is around the example of the page."""
MOST_EVENTS = 1000
"""That may wait for the app, as in `Connection.java`."""


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
    settings = {"RELAYD_AUTH_SECRET": SECRET, "RELAYD_LIMITS_MESSAGES_PER_SECOND": "0"}
    daemon = Daemon(tmp_path_factory.mktemp("android"), settings).start()
    yield daemon
    daemon.stop()


class App:
    """A program whose lines a test reads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def tell(self, command: str) -> None:
        """Gives it a command."""
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line."""
        return self._lines.get(timeout=PATIENCE)

    def look(self) -> str:
        """How many events wait for `Edges`, and whether the kit waits for it."""
        self.tell("look")
        return self.line()

    def end(self) -> None:
        """Ends it."""
        assert self._process.stdin
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


Open = Callable[..., App]


@pytest.fixture(scope="module")
def edges(libraries: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `Edges`, compiled."""
    folder = tmp_path_factory.mktemp("edges")
    files = [java.DRIVERS / "Edges.java", *java.KIT.rglob("*.java")]
    java.compile_java(folder, files, [*libraries, java.JSON])
    return folder


@pytest.fixture
def open_app(edges: Path, libraries: tuple[Path, ...], relayd: Daemon) -> Iterator[Open]:
    """Starts `Edges` as a client of the relayd, with what its TokenSource does."""
    with contextlib.ExitStack() as stack:

        def open_one(*tokens: str) -> App:
            app = App(start(edges, libraries, "Edges", relayd.ws_url, *tokens))
            stack.callback(app.end)
            return app

        yield open_one


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


def test_the_example_of_the_developers_page_moves_the_circle_of_an_activity(
    libraries: tuple[Path, ...], relayd: Daemon, tmp_path: Path
) -> None:
    example = java.ROOT / "relayd" / "web" / "html" / "example_android.txt"
    code = example.read_text().replace("WS://HOST", relayd.ws_url)
    activity = tmp_path / "ExampleActivity.java"
    activity.write_text(ACTIVITY.replace("EXAMPLE", code))
    classes = tmp_path / "classes"
    java.compile_java(classes, [activity, *java.STUBS.rglob("*.java")], [*libraries, java.JSON])
    app = App(start(classes, libraries, "android.app.Activity", "ExampleActivity"))
    try:
        with relayd.connect("/ws/camera/demo") as sender:
            clients = 'relayd_connections{kind="camera"} 2'
            eventually(lambda: clients in relayd.get("/metrics")[1])
            say(sender, {"x": 1, "y": 2, "z": -3})
            assert app.line() == "circle 1.0 -3.0"
    finally:
        app.end()


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


def test_a_slow_app_has_a_bounded_queue_of_events_and_misses_none(
    open_app: Open, relayd: Daemon
) -> None:
    app = open_app()
    assert [app.line(), app.line()] == ["CONNECTING", "CONNECTED"]
    app.tell("hold")
    count = 3 * MOST_EVENTS
    with relayd.connect("/ws/camera/edges", max_queue=None) as sender:
        for x in range(count):
            say(sender, {"x": x})
        eventually(lambda: app.look().startswith("full "))
    assert int(app.look().removeprefix("full ")) == MOST_EVENTS + 1
    app.tell("go")
    assert [app.line() for _ in range(count)] == [f"pose {x}" for x in range(count)]


def test_a_client_whose_token_source_fails_asks_it_again(open_app: Open) -> None:
    app = open_app("fail", "fail", jwt.encode({"sub": "ann"}, SECRET))
    for _ in range(2):
        assert app.line() == "CONNECTING"
        assert re.fullmatch(r"LOST no_token 0 0\.0 [1-9]\d*", app.line())
    assert [app.line(), app.line()] == ["CONNECTING", "CONNECTED"]


def test_a_client_whose_bad_token_cannot_be_renewed_is_refused_for_that_token(
    open_app: Open,
) -> None:
    app = open_app("nonsense", "fail")
    refused = "unauthorized 401 0.0 0"
    assert [app.line() for _ in range(3)] == ["CONNECTING", f"LOST {refused}", f"REFUSED {refused}"]


def test_a_refused_client_waits_as_long_as_the_server_asks_at_least(
    open_app: Open, relayd: Daemon
) -> None:
    operator = Operator(relayd.folder)
    assert operator("drain").returncode == 0
    try:
        app = open_app()
        assert app.line() == "CONNECTING"
        name, code, status, retry_after, wait = app.line().split()
        assert (name, code, status) == ("LOST", "draining", "503")
        assert float(retry_after) > 0
        assert int(wait) >= float(retry_after) * 1000 / 20
    finally:
        assert operator("undrain").returncode == 0
    eventually(lambda: app.line() == "CONNECTED")
