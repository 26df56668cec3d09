"""A pair in two real browsers: the code is read from the screen, as a phone's camera does."""

import io
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import zxingcpp
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.chromium import Browser
from tests.daemon import Daemon

NO_RECEIPT = "asked, no receipt yet…"


def scan(browser: Browser) -> str:
    """What a phone's camera reads on the screen, as soon as there is something."""
    found: list[str] = []

    def look() -> bool:
        screen = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png()))
        found[:] = [code.text for code in zxingcpp.read_barcodes(screen)]
        return bool(found)

    browser.wait_for(look)
    [text] = found
    return text


def state(browser: Browser) -> str:
    return str(
        browser.driver.execute_script("return document.getElementById('pair').dataset.state")
    )


def press(browser: Browser, difficulty: int) -> None:
    browser.driver.find_element(By.CSS_SELECTOR, f".levels [value='{difficulty}']").click()


def last_receipt(browser: Browser) -> str:
    return browser.texts("#answers li:first-child span")[0]


@pytest.fixture
def pair(
    daemon: Daemon, browser: Browser, start_browser: Callable[[], Browser]
) -> Iterator[tuple[Browser, Browser]]:
    """A headset, and the phone that has scanned its code."""
    headset, phone = browser, start_browser()
    headset.screen("desktop")
    phone.screen("phone")
    for each in (headset, phone):
        each.choose(daemon.url, "en", "dark")
        each.complaints()
    headset.open(f"{daemon.url}/pair/")
    phone.open(scan(headset))
    phone.wait_for(lambda: phone.shown("#headset") == "The headset is there.")
    yield headset, phone
    for each in (headset, phone):
        assert each.violations() == []


def test_a_phone_scans_the_code_asks_and_the_headset_shows_what_was_drawn_and_chosen(
    daemon: Daemon, pair: tuple[Browser, Browser]
) -> None:
    headset, phone = pair
    for browser in pair:
        assert not urlsplit(browser.driver.current_url).fragment
    press(phone, 2)
    phone.wait_for(lambda: last_receipt(phone).startswith("the headset has it"))
    headset.wait_for(lambda: len(headset.texts("#round fieldset")) == 4)
    assert headset.texts("#round legend")[3] == "Action"
    assert headset.shown("#news").startswith("Round 1, drawn at ")
    choices = headset.texts("#round label")
    assert len(choices) == 8
    assert all(choices)
    first = headset.driver.find_elements(By.CSS_SELECTOR, "#round fieldset:first-child input")
    chosen = first[1].get_attribute("value")
    first[1].click()
    assert headset.texts("#round fieldset:first-child [role=status] b") == [f"Chosen: {chosen}."]
    first[1].send_keys(Keys.ARROW_LEFT)  # the keyboard changes it
    chosen = first[0].get_attribute("value")
    assert headset.texts("#round fieldset:first-child [role=status] b") == [f"Chosen: {chosen}."]
    phone.driver.find_element(By.ID, "other").send_keys("77", Keys.ENTER)
    phone.wait_for(lambda: last_receipt(phone) != NO_RECEIPT)
    assert last_receipt(phone) == "There is no quiz or no action of this difficulty."
    assert headset.shown("#news").startswith("Round 1")
    assert headset.barriers() == phone.barriers() == []
    assert headset.complaints() == phone.complaints() == []
    code = urlsplit(scan(headset))
    assert "{uuid}" in daemon.log
    for hidden in (code.path.split("/")[2], code.fragment.removeprefix("secret=")):
        assert len(hidden) > 20
        assert hidden not in daemon.log


def test_a_headset_that_leaves_and_returns_keeps_its_pair_and_secret(
    pair: tuple[Browser, Browser],
) -> None:
    headset, phone = pair
    address = headset.driver.current_url
    headset.open("about:blank")
    phone.wait_for(lambda: phone.shown("#headset").startswith("The headset has left"))
    press(phone, 1)
    phone.wait_for(lambda: last_receipt(phone) == "The headset is not there.")
    headset.open(address)
    phone.wait_for(lambda: phone.shown("#headset") == "The headset is there.")
    assert re.search(r"/#secret=.{22}$", scan(headset))
    press(phone, 1)
    headset.wait_for(lambda: len(headset.texts("#round fieldset")) == 4)


def test_a_second_phone_takes_the_place_of_the_first_which_says_so(
    pair: tuple[Browser, Browser],
) -> None:
    headset, phone = pair
    address = scan(headset)
    phone.driver.switch_to.new_window("tab")
    phone.open(address)
    phone.wait_for(lambda: phone.shown("#headset") == "The headset is there.")
    phone.driver.switch_to.window(phone.driver.window_handles[0])
    phone.wait_for(lambda: state(phone) == "refused")
    assert phone.shown("#status").startswith("Another window or device has taken this place")
    assert (phone.shown("#retry"), phone.shown("#countdown")) == ("Try again", "")
    assert not phone.driver.find_element(By.CSS_SELECTOR, ".levels button").is_enabled()


def test_a_phone_waits_for_its_headset_and_another_secret_is_refused(
    daemon: Daemon, browser: Browser, start_browser: Callable[[], Browser]
) -> None:
    address = f"{daemon.url}/pair/123e4567-e89b-42d3-a456-426614174000/"
    phone, headset = browser, start_browser()
    phone.choose(daemon.url, "en", "light")
    phone.open(f"{address}#secret=a-secret-of-the-headset")
    phone.wait_for(lambda: state(phone) == "waiting")
    assert phone.shown("#status") == "The headset is not there."
    headset.choose(daemon.url, "en", "light")
    headset.open(f"{address}headset#secret=a-secret-of-the-headset")
    phone.wait_for(lambda: state(phone) == "connected")
    phone.driver.switch_to.new_window("tab")  # sessions are of a tab: this one has no secret
    phone.open(address)
    phone.wait_for(lambda: state(phone) == "refused")
    assert phone.shown("#status").startswith("This pair is bound to another secret")
    phone.open(f"{address}#secret=short")
    phone.wait_for(lambda: "16 to 256" in phone.shown("#status"))
