"""Fixtures that several test files share."""

import fakes
import pytest

from iqametrics.weights.manifest import read_manifest


@pytest.fixture
def fake_metrics(tmp_path_factory, monkeypatch):
    """Two tiny registered metrics with checkpoints; the folder of their manifest."""
    yield fakes.install(tmp_path_factory.mktemp("weights"), monkeypatch)
    read_manifest.cache_clear()
