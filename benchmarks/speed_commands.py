"""Whole commands, for `speed.py`."""

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def timed(command: Sequence[str], tree: Path) -> tuple[float, float]:
    """Run a command with the package of a tree; return its seconds by the clock and of the processor."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    # As a user has them: modules are compiled once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
