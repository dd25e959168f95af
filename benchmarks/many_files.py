"""Score a folder of 100,000 pictures by `iqametrics score`: time, memory, and what a run that is stopped loses.

    python benchmarks/many_files.py [--count 100000] [--work FOLDER] [--output benchmarks/results/many_files.json]

The pictures are hard links to a hundred PNG files of 32x24 pixels, and the metric costs next to nothing
(`piq/total_variation`), so the figures are of what is around a metric. Four runs: a tenth of the pictures; all of
them; all again, stopped by SIGTERM when half of the rows are in the journal; and that one gone on with by --resume,
whose rows must be those of the undisturbed run, byte for byte.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from measure_lite import describe_machine
from PIL import Image

METRIC = "piq/total_variation"
PICTURES = 100
HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Make the folders, run the command four times, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=Path("runs/many-files"), help="folder that is made, and removed")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/many_files.json"))
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    try:
        make(args.work, {"tenth": args.count // 10, "all": args.count})
        found: dict[str, Any] = {}
        for folder in ("tenth", "all"):
            found[folder] = score(args.work, folder)
        found["stopped"] = score(args.work, "all", "stopped", until=args.count // 2)
        found["resumed"] = score(args.work, "all", "stopped", "--resume")
        found["compared"] = compare(args.work, args.count)
    finally:
        shutil.rmtree(args.work)
    record = {
        "command": f"python benchmarks/many_files.py --count {args.count}",
        "pictures": args.count,
        "metric": METRIC,
    }
    args.output.write_text(json.dumps(record | {"machine": describe_machine()} | found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def make(work: Path, folders: dict[str, int]) -> None:
    """Write a few pictures, and link them into folders of so many."""
    (work / "few").mkdir()
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(work / "few" / f"{number}.png")
    for folder, count in folders.items():
        (work / folder).mkdir()
        for number in range(count):
            os.link(work / "few" / f"{number % PICTURES}.png", work / folder / f"{number}.png")


def score(work: Path, folder: str, name: str = "", *more: str, until: int | None = None) -> dict[str, Any]:
    """Run the command to its end, or stop it when its journal has so many rows.

    Returns:
        Its status, seconds of the clock and of the processor, peak memory, and the rows that it wrote.
    """
    output = work / f"{name or folder}.csv"
    command = ["score", str(work / folder), "--metric", METRIC, "--format", "csv", "--output", str(output), *more]
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "iqametrics", *command], env=HERE)
    while until is not None and lines(work / f"{output.name}.journal") < until:
        time.sleep(0.5)
    if until is not None:
        process.send_signal(signal.SIGTERM)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "status": process.returncode,
        "rows": max(0, lines(output) - 1),
        "seconds": round(time.monotonic() - begin, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_megabytes": round(used.ru_maxrss / 1024, 1),
    }


def lines(path: Path) -> int:
    """Count the lines of a file that may not be there."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(2**20), b""))


def compare(work: Path, count: int) -> dict[str, Any]:
    """Compare the rows of the run that was stopped and gone on with to those of the one that was not."""
    with (work / "stopped.csv").open(newline="") as file:
        times = Counter(row["image"] for row in csv.DictReader(file))
    return {
        "same_bytes": (work / "stopped.csv").read_bytes() == (work / "all.csv").read_bytes(),
        "lost": count - len(times),
        "doubled": sum(number - 1 for number in times.values()),
    }


if __name__ == "__main__":
    main()
