"""The rooms that are alive on the page /chat/, in a real Chromium."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import jwt
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.chromium import SCREENS, Browser
from tests.daemon import Daemon

SECRET = "a secret of at least thirty-two bytes"
LINES = "#rooms li"
NAMES = "#rooms a"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def look(browser: Browser) -> None:
    """Has the page ask at once, as when somebody comes back to it."""
    browser.driver.execute_script("document.dispatchEvent(new Event('visibilitychange'))")


def names(browser: Browser) -> list[str]:
    """The rooms that the page shows after it has asked again."""
    look(browser)
    return browser.texts(NAMES)


def test_rooms_come_with_their_members_and_last_message_and_go_and_a_link_leads_into_each(
    shared: tuple[Daemon, Browser], stack: ExitStack
) -> None:
    daemon, browser = shared
    browser.screen("desktop")
    browser.choose(daemon.url, "en", "light")
    browser.complaints()
    browser.open(f"{daemon.url}/chat/")
    browser.wait_for(lambda: browser.shown("#live") != "")
    assert browser.shown("#nobody") == "Nobody is in a room at the moment."
    for path in ("quiet", "%E5%B7%A5%E6%88%BF", "%E5%B7%A5%E6%88%BF"):
        client = stack.enter_context(daemon.connect(f"/ws/chat/{path}"))
    client.send(json.dumps({"message": "hi"}))
    browser.wait_for(lambda: names(browser) == ["工房", "quiet"])
    assert browser.shown("#nobody") == ""
    words = [line.text.split("\n") for line in browser.driver.find_elements(By.CSS_SELECTOR, LINES)]
    assert words == [
        ["工房", "Here now: 2", "Last message: now"],
        ["quiet", "Here now: 1", "No messages"],
    ]
    # a line that somebody has chosen stays where it is while rooms come and go
    link = browser.driver.find_element(By.CSS_SELECTOR, f"{LINES}:last-child a")
    browser.driver.execute_script("arguments[0].focus()", link)
    with daemon.connect("/ws/chat/new") as third:
        third.send(json.dumps({"message": "hi"}))
        browser.wait_for(lambda: names(browser) == ["工房", "quiet", "new"])
        assert browser.driver.switch_to.active_element == link
    browser.wait_for(lambda: names(browser) == ["工房", "quiet"])
    link.send_keys(Keys.ENTER)
    browser.wait_for_state("connected")
    assert browser.driver.current_url == f"{daemon.url}/chat/quiet/"
    assert browser.complaints() == []


def test_times_are_in_the_language_of_the_visitor_and_grow(
    shared: tuple[Daemon, Browser], stack: ExitStack
) -> None:
    daemon, browser = shared
    client = stack.enter_context(daemon.connect("/ws/chat/times"))
    client.send(json.dumps({"message": "hi"}))
    browser.choose(daemon.url, "ja", "dark")
    browser.open(f"{daemon.url}/chat/")
    browser.wait_for(lambda: "times" in names(browser))
    for seconds, words in ((0, "今"), (301, "5 分前"), (7300, "2 時間前"), (90_000, "昨日")):
        browser.driver.execute_script(
            "window.now ??= Date.now; Date.now = () => now() + 1000 * arguments[0]", seconds
        )
        look(browser)
        wanted = f"最後のメッセージ: {words}"
        browser.wait_for(lambda wanted=wanted: wanted in browser.texts(f"{LINES} .hint"))  # type: ignore[misc]


@pytest.mark.parametrize(("theme", "screen"), [("light", "phone"), ("dark", "desktop")])
def test_the_list_has_no_barrier_and_no_width_beyond_its_screen_whatever_a_room_is_called(
    shared: tuple[Daemon, Browser], stack: ExitStack, theme: str, screen: str
) -> None:
    daemon, browser = shared
    for path in ("w" * 100, "%D7%A9%D7%9C%D7%95%D7%9D"):
        stack.enter_context(daemon.connect(f"/ws/chat/{path}"))
    browser.screen(screen)
    browser.choose(daemon.url, "en", theme)
    browser.complaints()
    browser.open(f"{daemon.url}/chat/")
    browser.wait_for(lambda: "w" * 100 in names(browser))
    width = browser.driver.execute_script("return document.scrollingElement.scrollWidth")
    assert width <= SCREENS[screen][0]
    assert browser.barriers() == []
    assert browser.complaints() == []


def test_a_server_that_does_not_answer_is_told_once_and_the_list_comes_back(
    shared: tuple[Daemon, Browser], stack: ExitStack
) -> None:
    daemon, browser = shared
    browser.screen("desktop")
    browser.choose(daemon.url, "en", "light")
    with daemon.connect("/ws/chat/before"):
        browser.open(f"{daemon.url}/chat/")
        browser.wait_for(lambda: names(browser) == ["before"])
        daemon.kill()
        look(browser)
        browser.wait_for(lambda: browser.shown("#problem") != "")
    assert browser.shown("#problem").startswith("The rooms cannot be listed at the moment")
    assert browser.texts(NAMES) == ["before"], "what was known stays"
    daemon.start()
    stack.enter_context(daemon.connect("/ws/chat/after"))
    browser.wait_for(lambda: names(browser) == ["after"])
    assert browser.shown("#problem") == ""


def test_a_token_from_the_address_or_the_form_shows_the_rooms_that_it_is_good_for(
    browser: Browser, tmp_path: Path, stack: ExitStack
) -> None:
    settings = {"RELAYD_AUTH_SECRET": SECRET, "RELAYD_AUTH_CHAT": "token"}
    daemon = Daemon(tmp_path, settings).start()
    stack.callback(daemon.stop)
    every, only = (jwt.encode({"scope": scope}, SECRET) for scope in ("chat", "chat/a"))
    for room in ("a", "b"):
        stack.enter_context(daemon.connect(f"/ws/chat/{room}?token={every}"))
    browser.choose(daemon.url, "en", "light")
    browser.complaints()
    browser.open(f"{daemon.url}/chat/")
    browser.wait_for(lambda: browser.shown("#enter") != "")
    assert browser.texts(NAMES) == []
    assert browser.barriers() == []
    field = browser.driver.find_element(By.ID, "token")
    field.send_keys("nonsense", Keys.ENTER)
    browser.wait_for(lambda: browser.shown("#problem").startswith("This is no token"))
    assert browser.complaints() == []
    for _ in range(2):
        field.clear()
        field.send_keys("a.b.c", Keys.ENTER)
        browser.wait_for(lambda: browser.shown("#problem") == "You need a valid token here.")
    field.send_keys(only, Keys.ENTER)
    browser.wait_for(lambda: names(browser) == ["a"])
    assert browser.shown("#problem") == browser.shown("#enter") == ""
    browser.open(f"{daemon.url}/chat/#token={every}")
    browser.wait_for(lambda: names(browser) == ["a", "b"])
    assert browser.driver.current_url == f"{daemon.url}/chat/"
    browser.driver.find_element(By.CSS_SELECTOR, NAMES).click()
    browser.wait_for_state("connected")
