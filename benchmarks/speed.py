"""Measure how fast the metrics are, as ratios to bare networks, to pyiqa, and to another commit of this package.

    python benchmarks/speed.py [--rounds 9] [--threads 1] [--before TREE] [--cold PICTURE] [--folder FOLDER]
                               [--pyiqa PATH [--few FOLDER]] [--only WORD ...] [--output benchmarks/results/speed.json]

Every ratio is the median of the ratios of single rounds. In a round each way runs once, one after the other, so that
what else the machine does meets all of them; processor time counts, not the clock. A way is a call on tensors in
memory, of pictures of noise, with random weights where cost does not depend on them.

--before TREE is another checkout of this repository, whose package is measured in the same rounds, by a process of its
own. --cold PICTURE adds whole commands that score one picture, --folder FOLDER commands that score all of its pictures
(`speed_folder.py` makes it), --few FOLDER those of pyiqa beside ours on fewer.
--pyiqa PATH is a folder with pyiqa in it, where it is not installed: its licence forbids commercial use, so it is only
ever compared with.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import speed_ways
from speed_commands import folder_times, pyiqa_times, timed

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = 25


class Ratio(NamedTuple):
    """A line of the table.

    Attributes:
        label: What is divided by what.
        ways: The ways that it needs.
        of: From the seconds of each way in one round to the ratio.
        goal: What the ratio should reach.
        at_least: Whether a greater ratio is better, as where another project's time is above the line.
    """

    label: str
    ways: tuple[str, ...]
    of: Callable[..., float]
    goal: float
    at_least: bool = False


def _quotient(above: str, below: str, label: str, goal: float, *, at_least: bool = False) -> Ratio:
    return Ratio(label, (above, below), lambda a, b: a / b, goal, at_least)


RATIOS = (
    _quotient("bpclip-fr", "2 resnet50", "bpclip-fr / two ResNet-50 forwards in one batch", 1.12),
    _quotient("bpclip-nr", "resnet50", "bpclip-nr / one ResNet-50 forward", 1.15),
    _quotient("topiq_fr", "bpclip-fr", "topiq_fr of pyiqa / bpclip-fr", 1.5, at_least=True),
    _quotient("topiq_nr", "bpclip-nr", "topiq_nr of pyiqa / bpclip-nr", 1.6, at_least=True),
    _quotient("pfd-iqa", "10 vit_s", "pfd-iqa, 10 crops / ten ViT-S/16 forwards in one batch", 1.2),
    Ratio(
        f"bpclip-fr, {VERSIONS} versions of one reference / {VERSIONS} pairs",
        ("bpclip-fr reference", "bpclip-fr version", "bpclip-fr"),
        lambda reference, version, pair: (reference + VERSIONS * version) / (VERSIONS * pair),
        0.55,
    ),
    _quotient("bpclip-nr.lite", "efficientnet_lite0", "bpclip-nr.lite / one EfficientNet-Lite0 forward", 1.0),
    _quotient("pfd-iqa.lite", "efficientnet_lite0", "pfd-iqa.lite / one EfficientNet-Lite0 forward", 1.3),
    _quotient("bpclip-fr.lite", "efficientnet_lite0", "bpclip-fr.lite / one EfficientNet-Lite0 forward", 1.8),
)


def main() -> None:
    """Measure, print the table and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--before", type=Path, metavar="TREE")
    parser.add_argument("--cold", type=Path, metavar="PICTURE")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--few", type=Path, metavar="FOLDER", help="for whole commands of pyiqa and of this package")
    parser.add_argument("--pyiqa", type=Path, metavar="PATH")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="only lines with one of these words")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    trees = {"now": ROOT} | ({"before": args.before.resolve()} if args.before else {})
    ratios = [ratio for ratio in RATIOS if not args.only or any(word in ratio.label for word in args.only)]
    measured: dict[str, Any] = {"command": _command(), "machine": describe_machine(trees), "threads": args.threads}
    if args.rounds and ratios:
        measured["models"] = compare_models(trees, ratios, args)
    if args.cold:
        measured["cold"] = {name: cold_times(tree, args.cold.resolve(), args.rounds) for name, tree in trees.items()}
    if args.folder:
        measured["folder"] = folder_times(args.folder.resolve(), trees, "bpclip-nr.lite")
    if args.few and args.pyiqa:
        measured["pyiqa"] = pyiqa_times(args.few.resolve(), ROOT, args.pyiqa.resolve())
    if args.output:
        args.output.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps({key: value for key, value in measured.items() if key != "models"}, indent=1))


def compare_models(trees: dict[str, Path], ratios: Sequence[Ratio], args: argparse.Namespace) -> dict[str, Any]:
    """Run all ways by turns, print the table and return it with the seconds of each way."""
    names = list(dict.fromkeys(name for ratio in ratios for name in ratio.ways))
    workers = {label: Worker(tree, args.threads, args.pyiqa) for label, tree in trees.items()}
    owners = {name: [label for label in trees if label == "now" or name in speed_ways.OURS] for name in names}
    failed = {name: error for name in names for label in owners[name] if (error := workers[label].prepare(name))}
    seconds: dict[str, dict[str, list[float]]] = {label: {} for label in trees}
    for _ in range(args.rounds):
        for name in names:
            for label in owners[name] if name not in failed else ():
                seconds[label].setdefault(name, []).append(workers[label].run(name))
    for worker in workers.values():
        worker.close()
    table = [_line(ratio, seconds) for ratio in ratios if not failed.keys() & set(ratio.ways)]
    print_table(table, list(trees))
    medians = {
        label: {name: round(statistics.median(values), 4) for name, values in ways.items()}
        for label, ways in seconds.items()
    }
    return {"ratios": table, "processor_seconds": medians, "not_measured": failed, "rounds": args.rounds}


def _line(ratio: Ratio, seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    found: dict[str, Any] = {"ratio": ratio.label, "goal": ratio.goal, "at_least": ratio.at_least}
    for label, ways in seconds.items():
        columns = [ways.get(name) or seconds["now"][name] for name in ratio.ways]
        found[label] = round(statistics.median(ratio.of(*row) for row in zip(*columns, strict=True)), 3)
    return found


def print_table(table: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
    """Print the ratios as Markdown, before first."""
    order = sorted(labels)
    print(f"| ratio | {' | '.join(order)} | goal |\n|---|{'---|' * len(order)}---|")
    for line in table:
        cells = " | ".join(f"{line[label]:.2f}" for label in order)
        print(f"| {line['ratio']} | {cells} | {'at least' if line['at_least'] else 'at most'} {line['goal']:.2f} |")


class Worker:
    """A process that runs ways with the package of one tree, and tells the processor time of each call."""

    def __init__(self, tree: Path, threads: int, pyiqa: Path | None) -> None:
        paths = [str(tree), str(ROOT / "benchmarks"), *([str(pyiqa)] if pyiqa else [])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, str(ROOT / "benchmarks" / "speed_ways.py"), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def prepare(self, name: str) -> str | None:
        """Make a way and run it once; return why that cannot be, or None."""
        answer = self._ask(name)
        return answer.get("error")

    def run(self, name: str) -> float:
        """Run a way once and return its processor seconds."""
        return float(self._ask(name)["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with self._process:  # closes the pipes and waits
            self._process.stdin.close()

    def _ask(self, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(name, file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def cold_times(tree: Path, picture: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Time whole commands in new processes, by turns: the median of the clock and of the processor's time."""
    score = [sys.executable, "-m", "iqametrics", "score", str(picture), "--metric"]
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    commands |= {f"score {name}": [*score, name] for name in ("bpclip-nr.lite", "pfd-iqa.lite")}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(max(rounds, 1)):
        for name, command in commands.items():
            times[name].append(timed(command, tree))
    return {
        name: {"wall": round(statistics.median(wall), 3), "processor": round(statistics.median(cpu), 3)}
        for name, found in times.items()
        for wall, cpu in [tuple(zip(*found, strict=True))]
    }


def describe_machine(trees: dict[str, Path]) -> dict[str, Any]:
    """Return processor, cores, versions, date, and the commit of each tree."""
    import torch

    found: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    found |= {"torch": torch.__version__, "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat()}
    found["load_before"] = round(os.getloadavg()[0], 2)
    for label, tree in trees.items():
        git = ["git", "-C", str(tree)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        changes = subprocess.run([*git, "status", "--porcelain", "iqametrics"], capture_output=True, check=False)
        found[label] = {"commit": commit.stdout.strip(), "package_changed_since": bool(changes.stdout.strip())}
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _command() -> str:
    shown = [f"<{Path(word).name}>" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python benchmarks/speed.py", *shown])


if __name__ == "__main__":
    main()
