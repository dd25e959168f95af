"""Whole commands, for `speed.py`."""

import os
import resource
import subprocess
import sys
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


def folder_times(folder: Path, trees: dict[str, Path], metric: str) -> dict[str, dict[str, float]]:
    """Time `iqametrics score` over the pictures of a folder with the package of each tree.

    Args:
        folder: The pictures.
        trees: Checkouts by what they are called.
        metric: The metric.

    Returns:
        For each tree the seconds of the command, `wall` and `processor`, and of one picture, which are those of the
        command without what the same command takes for the first picture alone.
    """
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    command = [sys.executable, "-m", "iqametrics", "score", "--metric", metric, "--device", "cpu", "--format", "csv"]
    found = {}
    for label, tree in trees.items():
        first = timed([*command, str(pictures[0])], tree)
        whole = timed([*command, *map(str, pictures)], tree)
        one = [(all_of - alone) / (len(pictures) - 1) for all_of, alone in zip(whole, first, strict=True)]
        found[label] = {
            "pictures": len(pictures),
            "wall": round(whole[0], 2),
            "processor": round(whole[1], 2),
            "wall_a_picture": round(one[0], 4),
            "processor_a_picture": round(one[1], 4),
        }
    return found
