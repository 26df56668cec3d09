"""The operator's console in Chromium: every page of it, figures that move, an edit, an import."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from relayd.console.passwords import hash_password
from tests.chromium import SCREENS, Browser
from tests.daemon import Daemon
from tests.web_pages import CONSOLE

PASSWORD = "a password for tests"
NASTY = "<img src=x onerror=alert(1)>"
LOOKS = (("en", "light", "phone"), ("ja", "dark", "desktop"))


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Browser]]:
    """A relayd, and a browser whose operator has logged in."""
    folder = tmp_path_factory.mktemp("console")
    hashed = hash_password(PASSWORD, log=10)
    daemon = Daemon(folder, {"RELAYD_CONSOLE_PASSWORD_HASH": hashed}).start()
    browser = Browser(folder / "profile")
    browser.screen("desktop")
    browser.open(f"{daemon.url}/console/")
    browser.driver.find_element(By.NAME, "password").send_keys(PASSWORD, Keys.ENTER)
    browser.wait_for(lambda: browser.shown("#state").startswith("Serving"))
    yield daemon, browser
    browser.driver.quit()
    daemon.stop()


@pytest.mark.parametrize(("language", "theme", "screen"), LOOKS)
def test_a_page_of_the_console_has_no_barrier_no_error_and_no_width_beyond_its_screen(
    console: tuple[Daemon, Browser], language: str, theme: str, screen: str
) -> None:
    daemon, browser = console
    browser.screen(screen)
    cookie = browser.driver.get_cookie("relayd_console")
    browser.choose(daemon.url, language, theme)
    browser.driver.get(f"{daemon.url}/console/login")
    if browser.driver.get_cookie("relayd_console") is None:
        browser.driver.add_cookie(cookie)
    browser.complaints()
    for page, path in CONSOLE.items():
        browser.open(daemon.url + path)
        browser.wait_for(
            lambda page=page: browser.texts("tbody tr") or page == "console_clients"  # type: ignore[misc]
        )
        assert browser.driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
        width = browser.driver.execute_script("return document.scrollingElement.scrollWidth")
        assert width <= SCREENS[screen][0], page
        assert browser.barriers() == [], page
    assert browser.complaints() == []


def test_every_page_of_the_console_takes_less_than_60_kb_from_an_empty_cache(
    console: tuple[Daemon, Browser],
) -> None:
    daemon, browser = console
    browser.choose(daemon.url, "ja", "light")
    sizes = {page: browser.transferred(daemon.url + path) for page, path in CONSOLE.items()}
    assert min(sizes.values()) > 2000
    assert {page: size for page, size in sizes.items() if size >= 60_000} == {}
    browser.complaints()


def test_figures_move_and_a_client_is_found_followed_and_kicked(
    console: tuple[Daemon, Browser],
) -> None:
    daemon, browser = console
    browser.screen("desktop")
    browser.choose(daemon.url, "en", "light")
    with daemon.connect("/ws/camera/g") as camera:
        browser.open(f"{daemon.url}/console/")
        label = "return document.getElementById('chart-clients').getAttribute('aria-label')"
        browser.wait_for(lambda: browser.driver.execute_script(label) == "Clients: clients 1")
        browser.open(f"{daemon.url}/console/clients")
        browser.wait_for(lambda: len(browser.texts("#clients tr")) == 1)
        follow, kick = browser.driver.find_elements(By.CSS_SELECTOR, "#clients button")
        follow.click()
        browser.wait_for(lambda: browser.texts("#frames li"))
        camera.send(json.dumps(NASTY))
        browser.wait_for(lambda: any(NASTY in each for each in browser.texts("#frames code")))
        kick.click()
        browser.driver.switch_to.alert.accept()
        browser.wait_for(lambda: not browser.texts("#clients tr"))
    assert browser.complaints() == []


def test_a_quiz_is_edited_and_an_import_is_previewed_and_done(
    console: tuple[Daemon, Browser], tmp_path: Path
) -> None:
    daemon, browser = console
    browser.choose(daemon.url, "en", "light")
    browser.open(f"{daemon.url}/console/quizzes")
    browser.wait_for(lambda: browser.texts("#rows tr"))
    browser.driver.find_element(By.CSS_SELECTOR, "#rows button").click()
    name = browser.driver.find_element(By.ID, "field-name")
    name.clear()
    name.send_keys(NASTY, Keys.ENTER)
    browser.wait_for(lambda: NASTY in browser.texts("#rows tr:first-child td"))
    assert browser.texts("#rows img") == []
    file = tmp_path / "quizzes.csv"
    file.write_text("id,name,difficulty\n1,Mended,1\n,New,9\n")
    browser.driver.find_element(By.ID, "file").send_keys(str(file))
    browser.driver.find_element(By.CSS_SELECTOR, "#import button").click()
    browser.wait_for(lambda: browser.shown("#plan-counts"))
    assert browser.shown("#plan-counts").startswith("1 added, 1 changed, 0 removed")
    assert (browser.texts("#plan del"), browser.texts("#plan ins")) == ([NASTY], ["Mended"])
    assert NASTY in browser.texts("#rows tr:first-child td")
    browser.driver.find_element(By.ID, "apply").click()
    browser.wait_for(lambda: "Mended" in browser.texts("#rows tr:first-child td"))
    assert browser.shown("#imported") == "Imported: 1 added, 1 changed, 0 removed."
    assert browser.complaints() == []
