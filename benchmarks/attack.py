"""Attack reading, loading and running, and write down what held: the figures of docs/images.md.

    python benchmarks/attack.py --only images --count 20000 --output benchmarks/results/attack.json
    python benchmarks/attack.py --only bombs

Each case is drawn by the seed and its number, and done in a process of its own that is watched: an answer that is
neither a result nor a refusal in one line, more than 5 seconds or 1.1 GB for a file, a value that is not finite or is
wrong, or anything written elsewhere is a fault. With `--output`, a run goes on where it stopped, at the same commit.
It needs Linux and the extra `dev`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from attack_worker import Report, Worker

from iqametrics.common.files import write_file
from iqametrics.errors import IqaError

ROOT = Path(__file__).parents[1]
JOBS = {
    "images": "attack_images:Images",
    "bombs": "attack_bombs:Bombs",
    "checkpoints": "attack_checkpoints:Checkpoints",
    "soak": "attack_soak:Soak",
    "kills": "attack_kills:Kills",
}
SAVED_EVERY = 100


def count_of(job: str) -> int:
    """Return how many cases a run without --count has."""
    if job == "bombs":
        from attack_bombs import BOMBS

        return len(BOMBS)
    return 20 if job == "kills" else 300


def attack(job: str, seed: int, count: int, output: Path | None) -> dict[str, Any]:
    """Do all cases of a job, or those that are left.

    Args:
        job: Its name.
        seed: What the cases are drawn by.
        count: Number of cases.
        output: The file of the figures, read first; None to keep nothing.

    Returns:
        Its figures.
    """
    figures = begin_or_go_on(job, seed, output)
    began = time.monotonic() - figures["wall_seconds"]
    with Worker(JOBS[job], seed) as worker:
        for number in range(figures["cases"], count):
            report = worker.do(number)
            note(figures, report)
            if number * 4 % count < 4 or number == count - 1:  # the first of each quarter, and the last
                figures["resident_megabytes"][str(number)] = report.resident
            figures["wall_seconds"] = round(time.monotonic() - began, 1)
            if output and (number % SAVED_EVERY == SAVED_EVERY - 1 or number == count - 1):
                save(job, figures, output)
    return figures


def begin_or_go_on(job: str, seed: int, output: Path | None) -> dict[str, Any]:
    """Return the figures that a file holds of this job, seed and commit, or new ones."""
    new = {
        "commit": commit(),
        "command": f"python benchmarks/attack.py --only {job} --seed {seed}",
        "hardware": f"{processor()}, {os.cpu_count()} processors",
        "seed": seed,
        "cases": 0,
        "outcomes": {},
        "faults": [],
        "slowest": {"seconds": 0.0, "name": ""},
        "largest": {"megabytes": 0.0, "name": ""},
        "resident_megabytes": {},
        "wall_seconds": 0.0,
    }
    found = read(output).get(job)
    if found is not None and all(found[key] == new[key] for key in ("commit", "seed")):
        return dict(found)
    return new


def note(figures: dict[str, Any], report: Report) -> None:
    """Add a case to the figures."""
    figures["cases"] += 1
    figures["outcomes"][report.outcome] = figures["outcomes"].get(report.outcome, 0) + 1
    if report.fault:
        figures["faults"].append({"number": report.number, "name": report.name, "fault": report.fault})
        print(f"{report.number}: {report.name}: {report.fault}", file=sys.stderr)
    for key, value in (("slowest", "seconds"), ("largest", "megabytes")):
        if getattr(report, value) > figures[key][value]:
            figures[key] = {value: getattr(report, value), "name": report.name}


def read(output: Path | None) -> dict[str, Any]:
    """Read a file of figures; an absent one is empty."""
    if output is None or not output.exists():
        return {}
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def save(job: str, figures: dict[str, Any], output: Path) -> None:
    """Put the figures of a job beside those of the others."""
    write_file(output, json.dumps({**read(output), job: figures}, indent=1).encode() + b"\n", error=IqaError)


def commit() -> str:
    """Return the commit of the checkout, with a mark where it was changed."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(arguments: list[str] | None = None) -> int:
    """Run the jobs that are asked for; the status is 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=JOBS, action="append", help="which attack; all without it")
    parser.add_argument("--count", type=int, help="number of cases; 300, or every bomb, or 20 kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file of the figures, gone on with")
    options = parser.parse_args(arguments)
    faults = 0
    for job in options.only or JOBS:
        figures = attack(job, options.seed, options.count or count_of(job), options.output)
        faults += len(figures["faults"])
        print(json.dumps({key: value for key, value in figures.items() if key != "faults"}))
        print(f"{job}: {figures['cases']} cases, {len(figures['faults'])} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
