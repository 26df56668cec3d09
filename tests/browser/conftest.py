"""Fixtures of the tests in a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chromium import Browser
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]  # a fixture


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Browser]]:
    """One relayd that lists its rooms, and one browser, for all tests of a module."""
    folder = tmp_path_factory.mktemp("shared")
    daemon = Daemon(folder, {"RELAYD_CHAT_LIST_ROOMS": "open"}).start()
    browser = Browser(folder / "profile")
    yield daemon, browser
    browser.driver.quit()
    daemon.stop()


@pytest.fixture
def start_browser(tmp_path: Path) -> Iterator[Callable[[], Browser]]:
    running: list[Browser] = []

    def start() -> Browser:
        running.append(Browser(tmp_path / f"profile{len(running)}"))
        return running[-1]

    yield start
    for browser in running:
        browser.driver.quit()


@pytest.fixture
def browser(start_browser: Callable[[], Browser]) -> Browser:
    return start_browser()
