"""docs/guides/browser.md, step by step: its own blocks, on other ports."""

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.chromium import Browser
from tests.daemon import Daemon
from tests.integration.waiting import eventually
from tests.ports import free_port

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "browser.md"
BLUE = """
const map = document.getElementById("map");
const at = map.getContext("2d").getImageData(arguments[0], arguments[1], 1, 1).data;
return at[2] > 200 && at[3] === 255;
"""


def blocks(language: str, relayd: Daemon, port: int) -> list[str]:
    """The blocks of the guide in a language, with the ports of the test."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return [each.replace(":8080", f":{relayd.port}").replace("8000", str(port)) for each in found]


def is_served(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def says(window: Browser, state: str) -> bool:
    return window.shown("#state").startswith(state)


def test_the_page_of_the_guide_shows_a_circle_where_the_mouse_is_in_another_window(
    start_browser: Callable[[], Browser], tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/circle.html"
    relayd = Daemon(tmp_path)
    run, serve = blocks("sh", relayd, port)
    setting, *make = run.split()
    assert make == ["make", "run"]
    name, value = setting.split("=")
    folder = tmp_path / "page"
    folder.mkdir()
    [page] = blocks("html", relayd, port)
    (folder / "circle.html").write_text(page)
    relayd.env[name] = value
    relayd.start()
    files = subprocess.Popen(serve.split(), cwd=folder, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: is_served(url))
        mover, watcher = (start_browser().open(url) for _ in range(2))
        for window in (mover, watcher):
            window.screen("desktop")
            window.wait_for(partial(says, window, "connected"))
        for x, y in ((300, 200), (900, 600)):
            move = {"type": "mouseMoved", "x": x, "y": y}
            mover.driver.execute_cdp_cmd("Input.dispatchMouseEvent", move)
            for window in (mover, watcher):
                window.wait_for(partial(window.driver.execute_script, BLUE, x, y))
        complaints = mover.complaints() + watcher.complaints()
        assert [each for each in complaints if "getImageData" not in each] == []  # the test's own
        relayd.stop()
        watcher.wait_for(partial(says, watcher, "lost"))
        relayd.start()
        watcher.wait_for(partial(says, watcher, "connected"))
    finally:
        files.kill()
        files.wait()
        relayd.stop()
