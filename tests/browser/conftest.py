"""Fixtures of the tests in a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chromium import Browser
from tests.daemon import daemon

__all__ = ["daemon"]  # a fixture


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
