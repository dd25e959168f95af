"""Fixtures that several test files share."""

import fakes
import pytest

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
