"""`make screenshots`: a picture of every page of `tests/web_pages.py` in docs/images.

On a relayd and in a Chromium of its own, with life in it: three cameras go round, and people have
talked. Pictures of the room show the time of day, so they differ from run to run.
"""

import asyncio
import contextlib
import json
import math
import sys
import tempfile
import threading
import time
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.chromium import SCREENS, Browser
from tests.daemon import Daemon
from tests.web_pages import PAGES

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LOOKS = [("en", "light", "desktop"), ("en", "dark", "phone"), ("ja", "light", "phone")]
LOOKS += [("ja", "dark", "desktop")]
KEY = {"Authorization": "Bearer a-key-for-tests"}
SAID = ("Good morning!", "The headset is in the blue box.", "お疲れさまです。始めましょう。")


async def _go_round(url: str, number: int) -> None:
    async with connect(f"{url}/ws/camera/demo") as socket:
        for step in range(100_000):
            angle = step / 15 + number * 2.1
            x, z = (2 + number) * math.cos(angle), (2 + number) * math.sin(angle * 0.7)
            pose = {"x": round(x, 3), "y": round(math.sin(angle * 2), 3), "z": round(z, 3)}
            await socket.send(json.dumps(pose))
            await asyncio.sleep(0.1)


async def _cameras(url: str) -> None:
    with contextlib.suppress(ConnectionClosed):  # relayd has ended, and so have the pictures
        await asyncio.gather(*(_go_round(url, number) for number in range(3)))


def main() -> None:
    """Makes all pictures, or those of the pages that the command line names."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        daemon = Daemon(folder, {"RELAYD_API_KEY": "a-key-for-tests"}).start()
        threading.Thread(target=lambda: asyncio.run(_cameras(daemon.ws_url)), daemon=True).start()
        for text in SAID:
            daemon.post("/api/chat/lobby", json.dumps({"message": text}).encode(), **KEY)
        browser = Browser(folder / "profile")
        for page in sys.argv[1:] or PAGES:
            for language, theme, screen in LOOKS:
                browser.screen(screen)
                browser.choose(daemon.url, language, theme)
                browser.open(daemon.url + PAGES[page])
                time.sleep(3 if "camera" in page else 1.5)  # trails, the history, fonts
                target = IMAGES / f"{page}-{language}-{theme}-{screen}.png"
                browser.driver.save_screenshot(str(target))
                print(f"screenshots: docs/images/{target.name}, {SCREENS[screen][0]} wide")
        browser.driver.quit()
        daemon.stop()


if __name__ == "__main__":
    main()
