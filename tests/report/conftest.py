"""One browser for all tests of pages."""

from collections.abc import Iterator

import pytest
from browser import Browser, find_browser


@pytest.fixture(scope="session")
def shared() -> Iterator[Browser]:
    """A browser that each test opens its page in."""
    if find_browser() is None:
        pytest.skip("NO BROWSER: install chromium, or set IQAMETRICS_BROWSER to one")
    with Browser(1280, 1000) as browser:
        yield browser


@pytest.fixture
def quiet(shared: Browser) -> Iterator[Browser]:
    """The browser; at the end no page may have complained of anything."""
    shared.problems.clear()
    shared.asked.clear()
    yield shared
    shared.resize(1280, 1000)
    shared.look("light")
    assert shared.problems == []
