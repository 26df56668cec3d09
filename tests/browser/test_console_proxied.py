"""The console behind the nginx of the example, with TLS and HTTP/2, as an operator uses it."""

import json
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from relayd.console.passwords import hash_password
from tests.chromium import SCREENS, Browser
from tests.daemon import Daemon
from tests.proxies import NAME, Nginx

PASSWORD = "a password for tests"
URL = f"https://{NAME}"
PROTOCOL = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
LABEL = "return document.getElementById('chart-clients').getAttribute('aria-label')"


@pytest.mark.parametrize("trusted", ["127.0.0.1", ""], ids=["trusted", "not trusted"])
def test_an_operator_logs_in_looks_kicks_and_imports_through_nginx(
    tmp_path: Path, trusted: str
) -> None:
    settings = {
        "RELAYD_CONSOLE_PASSWORD_HASH": hash_password(PASSWORD, log=10),
        "RELAYD_PROXY_TRUSTED": trusted,
    }
    daemon = Daemon(tmp_path, settings).start()
    nginx = Nginx(tmp_path / "nginx", [f"127.0.0.1:{daemon.port}"])
    rule = f"--host-resolver-rules=MAP {NAME}:443 127.0.0.1:{nginx.port}"
    browser = Browser(tmp_path / "profile", rule, "--ignore-certificate-errors")
    try:
        with nginx, nginx.connect("/ws/camera/g") as camera:
            browser.screen("desktop")
            browser.open(f"{URL}/console/")
            assert browser.driver.execute_script(PROTOCOL) == "h2"
            browser.driver.find_element(By.NAME, "password").send_keys(PASSWORD, Keys.ENTER)
            browser.wait_for(lambda: browser.shown("#state").startswith("Serving"))
            cookie = browser.driver.get_cookie("relayd_console")
            assert cookie
            assert (cookie["secure"], cookie["sameSite"]) == (True, "Strict")
            browser.wait_for(lambda: browser.driver.execute_script(LABEL) == "Clients: clients 1")
            browser.open(f"{URL}/console/clients")
            browser.wait_for(lambda: len(browser.texts("#clients tr")) == 1)
            assert "127.0.0.1" in browser.texts("#clients tr")[0]
            follow, kick = browser.driver.find_elements(By.CSS_SELECTOR, "#clients button")
            follow.click()
            browser.wait_for(lambda: browser.texts("#frames li"))
            camera.send(json.dumps("through nginx"))
            browser.wait_for(lambda: "through nginx" in "".join(browser.texts("#frames code")))
            kick.click()
            browser.driver.switch_to.alert.accept()
            browser.wait_for(lambda: not browser.texts("#clients tr"))
            browser.open(f"{URL}/console/quizzes")
            file = tmp_path / "quizzes.csv"
            rows = "".join(f",Quiz {number},9,{'x' * 200}\n" for number in range(1000))
            file.write_text("id,name,difficulty,detail\n" + rows)
            browser.driver.find_element(By.ID, "file").send_keys(str(file))
            browser.driver.find_element(By.CSS_SELECTOR, "#import button").click()
            browser.wait_for(lambda: browser.shown("#plan-counts"))
            browser.driver.find_element(By.ID, "apply").click()
            browser.wait_for(lambda: browser.shown("#imported").startswith("Imported: 1,000 added"))
            browser.wait_for(lambda: "x" * 200 in "".join(browser.texts("#rows td")))
            width = browser.driver.execute_script("return document.scrollingElement.scrollWidth")
            assert width <= SCREENS["desktop"][0]
            assert browser.complaints() == []
    finally:
        browser.driver.quit()
        daemon.stop()
