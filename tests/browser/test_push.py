"""The page of a topic in a real Chromium: what programs publish moves its bar and fills its log."""

import json

from tests.chromium import Browser
from tests.daemon import Daemon

KEY = {"Authorization": "Bearer a-key-for-tests"}


def publish(daemon: Daemon, **members: object) -> None:
    assert daemon.post("/api/push/build", json.dumps(members).encode(), **KEY) == (
        200,
        {"clients": 1},
    )


def test_a_topic_shows_the_percent_as_a_bar_and_the_messages_as_a_log(
    daemon: Daemon, browser: Browser
) -> None:
    browser.choose(daemon.url, "en", "light")
    browser.complaints()
    browser.open(f"{daemon.url}/push/build/").wait_for(
        lambda: browser.shown("#status") == "Connected"
    )
    assert f"{daemon.url}/api/push/build" in browser.shown("#empty")
    assert browser.shown("#progress") == ""
    publish(daemon, percent=12.5, message="compiling")
    browser.wait_for(lambda: browser.texts("#log .said") == ["compiling"])
    assert (browser.shown("#percent"), browser.shown("#empty")) == ("12.5%", "")
    bar = "const {ariaValueNow, ariaValueText} = bar; return [ariaValueNow, ariaValueText]"
    assert browser.driver.execute_script(bar) == ["12.5", "12.5%"]
    publish(daemon, percent="40 %")  # moves the bar alone
    browser.wait_for(lambda: browser.shown("#percent") == "40%")
    publish(daemon, percent=700)
    browser.wait_for(lambda: browser.shown("#percent") == "100%")
    publish(daemon, message="<b>done</b>", percent=None)
    publish(daemon, step=3, of=[4])
    lines = ['{"step":3,"of":[4]}', "<b>done</b>", "compiling"]
    browser.wait_for(lambda: browser.texts("#log .said") == lines)
    assert browser.texts("#log .said *") == []
    assert browser.driver.title.startswith("100% · build")
    assert browser.barriers() == []
    assert browser.complaints() == browser.violations() == []


def test_a_log_of_thousands_of_lines_stays_within_its_bound_and_in_order(
    daemon: Daemon, browser: Browser
) -> None:
    browser.open(f"{daemon.url}/push/build/").wait_for(
        lambda: browser.shown("#status") == "Connected"
    )
    for number in range(1200):
        publish(daemon, message=str(number))
    browser.wait_for(lambda: browser.texts("#log .said")[:1] == ["1199"])
    assert browser.texts("#log .said") == [str(number) for number in range(1199, 699, -1)]
    assert browser.shown("#progress") == ""
