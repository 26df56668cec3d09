"""`make screenshots`: a picture of every page of `tests/web_pages.py` in docs/images.

On a relayd and in a Chromium of its own, with life in it: three cameras go round, people talk, a
job runs, a phone asks a headset. Times of day in the pictures differ from run to run.
"""

import asyncio
import contextlib
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from relayd.console.passwords import hash_password
from tests.chromium import SCREENS, Browser
from tests.daemon import Daemon
from tests.web_pages import CONSOLE, PAGES, PAIR

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LOOKS = [("en", "light", "desktop"), ("en", "dark", "phone"), ("ja", "light", "phone")]
LOOKS += [("ja", "dark", "desktop")]
KEY = {"Authorization": "Bearer a-key-for-tests"}
SECRET = "a secret for pictures that is long enough for HS256"
PASSWORD = "a password for pictures"
SAID = (
    ("ada", "Good morning!"),
    ("ada", "The headset is in the blue box, the manual at https://relay.example/manual."),
    ("学", "お疲れさまです。始めましょう。"),
)
ROOMS = ("garden", "%E5%B7%A5%E6%88%BF", "garden")
JOB = ((8, "214 files fetched"), (31, "compiling"), (64, "linking"))


async def _read(socket: ClientConnection) -> None:
    async for _ in socket:  # who does not read is closed
        pass


async def _go_round(url: str, number: int) -> None:
    async with connect(f"{url}/ws/camera/demo") as socket, asyncio.TaskGroup() as tasks:
        tasks.create_task(_read(socket))
        for step in range(100_000):
            angle = step / 15 + number * 2.1
            x, z = (2 + number) * math.cos(angle), (2 + number) * math.sin(angle * 0.7)
            pose = {"x": round(x, 3), "y": round(math.sin(angle * 2), 3), "z": round(z, 3)}
            await socket.send(json.dumps(pose))
            await asyncio.sleep(0.1)


async def _cameras(url: str) -> None:
    with contextlib.suppress(
        ConnectionClosed, ExceptionGroup
    ):  # relayd has ended, and so have the pictures
        await asyncio.gather(*(_go_round(url, number) for number in range(3)))


@contextlib.contextmanager
def _people(daemon: Daemon) -> Iterator[None]:
    """Two people with names are in the room, and have talked; others are in other rooms."""
    with contextlib.ExitStack() as stack:
        for room in ROOMS:
            stack.enter_context(daemon.connect(f"/ws/chat/{room}")).send('{"message": "hi"}')
        sockets = {
            name: stack.enter_context(
                daemon.connect(f"/ws/chat/lobby?token={jwt.encode({'sub': name}, SECRET)}")
            )
            for name in ("ada", "学")
        }
        for name, text in SAID:
            sockets[name].send(json.dumps({"message": text}))
            while json.loads(sockets[name].recv(timeout=10)).get("message") != text:
                pass
        yield


def _log_in(daemon: Daemon, browser: Browser) -> None:
    browser.open(f"{daemon.url}/console/")
    if browser.driver.find_elements(By.NAME, "password"):
        browser.driver.find_element(By.NAME, "password").send_keys(PASSWORD, Keys.ENTER)


@contextlib.contextmanager
def _life(daemon: Daemon, browser: Browser, page: str) -> Iterator[None]:
    """What happens on a page that is open, while its picture is taken."""
    with contextlib.ExitStack() as stack:
        if page == "pair_headset":
            browser.wait_for(lambda: browser.driver.find_elements(By.CSS_SELECTOR, "#code svg"))
            browser.wait_for(lambda: browser.shown("#status") != "")
            time.sleep(1)
            phone = stack.enter_context(daemon.connect(f"/ws/difficulty/android/{PAIR}"))
            phone.send('{"difficulty": 2}')
            browser.wait_for(lambda: browser.texts("#round fieldset"))
            browser.driver.find_element(By.CSS_SELECTOR, "#round input").click()
        elif page == "pair_phone":
            stack.enter_context(daemon.connect(f"/ws/difficulty/unity/{PAIR}"))
            browser.wait_for(lambda: browser.shown("#headset") != "")
            browser.driver.find_element(By.CSS_SELECTOR, ".levels [value='2']").click()
            browser.driver.find_element(By.ID, "other").send_keys("77", Keys.ENTER)
        elif page == "push":
            time.sleep(1)
            for percent, message in JOB:
                body = json.dumps({"percent": percent, "message": message})
                daemon.post("/api/push/build", body.encode(), **KEY)
        elif page == "room":
            browser.wait_for_state("connected")
            if not browser.driver.get_cookie("said"):
                browser.driver.add_cookie({"name": "said", "value": "yes"})
                browser.say("I am on my way.")
        yield


def main() -> None:
    """Makes all pictures, or those of the pages that the command line names."""
    IMAGES.mkdir(exist_ok=True)
    pages = {**PAGES, **CONSOLE}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        settings = {
            "RELAYD_API_KEY": "a-key-for-tests",
            "RELAYD_CHAT_LIST_ROOMS": "open",
            "RELAYD_AUTH_SECRET": SECRET,
            "RELAYD_CONSOLE_PASSWORD_HASH": hash_password(PASSWORD, log=10),
        }
        daemon = Daemon(folder, settings).start()
        stack.callback(daemon.stop)
        threading.Thread(target=lambda: asyncio.run(_cameras(daemon.ws_url)), daemon=True).start()
        stack.enter_context(_people(daemon))
        browser = Browser(folder / "profile")
        stack.callback(browser.driver.quit)
        for page in sys.argv[1:] or pages:
            for language, theme, screen in LOOKS:
                browser.screen(screen)
                browser.choose(daemon.url, language, theme)
                if page in CONSOLE:
                    _log_in(daemon, browser)
                browser.open(daemon.url + pages[page])
                with _life(daemon, browser, page):
                    # trails, the history, fonts, a chart
                    time.sleep(8 if page == "console" else 3 if "camera" in page else 1.5)
                    target = IMAGES / f"{page}-{language}-{theme}-{screen}.png"
                    browser.driver.save_screenshot(str(target))
                print(f"screenshots: docs/images/{target.name}, {SCREENS[screen][0]} wide")


if __name__ == "__main__":
    main()
