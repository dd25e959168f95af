"""Measure on this machine the times of the bundled checkpoints that the README reports, and store them.

    python benchmarks/measure_lite.py PHOTOGRAPHS [--output benchmarks/results/lite-cost.json]

PHOTOGRAPHS is a folder with 100 photographs or more; the first 100 by name are scored. Times are of the wall clock, the
smallest of three; "cold" means in a new process.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

PHOTOGRAPHS = 100
REPEATS = 3
NO_REFERENCE = ("bpclip-nr", "pfd-iqa")
VERSIONS = 25


def main() -> None:
    """Measure, print and write the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="folder of photographs")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/lite-cost.json"))
    args = parser.parse_args()
    from iqametrics.images import list_images

    files = [str(path) for path in list_images(args.photographs)[:PHOTOGRAPHS]]
    if len(files) < PHOTOGRAPHS:
        parser.error(f"{args.photographs}: holds {len(files)} images, {PHOTOGRAPHS} are needed")
    measured = {
        "machine": describe_machine(),
        "seconds": {**start_times(files[0]), **scoring_times(files), **reference_times(files[0])},
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, versions, commit and date."""
    import torch

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def start_times(photograph: str) -> dict[str, float]:
    """Time imports, help and the cold scoring of one photograph."""
    command = [sys.executable, "-m", "iqametrics"]
    times = {
        "import iqametrics": cold([sys.executable, "-c", "import iqametrics"]),
        "import torch": cold([sys.executable, "-c", "import torch"]),
        "--help": cold([*command, "--help"]),
        "score --help": cold([*command, "score", "--help"]),
        "info": cold([*command, "info", NO_REFERENCE[0]]),
    }
    for metric in NO_REFERENCE:
        times[f"cold score of one photograph, {metric}"] = cold([*command, "score", photograph, "--metric", metric])
    return times


def score_each(metric: Callable[[str], object], files: Sequence[str]) -> None:
    """Score the files one by one."""
    for file in files:
        metric(file)


def scoring_times(files: Sequence[str]) -> dict[str, float]:
    """Time a hundred photographs, cold by the command line and warm in Python."""
    from iqametrics import create_metric

    times = {}
    for metric in NO_REFERENCE:
        command = [sys.executable, "-m", "iqametrics", "score", *files, "--metric", metric, "--format", "csv"]
        times[f"cold score of {len(files)} photographs, {metric}"] = cold(command, repeats=1)
        model = create_metric(f"{metric}.lite")
        model(list(files[:4]))
        times[f"warm score of {len(files)} photographs, {metric}"] = timed(partial(score_each, model, files), 1)
    return times


def reference_times(photograph: str) -> dict[str, float]:
    """Time 25 versions of one reference with the reference cached, and as 25 pairs."""
    import torch

    from iqametrics import create_metric, read_image

    metric = create_metric("bpclip-fr.lite")
    reference = read_image(photograph)[None]
    generator = torch.Generator().manual_seed(0)
    versions = [
        (reference + 0.02 * index / VERSIONS * torch.randn(reference.shape, generator=generator)).clamp(0, 1)
        for index in range(VERSIONS)
    ]

    def cached() -> None:
        features = metric.encode_reference(reference)
        for version in versions:
            metric(version, features)

    def pairs() -> None:
        for version in versions:
            metric(version, reference)

    return {
        f"{VERSIONS} versions of one reference, features held": timed(cached, REPEATS),
        f"{VERSIONS} versions of one reference, as pairs": timed(pairs, REPEATS),
    }


def cold(command: Sequence[str], repeats: int = REPEATS) -> float:
    """Time a new process."""
    return timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats)


def timed(action: Callable[[], Any], repeats: int) -> float:
    """Return the smallest time of `repeats` runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
