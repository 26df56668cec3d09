"""A Chromium that a test drives and reads; axe-core, which looks for barriers in its pages."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.common.exceptions import JavascriptException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.npm import npm_package

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# While `deaf` is set, no WebSocket of the page hears anything; `hear` tells it what it missed.
DEAF = """
window.deaf = false;
window.missed = [];
window.hear = () => {
  deaf = false;
  for (const [socket, data] of missed.splice(0))
    socket.dispatchEvent(new MessageEvent("message", { data }));
};
window.WebSocket = class extends WebSocket {
  constructor(...all) {
    super(...all);
    this.addEventListener("message", (event) => {
      if (!window.deaf) return;
      event.stopImmediatePropagation();
      missed.push([this, event.data]);
    });
  }
};
"""


SCREENS = {"phone": (390, 844, True), "desktop": (1280, 800, False)}
"""Width and height in CSS pixels, and whether it is a touch screen."""


@functools.cache
def axe_source() -> str:
    """axe-core, the script."""
    return (npm_package("axe-core", "4.14.1") / "axe.min.js").read_text(encoding="utf-8")


class Browser:
    """One Chromium with a profile of its own, and what a person sees in it.

    Args:
        profile: the folder of its profile.
        *arguments: further ones of its command.
    """

    def __init__(self, profile: Path, *arguments: str) -> None:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (*ARGUMENTS, *arguments, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.console: list[str] = []

    def screen(self, name: str) -> None:
        """Makes the window one of `SCREENS`."""
        width, height, mobile = SCREENS[name]
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
        )

    def choose(self, url: str, language: str, theme: str) -> None:
        """Sets the cookies with which a page comes in a language and in light or dark."""
        self.driver.get(f"{url}/healthz")
        for name, value in (("relayd_lang", language), ("relayd_theme", theme)):
            self.driver.add_cookie({"name": name, "value": value, "path": "/"})

    def barriers(self) -> list[dict[str, Any]]:
        """What axe-core finds on the page that is a barrier for somebody: serious or critical."""
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe_source()})
        result = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run(document, {resultTypes: ['violations']}).then(done, (e) => done(String(e)));"
        )
        assert isinstance(result, dict), result
        return [
            {"rule": each["id"], "where": [node["html"][:200] for node in each["nodes"]]}
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def complaints(self) -> list[str]:
        """The errors and warnings in the console since the last call."""
        found = [entry["message"] for entry in self.driver.get_log("browser")]
        self.console += found
        return found

    def open(self, url: str) -> "Browser":
        self.driver.get(url)
        return self

    def transferred(self, url: str) -> int:
        """The bytes that a page and all that it loads take from an empty cache, heads too."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        self.driver.get(url)
        sizes = (
            "return [...performance.getEntriesByType('navigation'),"
            " ...performance.getEntriesByType('resource')].map((entry) => entry.transferSize)"
        )
        return sum(self.driver.execute_script(sizes))

    def can_be_deaf(self) -> None:
        """Puts DEAF into every page that is opened from now on, before its own scripts."""
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": DEAF})

    def wait_for(self, what: Callable[[], object], seconds: float = 20) -> None:
        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: what())

    def wait_for_state(self, state: str) -> None:
        """Until the chat shows the state, also on a page that the browser has yet to load."""
        script = "return document.getElementById('chat')?.dataset.state"

        def is_shown() -> bool:
            with contextlib.suppress(JavascriptException):  # the browser leaves the page
                return bool(self.driver.execute_script(script) == state)
            return False

        self.wait_for(is_shown)

    def texts(self, where: str = "#messages .text") -> list[str]:
        """The texts of all elements that a selector finds, in one moment."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        found: list[str] = self.driver.execute_script(script, where)
        return found

    def shown(self, selector: str) -> str:
        """What a person can read of an element; empty while it is hidden."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def say(self, text: str) -> None:
        self.driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)

    def network(self, *, offline: bool) -> None:
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )

    def violations(self) -> list[str]:
        """What the Content-Security-Policy has stopped."""
        self.console += [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in self.console if "Content Security Policy" in line]
