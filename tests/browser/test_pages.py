"""Every page of the table, in Chromium: both languages, light and dark, phone and desktop."""

from collections.abc import Callable

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from relayd.web.catalogues import CATALOGUES
from tests.chromium import SCREENS, Browser
from tests.daemon import Daemon
from tests.web_pages import PAGES

# Each of language, theme and screen with each other; the fourth combination would add nothing.
LOOKS = [("en", "light", "phone"), ("en", "dark", "desktop"), ("ja", "dark", "phone")]
LOOKS += [("ja", "light", "desktop")]
MOST_BYTES = 60_000


@pytest.mark.parametrize(("language", "theme", "screen"), LOOKS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_barrier_no_error_and_no_width_beyond_its_screen(
    shared: tuple[Daemon, Browser], page: str, language: str, theme: str, screen: str
) -> None:
    daemon, browser = shared
    browser.screen(screen)
    browser.choose(daemon.url, language, theme)
    browser.complaints()
    browser.open(daemon.url + PAGES[page])
    expected = ["404"] if page == "error" else []
    complaints = browser.complaints()
    assert len(complaints) == len(expected), complaints
    assert browser.driver.execute_script("return document.documentElement.lang") == language
    assert browser.driver.find_element(By.TAG_NAME, "h1").is_displayed()
    width = browser.driver.execute_script("return document.scrollingElement.scrollWidth")
    assert width <= SCREENS[screen][0]
    assert browser.barriers() == []


@pytest.mark.parametrize("language", sorted(CATALOGUES))
def test_every_page_takes_less_than_60_kb_from_an_empty_cache(
    shared: tuple[Daemon, Browser], language: str
) -> None:
    daemon, browser = shared
    browser.choose(daemon.url, language, "light")
    sizes = {page: browser.transferred(daemon.url + path) for page, path in PAGES.items()}
    assert min(sizes.values()) > 2000
    assert {page: size for page, size in sizes.items() if size >= MOST_BYTES} == {}
    browser.complaints()


def test_all_languages_have_a_look() -> None:
    assert {language for language, _, _ in LOOKS} == set(CATALOGUES)


def test_axe_finds_a_barrier_that_is_there(shared: tuple[Daemon, Browser]) -> None:
    daemon, browser = shared
    browser.open(f"{daemon.url}/chat/")
    browser.driver.execute_script(
        "document.querySelector('label').remove();"
        "document.querySelector('input').removeAttribute('title');"
        "document.querySelector('input').removeAttribute('placeholder')"
    )
    assert "label" in [each["rule"] for each in browser.barriers()]


def test_the_switches_in_the_head_change_language_and_colours_and_both_last(
    shared: tuple[Daemon, Browser],
) -> None:
    daemon, browser = shared
    browser.screen("desktop")
    browser.driver.delete_all_cookies()
    browser.open(daemon.url)
    browser.driver.find_element(By.CSS_SELECTOR, ".choices [lang=ja]").click()
    root = browser.driver.find_element(By.TAG_NAME, "html")
    assert root.get_attribute("lang") == "ja"
    browser.driver.find_element(By.CSS_SELECTOR, ".theme").click()
    browser.open(f"{daemon.url}/chat/")
    root = browser.driver.find_element(By.TAG_NAME, "html")
    assert (root.get_attribute("lang"), root.get_attribute("data-theme")) == ("ja", "dark")
    dark = browser.driver.find_element(By.TAG_NAME, "body").value_of_css_property(
        "background-color"
    )
    browser.driver.find_element(By.CSS_SELECTOR, ".theme").click()
    light = browser.driver.find_element(By.TAG_NAME, "body").value_of_css_property(
        "background-color"
    )
    assert dark != light
    browser.driver.delete_all_cookies()


def position(browser: Browser) -> list[str]:
    """The cells of the first sender in the list of the map: name, x, y, z, rate."""
    found = browser.texts("#senders tr:first-child td")
    return found if len(found) == 5 else []


def test_a_circle_moves_in_one_window_as_it_is_moved_in_another(
    shared: tuple[Daemon, Browser], start_browser: Callable[[], Browser]
) -> None:
    daemon, viewer = shared
    viewer.screen("desktop")
    viewer.choose(daemon.url, "en", "light")
    viewer.complaints()
    viewer.open(f"{daemon.url}/camera/g/")
    viewer.wait_for(lambda: viewer.shown("#nobody").startswith("Nobody is sending."))
    sender = start_browser().open(f"{daemon.url}/camera/g/send")
    viewer.wait_for(lambda: position(viewer)[1:4] == ["0.00", "0.00", "0.00"])
    assert viewer.shown("#nobody") == ""
    pad = sender.driver.find_element(By.ID, "pad")
    pad.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.PAGE_UP)
    viewer.wait_for(lambda: position(viewer)[1:4] == ["0.50", "0.25", "-0.25"])
    pad.click()  # the middle, to a pixel
    viewer.wait_for(lambda: all(abs(float(each)) < 0.1 for each in position(viewer)[1:4:2]))
    assert len(viewer.texts("#senders tr")) == 1
    sender.wait_for(lambda: "back after" in sender.shown("#figures"))
    assert sender.complaints() == []
    sender.driver.quit()
    viewer.wait_for(lambda: viewer.shown("#nobody") != "")
    assert viewer.complaints() == []
