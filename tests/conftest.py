"""Fixtures that several test files share."""

from collections.abc import Iterator

import fakes
import pytest
from browser import Browser, find_browser

from iqametrics import plugins
from iqametrics.weights.manifest import read_manifest

# What is installed beside the package (CI installs the example) must not change what the tests of the package see;
# tests/test_plugins.py starts processes of its own.
setattr(plugins, "entry_points", lambda **_: ())  # noqa: B010 - mypy has no assignment to an overloaded name


@pytest.fixture
def fake_metrics(tmp_path_factory, monkeypatch):
    """Two tiny registered metrics with checkpoints; the folder of their manifest."""
    yield fakes.install(tmp_path_factory.mktemp("weights"), monkeypatch)
    read_manifest.cache_clear()


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
