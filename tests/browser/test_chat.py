"""The pages of the chat in a real Chromium, against a real relayd."""

import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.chromium import Browser
from tests.daemon import Daemon

KEY = {"Authorization": "Bearer a-key-for-tests"}


def test_two_browsers_see_each_other_and_after_a_reload_the_history(
    daemon: Daemon, browser: Browser, start_browser: Callable[[], Browser]
) -> None:
    one, two = browser, start_browser()
    for each in (one, two):
        each.open(f"{daemon.url}/chat/Gr%C3%BC%C3%9Fe/").wait_for_state("connected")
    lines = ["hello", "<b>bold</b> & <img src=x onerror=alert(1)>", "שלום", "hello"]
    for number, line in enumerate(lines):
        (one if number % 2 else two).say(line)
        for each in (one, two):
            each.wait_for(lambda each=each, number=number: len(each.texts()) > number)  # type: ignore
    assert one.texts() == two.texts() == lines
    assert one.texts("#pending li") == []
    one.driver.refresh()
    one.wait_for(lambda: len(one.texts()) >= len(lines))
    assert one.texts() == lines
    assert one.texts("#messages .text *") == []
    assert re.search(r"\d", one.shown("#messages time"))
    assert one.violations() == two.violations() == []


def test_a_room_continues_after_a_crash_without_loss_or_repetition(
    daemon: Daemon, browser: Browser
) -> None:
    browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("connected")
    browser.say("before")
    browser.wait_for(lambda: browser.texts() == ["before"])
    daemon.kill()
    browser.wait_for_state("lost")
    assert re.match(r"Reconnecting in \d+ s", browser.shown("#countdown"))
    browser.say("meanwhile 1")
    browser.say("meanwhile 2")
    assert browser.texts("#pending .text") == ["meanwhile 1", "meanwhile 2"]
    daemon.start()
    daemon.post("/api/chat/lobby", b'{"message":"from elsewhere"}', **KEY)
    browser.wait_for_state("connected")
    browser.wait_for(lambda: len(browser.texts()) >= 4)
    daemon.post("/api/chat/lobby", b'{"message":"last"}', **KEY)
    browser.wait_for(lambda: browser.texts()[-1] == "last")
    assert sorted(browser.texts()) == [
        *("before", "from elsewhere", "last", "meanwhile 1", "meanwhile 2")
    ]
    assert browser.texts("#pending .text") == []
    assert browser.violations() == []
    shown = browser.texts()
    browser.driver.refresh()
    browser.wait_for(lambda: browser.texts() == shown)


def test_a_stored_but_unacknowledged_message_is_not_posted_twice(
    daemon: Daemon, browser: Browser
) -> None:
    """The worst moment to lose a connection: the copy is on its way back."""
    browser.can_be_deaf()
    browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("connected")
    browser.driver.execute_script("deaf = true")
    browser.say("once")
    with daemon.connect("/ws/chat/lobby") as other:
        assert '"once"' in str(other.recv(timeout=5))
    assert browser.texts("#pending .text") == ["once"]
    browser.driver.execute_script("deaf = false")
    browser.driver.execute_script('dispatchEvent(new Event("offline"))')
    browser.wait_for(lambda: browser.texts() == ["once"] and not browser.texts("#pending .text"))
    time.sleep(1.5)  # longer than the page waits before it would say it again
    with daemon.connect("/ws/chat/lobby") as other:
        assert '"once"' in str(other.recv(timeout=5))
        other.send('{"message":"after"}')
        assert '"after"' in str(other.recv(timeout=5))


def test_a_gap_in_the_history_is_shown(tmp_path: Path, browser: Browser) -> None:
    settings = {"RELAYD_CHAT_HISTORY_LENGTH": "5", "RELAYD_API_KEY": "a-key-for-tests"}
    daemon = Daemon(tmp_path, settings).start()
    try:
        browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("connected")
        browser.say("first")
        browser.wait_for(lambda: browser.texts() == ["first"])
        browser.network(offline=True)
        browser.wait_for_state("lost")
        for number in range(300):
            daemon.post("/api/chat/lobby", b'{"message":"%d"}' % number, **KEY)
        browser.network(offline=False)
        browser.wait_for(lambda: browser.texts()[-1] == "299")
        assert len(browser.texts(".gap")) == 1
        numbers = [int(text) for text in browser.texts()[1:]]
        assert numbers == list(range(numbers[0], 300))
    finally:
        daemon.stop()


@pytest.mark.parametrize("soon", [False, True])
def test_a_reader_of_older_messages_is_not_scrolled_away_from_them(
    daemon: Daemon, browser: Browser, soon: bool
) -> None:
    """The message comes before the browser has notified the page of its scrolling."""
    browser.can_be_deaf()
    for number in range(50):
        daemon.post("/api/chat/lobby", b'{"message":"%d"}' % number, **KEY)
    browser.open(f"{daemon.url}/chat/lobby/")
    browser.wait_for(lambda: len(browser.texts()) == 50)
    position = "return Math.round(document.getElementById('scroll').scrollTop)"
    browser.wait_for(lambda: browser.driver.execute_script(position) > 100)
    scroll_back = "document.getElementById('scroll').scrollTop = 50"
    if soon:
        browser.driver.execute_script("deaf = true")
        daemon.post("/api/chat/lobby", b'{"message":"new"}', **KEY)
        browser.wait_for(lambda: browser.driver.execute_script("return missed.length") == 1)
        browser.driver.execute_script(f"{scroll_back}; hear()")
    else:
        browser.driver.execute_script(scroll_back)
        browser.wait_for(lambda: browser.driver.execute_script(position) == 50)
        daemon.post("/api/chat/lobby", b'{"message":"new"}', **KEY)
    browser.wait_for(lambda: browser.shown("#newer") != "")
    assert browser.driver.execute_script(position) == 50
    browser.driver.find_element(By.ID, "newer").click()
    browser.wait_for(lambda: browser.shown("#newer") == "")
    assert browser.driver.execute_script(position) > 100


def test_a_refusal_is_shown_as_a_sentence(tmp_path: Path, browser: Browser) -> None:
    daemon = Daemon(tmp_path, {"RELAYD_SERVER_ALLOWED_ORIGINS": "https://elsewhere.example"})
    daemon.start()
    try:
        browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("refused")
        assert "allowed origins" in browser.shown("#status")
        assert browser.shown("#retry") == "Try again"
        assert browser.shown("#countdown") == ""
    finally:
        daemon.stop()


def test_a_room_that_needs_a_token_takes_it_from_the_form_or_the_address(
    tmp_path: Path, browser: Browser, start_browser: Callable[[], Browser]
) -> None:
    """The server gets it as a subprotocol; no address and no log shows it."""
    secret = "a secret for tests that is long enough for HS256"
    daemon = Daemon(tmp_path, {"RELAYD_AUTH_SECRET": secret, "RELAYD_AUTH_CHAT": "token"}).start()
    token = jwt.encode({"sub": "ada", "rights": ["chat/lobby"]}, secret)
    try:
        url = f"{daemon.url}/chat/lobby/"
        browser.open(url).wait_for_state("refused")
        assert browser.shown("#status") == "You need a valid token here."
        assert (browser.shown("#retry"), browser.shown("#form")) == ("", "")
        field = browser.driver.find_element(By.ID, "token")
        field.send_keys("no token", Keys.ENTER)
        assert "three parts" in browser.shown("#problem")
        field.clear()
        field.send_keys(token.replace(".", "x", 1) + ".x", Keys.ENTER)
        browser.wait_for(lambda: browser.shown("#problem") == "")
        browser.wait_for_state("refused")
        field.send_keys(token, Keys.ENTER)
        browser.wait_for_state("connected")
        assert browser.shown("#enter") == ""
        browser.say("hello")
        browser.wait_for(lambda: browser.texts("#messages .own .user") == ["You"])
        browser.driver.refresh()
        browser.wait_for_state("connected")
        daemon.kill()
        browser.wait_for_state("lost")
        daemon.start()
        browser.wait_for_state("connected")
        other = start_browser().open(f"{daemon.url}/chat/lobby#token={token}")
        other.wait_for_state("connected")
        assert other.driver.current_url == url
        other.open(f"{daemon.url}/chat/other/").wait_for_state("refused")
        assert other.shown("#status") == "You may not enter here."
        assert other.shown("#enter") != ""
        browser.driver.switch_to.new_window("tab")
        browser.open(url).wait_for_state("refused")  # the token is of the other tab
        browser.driver.execute_script("location.hash = arguments[0]", f"token={token}")
        browser.wait_for_state("connected")
        assert browser.driver.current_url == url
        assert token not in daemon.log
        assert browser.violations() == other.violations() == []
    finally:
        daemon.stop()


def test_a_full_server_is_tried_again(tmp_path: Path, browser: Browser) -> None:
    daemon = Daemon(tmp_path, {"RELAYD_LIMITS_MAX_CONNECTIONS": "1"}).start()
    try:
        with daemon.connect("/ws/chat/lobby"):
            browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("lost")
            assert "too many connections" in browser.shown("#status")
        browser.wait_for_state("connected")
    finally:
        daemon.stop()


def test_waits_before_a_new_try_are_random_longer_each_time_and_bounded(
    daemon: Daemon, browser: Browser
) -> None:
    """After a restart, the pages come back spread over the whole wait."""
    browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("connected")
    waits = browser.driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        const source = performance.getEntriesByType("resource").map((each) => each.name);
        import(source.find((name) => name.includes("/clients/"))).then(({ Connection }) => {
          const now = Date.now();
          Date.now = () => now;
          const drops = (random, tries) => {
            Math.random = () => random;
            const connection = new Connection(location.origin, "/ws/chat/lobby");
            return Array.from({ length: tries }, () => {
              connection.drop();
              return connection.state.retryAt - now;
            });
          };
          done([drops(0, 3), drops(0.5, 7), drops(0.999, 7)]);
        });
        """
    )
    least, middle, most = waits
    assert least == [0, 0, 0]
    assert middle == [500, 1000, 2000, 4000, 8000, 15000, 15000]
    assert all(wait < 30000 for wait in most)


@pytest.mark.parametrize(
    ("code", "least"), [(4429, 5000), (4503, 5000), (4500, 0), (1001, 0), (1012, 0), (1006, 0)]
)
def test_a_page_waits_as_long_as_a_refusal_asks_for_and_a_random_time_more(
    daemon: Daemon, browser: Browser, code: int, least: int
) -> None:
    """A browser does not show the header Retry-After, only the close code."""
    browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("connected")
    wait = browser.driver.execute_async_script(
        """
        const [code, done] = arguments;
        const source = performance.getEntriesByType("resource").map((each) => each.name);
        import(source.find((name) => name.includes("/clients/"))).then(({ Connection }) => {
          const now = Date.now();
          Date.now = () => now;
          Math.random = () => 0.5;
          let socket = null;
          window.WebSocket = class extends EventTarget {
            constructor() { super(); socket = this; }
            close() {}
          };
          const connection = new Connection(location.origin, "/ws/chat/lobby");
          connection.connect();
          socket.dispatchEvent(new CloseEvent("close", { code }));
          done(connection.state.retryAt - now);
        });
        """,
        code,
    )
    assert wait == least + 500


def test_an_overlong_text_stays_in_the_field(tmp_path: Path, browser: Browser) -> None:
    daemon = Daemon(tmp_path, {"RELAYD_LIMITS_MAX_MESSAGE_SIZE": "90"}).start()
    try:
        browser.open(f"{daemon.url}/chat/lobby/").wait_for_state("connected")
        browser.say("é" * 40)
        assert "too long" in browser.shown("#problem")
        field = browser.driver.find_element(By.ID, "text")
        assert field.get_property("value") == "é" * 40
        field.clear()
        browser.say("short")
        browser.wait_for(lambda: browser.texts() == ["short"])
        assert browser.shown("#problem") == ""
    finally:
        daemon.stop()


def test_the_form_leads_to_the_room_and_stops_at_a_bad_name(
    daemon: Daemon, browser: Browser
) -> None:
    browser.open(f"{daemon.url}/chat")
    field = browser.driver.find_element(By.ID, "room")
    typed = "room.value = arguments[0]; return room.checkValidity()"
    for name, good in [
        *[("a b", False), ("a/b", False), ("", False), (" ", False), ("x" * 101, False)],
        *[(" x" * 2, False), (" x ", True), ("x" * 100, True), ("हिन्दी", True)],
        ("می\u200cخواهم", True),
        # every name that is short enough in NFC, in the longest form that a keyboard gives it
        *[(unicodedata.normalize("NFD", each * 100), True) for each in ("ΐ", "각", "ữ")],
        ("각" * 101, False),
    ]:
        assert browser.driver.execute_script(typed, name) is good, name
    field.clear()
    field.send_keys("Grüße_1-日本")
    field.send_keys(Keys.ENTER)
    browser.wait_for_state("connected")
    assert browser.driver.current_url.endswith("/chat/Gr%C3%BC%C3%9Fe_1-%E6%97%A5%E6%9C%AC/")
    assert browser.shown("h1") == "Grüße_1-日本"
    assert browser.violations() == []


def test_the_page_for_developers_shows_its_own_address_in_the_examples(
    daemon: Daemon, browser: Browser
) -> None:
    browser.open(daemon.url + "/developers")
    examples = " ".join(browser.texts("pre"))
    assert f"{daemon.ws_url}/ws/camera" in examples
    assert f"{daemon.url}/api/push/demo" in examples
    assert browser.violations() == []


@pytest.mark.parametrize("path", ["/", "/chat/", "/chat/lobby/", "/nowhere"])
def test_nothing_is_wider_than_a_phone(daemon: Daemon, browser: Browser, path: str) -> None:
    screen = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.open(daemon.url + path)
    width = browser.driver.execute_script("return document.scrollingElement.scrollWidth")
    assert width <= 360


def test_the_content_security_policy_blocks_an_injected_script(
    daemon: Daemon, browser: Browser
) -> None:
    """Shows, too, that `violations` would see one."""
    browser.open(f"{daemon.url}/chat/lobby/")
    browser.driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.smuggled = 1';"
        "document.body.append(s);"
    )
    assert browser.driver.execute_script("return window.smuggled") is None
    assert len(browser.violations()) == 1
