"""The page of a room: its members, whose a message is, its state, what is unread, what is older."""

import json
from collections.abc import Callable
from pathlib import Path

import jwt
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.chromium import Browser
from tests.daemon import Daemon

KEY = {"Authorization": "Bearer a-key-for-tests"}
SECRET = "a secret for tests that is long enough for HS256"


def post(daemon: Daemon, text: str, room: str = "lobby") -> None:
    body = json.dumps({"message": text}).encode()
    assert daemon.post(f"/api/chat/{room}", body, **KEY)[0] == 200


def enter(daemon: Daemon, browser: Browser, room: str = "lobby", fragment: str = "") -> None:
    browser.choose(daemon.url, "en", "light")
    browser.complaints()
    browser.open(f"{daemon.url}/chat/{room}/{fragment}").wait_for_state("connected")


def scroll_to(browser: Browser, position: int) -> None:
    script = "document.getElementById('scroll').scrollTop = arguments[0]"
    browser.driver.execute_script(script, position)


def test_people_see_who_is_here_whose_a_message_is_and_who_comes_and_leaves(
    tmp_path: Path, browser: Browser, start_browser: Callable[[], Browser]
) -> None:
    settings = {"RELAYD_AUTH_SECRET": SECRET, "RELAYD_AUTH_CHAT": "token"}
    daemon = Daemon(tmp_path, settings).start()
    ada, bob = (f"#token={jwt.encode({'sub': name}, SECRET)}" for name in ("ada", "bob"))
    try:
        enter(daemon, browser, fragment=ada)
        browser.wait_for(lambda: browser.shown("#here-count") == "Here now: 1")
        browser.driver.find_element(By.CSS_SELECTOR, "#here summary").click()
        assert browser.texts("#here-names li") == ["ada (You)"]
        other = start_browser()
        enter(daemon, other, fragment=bob)
        browser.wait_for(lambda: browser.texts("#here-names li") == ["ada (You)", "bob"])
        browser.wait_for(lambda: browser.texts(".event") == ["Joined: bob"])
        browser.say("hello")
        browser.say("and again")
        other.wait_for(lambda: other.texts() == ["hello", "and again"])
        assert other.texts("#messages .user") == ["ada"]  # once for both
        other.say("hi")
        browser.wait_for(lambda: len(browser.texts()) == 3)
        assert browser.texts("#messages .own .text") == ["hello", "and again"]
        assert browser.texts("#messages .user") == ["You", "bob"]
        assert other.texts("#messages .own .text") == ["hi"]
        assert browser.barriers() == []
        assert other.complaints() == []
        other.open("about:blank")
        browser.wait_for(lambda: browser.texts(".event")[-1:] == ["Left: bob"])
        browser.wait_for(lambda: browser.shown("#here-count") == "Here now: 1")
        assert browser.complaints() == []
    finally:
        daemon.stop()


def test_older_messages_come_when_somebody_scrolls_up_until_the_room_begins(
    daemon: Daemon, browser: Browser
) -> None:
    for number in range(170):
        post(daemon, str(number))
    enter(daemon, browser)
    browser.wait_for(lambda: browser.shown("#older") == "Older messages")
    assert browser.texts() == [str(number) for number in range(120, 170)]
    scroll_to(browser, 0)
    browser.wait_for(lambda: len(browser.texts()) == 150)
    in_view = browser.driver.execute_script(
        "const box = document.getElementById('scroll').getBoundingClientRect();"
        "return [...document.querySelectorAll('.message')].find("
        "  (each) => each.getBoundingClientRect().bottom > box.top).innerText"
    )
    assert in_view.startswith(("119", "120"))  # what was at the top is there still
    scroll_to(browser, 0)
    browser.wait_for(lambda: len(browser.texts()) == 170)
    assert browser.texts() == [str(number) for number in range(170)]
    assert len(browser.texts(".day")) == 1
    scroll_to(browser, 0)
    browser.wait_for(lambda: browser.shown("#beginning") == "This is where the room begins.")
    assert browser.shown("#older") == ""
    assert browser.complaints() == []


def test_the_first_unread_message_is_marked_and_all_are_counted_until_they_are_in_view(
    daemon: Daemon, browser: Browser
) -> None:
    for number in range(40):
        post(daemon, str(number))
    enter(daemon, browser)
    busy = "return document.getElementById('scroll').ariaBusy"
    browser.wait_for(lambda: browser.driver.execute_script(busy) == "false")
    assert len(browser.texts()) == 40
    scroll_to(browser, 100)
    browser.wait_for(lambda: browser.shown("#newer") == "To the end ↓")
    post(daemon, "first")
    post(daemon, "second")
    browser.wait_for(lambda: browser.shown("#newer") == "New messages: 2 ↓")
    assert browser.driver.title.startswith("(2) lobby")
    after = "return document.querySelector('.unread').nextElementSibling.textContent"
    assert browser.driver.execute_script(after).startswith("first")
    browser.driver.find_element(By.ID, "newer").click()
    browser.wait_for(lambda: browser.driver.title.startswith("lobby"))
    post(daemon, "third")
    browser.wait_for(lambda: browser.texts()[-1] == "third")
    assert (browser.shown("#newer"), browser.driver.title[:5]) == ("", "lobby")
    browser.driver.switch_to.new_window("tab")  # nobody looks at the room
    post(daemon, "fourth")
    browser.driver.switch_to.window(browser.driver.window_handles[0])
    browser.wait_for(lambda: browser.driver.execute_script(after).startswith("fourth"))
    assert len(browser.texts(".unread")) == 1


def test_addresses_are_links_and_nothing_else_is(daemon: Daemon, browser: Browser) -> None:
    post(
        daemon,
        "see https://a.example/x_(y)?q=1#z. (or http://b.example) javascript:alert(1) "
        "https://bank.example@evil.example/ <a href='https://c.example'>c</a> HTTPS://d.example/、",
    )
    enter(daemon, browser)
    browser.wait_for(lambda: len(browser.texts()) == 1)
    links = browser.driver.find_elements(By.CSS_SELECTOR, "#messages a")
    assert [link.text for link in links] == [
        *("https://a.example/x_(y)?q=1#z", "http://b.example", "https://c.example"),
        "HTTPS://d.example/",
    ]
    for link in links:
        assert link.get_attribute("target") == "_blank"
        assert {"noopener", "noreferrer"} <= set(str(link.get_attribute("rel")).split())


def test_a_message_waits_for_the_connection_and_a_failed_one_may_be_sent_again_or_discarded(
    tmp_path: Path, browser: Browser
) -> None:
    settings = {"RELAYD_API_KEY": "a-key-for-tests", "RELAYD_CHAT_MAX_ROOMS": "1"}
    daemon = Daemon(tmp_path, settings).start()
    try:
        enter(daemon, browser)
        browser.network(offline=True)
        browser.wait_for_state("lost")
        browser.say("first")
        assert browser.texts("#pending .note") == ["waits for the connection"]
        browser.network(offline=False)
        browser.wait_for(lambda: browser.texts("#messages .own .text") == ["first"])
        assert browser.texts("#pending li") == []
        enter(daemon, browser, room="another")  # there may be no second room
        browser.say("refused")
        browser.wait_for(lambda: browser.texts("#pending .note")[:1] != ["sending…"])
        assert browser.texts("#pending .note")[0].startswith("Not sent: ")
        assert browser.shown("#problem") == ""
        again, discard = browser.driver.find_elements(By.CSS_SELECTOR, "#pending button")
        assert (again.text, discard.text) == ("Send again", "Discard")
        assert browser.barriers() == []
        again.click()
        browser.wait_for(lambda: browser.texts("#pending .note")[0].startswith("Not sent: "))
        discard.click()
        browser.wait_for(lambda: browser.texts("#pending li") == [])
    finally:
        daemon.stop()


def test_enter_sends_but_not_with_shift_or_while_a_keyboard_composes(
    daemon: Daemon, browser: Browser
) -> None:
    enter(daemon, browser)
    field = browser.driver.find_element(By.ID, "text")
    field.send_keys("one", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two")
    browser.driver.execute_script(
        "arguments[0].dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))",
        field,
    )
    assert field.get_property("value") == "one\ntwo"
    field.send_keys(Keys.ENTER)
    browser.wait_for(lambda: browser.texts() == ["one\ntwo"])
    assert field.get_property("value") == ""
