"""Waiting for what another process writes."""

import time
from pathlib import Path

import pytest


def wait_for(path: Path, *, lines: int) -> None:
    """Wait until a file has so many lines, for a minute at most."""
    for _ in range(600):
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.1)
    pytest.fail(f"{path} has not {lines} lines after a minute")
