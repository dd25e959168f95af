"""Whole commands, for `speed.py`."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PYIQA = (
    "from pyiqa import pyiqa_cmd, create_metric as make; "
    "pyiqa_cmd.create_metric = lambda name, **more: make(name, {}**more)"
)
_RANDOM = "pretrained=False, backbone_pretrain=False, "


def timed(command: Sequence[str], *trees: Path) -> tuple[float, float]:
    """Run a command with the packages of folders; return its seconds by the clock and of the processor."""
    return timed_together([command], *trees)


def timed_together(commands: Sequence[Sequence[str]], *trees: Path) -> tuple[float, float]:
    """Run commands at once, each with its share of the processors, until the last one ends; otherwise as `timed`."""
    paths = os.pathsep.join(map(str, trees))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    if len(commands) > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // len(commands)))
    # As a user has them: modules are compiled once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    # `python -m` looks for modules where it is started, before all else.
    running = [
        subprocess.Popen(command, env=environment, cwd=trees[0], stdout=nowhere, stderr=nowhere) for command in commands
    ]
    statuses = [process.wait() for process in running]
    wall = time.perf_counter() - start
    if any(statuses):
        raise RuntimeError(f"{commands[0]} ended with {statuses}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def folder_times(folder: Path, trees: dict[str, Path], metric: str) -> dict[str, dict[str, float]]:
    """Time `iqametrics score` over the pictures of a folder with the package of each tree.

    Args:
        folder: The pictures, as `speed_folder.py` makes them.
        trees: Checkouts by what they are called; "now" is this one.
        metric: The metric.

    Returns:
        For each tree, for "now" with `--jobs 1` and as several processes too, and for the metric alone on tensors in
        memory ("bare"): the seconds of the command, `wall` and `processor`, and those of one picture, without what one
        picture alone takes; and the share of the throughput of "bare" that it reaches by the clock (`share_of_bare`).
    """
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    score = [sys.executable, "-m", "iqametrics", "score", "--metric", metric, "--device", "cpu", "--format", "csv"]
    ways = {label: (tree, score) for label, tree in trees.items()}
    ways["now, --jobs 1"] = (trees["now"], [*score, "--jobs", "1"])
    found = {}
    for label, (tree, command) in ways.items():
        first = timed([*command, str(pictures[0])], tree)
        found[label] = _figures(timed([*command, str(folder)], tree), first, len(pictures))
    cores = os.cpu_count() or 1
    parts = [[*score, "--jobs", "1", *map(str, pictures[part::cores])] for part in range(cores)]
    together = timed_together(parts, trees["now"])
    first = timed_together([[*score, str(picture)] for picture in pictures[:cores]], trees["now"])
    found["now, a process for each processor"] = _figures(together, first, len(pictures), alone=cores)
    code = [sys.executable, str(_HERE / "speed_folder.py"), "bare", str(folder), metric]
    environment = {**os.environ, "PYTHONPATH": str(trees["now"]), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(code, check=True, capture_output=True, text=True, env=environment)
    bare = json.loads(done.stdout.splitlines()[-1])
    found["bare"] = {f"{name}_a_picture": round(value / len(pictures), 4) for name, value in bare.items()}
    for label in found.keys() - {"bare"}:
        found[label]["share_of_bare"] = round(found["bare"]["wall_a_picture"] / found[label]["wall_a_picture"], 3)
    return found


def pyiqa_times(folder: Path, tree: Path, pyiqa: Path) -> dict[str, dict[str, float]]:
    """Time whole commands of pyiqa and of this package over the pictures of a folder.

    Args:
        folder: The pictures; for FSIM, each is its own reference.
        tree: This package.
        pyiqa: Folder of pyiqa; topiq_nr gets random weights, since its own would be downloaded.
    """
    ours = [sys.executable, "-m", "iqametrics", "score", str(folder), "--device", "cpu", "--format", "csv", "--metric"]
    plain, random = (f"{_PYIQA.format(more)}; pyiqa_cmd.main()" for more in ("", _RANDOM))
    theirs = ["-t", str(folder), "--device", "cpu"]
    commands = {
        "pyiqa fsim": [sys.executable, "-c", plain, "fsim", *theirs, "-r", str(folder)],
        "iqametrics pyiqa/fsim": [*ours, "pyiqa/fsim", "--ref-dir", str(folder)],
        "pyiqa topiq_nr": [sys.executable, "-c", random, "topiq_nr", *theirs],
        "iqametrics bpclip-nr.lite": [*ours, "bpclip-nr.lite"],
    }
    count = sum(1 for path in folder.iterdir() if path.is_file())
    times = {name: timed(command, tree, pyiqa) for name, command in commands.items()}
    return {name: _figures(seconds, (0.0, 0.0), count, alone=0) for name, seconds in times.items()}


def _figures(whole: tuple[float, float], first: tuple[float, float], count: int, *, alone: int = 1) -> dict[str, float]:
    """Tell what a command took, and a picture of it, where `alone` pictures by themselves took `first`."""
    one = [(seconds - start) / (count - alone) for seconds, start in zip(whole, first, strict=True)]
    return {
        "pictures": count,
        "wall": round(whole[0], 2),
        "processor": round(whole[1], 2),
        "wall_a_picture": round(one[0], 4),
        "processor_a_picture": round(one[1], 4),
    }
