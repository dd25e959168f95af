"""Runs that are killed at some moment and gone on with: they end as one that nobody disturbed, bit for bit.

A case is a training run, or a run of the benchmark, with the package's own trainer, objectives and base files. The
moment is drawn as a share of the processor time that the undisturbed run took, so that a busy machine does not move it.
"""

import csv
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot  # noqa: F401  every forked run would import it again
import numpy as np
import tensorboardX  # noqa: F401
from attack_worker import Fault
from PIL import Image, ImageFilter
from safetensors import safe_open

import iqametrics.benchmark.jobs
import iqametrics.registry
import iqametrics.training.run  # noqa: F401
from iqametrics.cli.main import main

SETTINGS = ("train.epochs=2", "train.batch_size=8", "train.crop=64", "sizing.min_side=64")
KEPT = ("train.keep_state=true", "train.device=cpu", "metric.tag=killed")
SECONDS = 300
SESSIONS = ("tensorboard", "environment.json", "curves.png", "index.json", "recipe.toml")
"""What tells of sessions, times and places, and may differ."""

_CHANGES = [part for setting in SETTINGS for part in ("--set", setting)]
_STATE = [part for setting in KEPT for part in ("--set", setting)]


class Kind(NamedTuple):
    """A kind of run: its name, and its command without --output and --resume."""

    name: str
    command: tuple[str, ...]


class Case(NamedTuple):
    """One run that is killed after a share of its work."""

    name: str
    kind: Kind
    number: int
    share: float


class Kills:
    """The job of the worker: kill a run, go on with it, and compare its end with the undisturbed one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.folder = Path.cwd().parent / "kills"
        self.folder.mkdir()
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self.folder / "inductor")  # which torch makes when it trains
        write_release(self.folder / "kadid")
        sources = self.folder / "data.toml"
        sources.write_text(f"[datasets.kadid10k]\nroot = {str(self.folder / 'kadid')!r}\n")
        where = ("--dataset", "kadid10k", "--root", str(self.folder / "kadid"))
        table = ("--rows", "BPCLIP", "PSNR", "--datasets", "kadid10k", "--splits", "1", "--size", "lite")
        data = ("--data", str(sources), "--device", "cpu")
        self.kinds = (
            Kind("train", ("train", "lite/bpclip-nr", *where, *_CHANGES, *_STATE)),
            Kind("benchmark", ("benchmark", "run", "bpclip-table2", *table, *data, *_CHANGES)),
        )
        self.seconds: dict[str, float] = {}

    def prepare(self, number: int) -> Case:
        """Draw the moment of a number; the first case of a kind does the undisturbed run too."""
        kind = self.kinds[number % len(self.kinds)]
        if kind.name not in self.seconds:
            self.seconds[kind.name] = self._run(kind, "undisturbed")
        share = random.Random(f"{self.seed} {number}").random()
        return Case(f"{kind.name}, killed at {share:.0%}", kind, number, share)

    def run(self, case: Case) -> str:
        """Begin, kill, go on, compare.

        Raises:
            Fault: If the run cannot be gone on with, or ends otherwise.
        """
        name = f"killed-{case.number}"
        self._run(case.kind, name, until=case.share * self.seconds[case.kind.name])
        self._run(case.kind, name, "--resume")
        if found := differences(self.folder / "undisturbed" / case.kind.name, self.folder / name / case.kind.name):
            raise Fault(f"{len(found)} differ: {', '.join(found[:5])}")
        shutil.rmtree(self.folder / name)
        return "ended alike"

    def _run(self, kind: Kind, name: str, *more: str, until: float | None = None) -> float:
        """Run a command in a process of its own; return the processor time it took.

        Args:
            kind: The command.
            name: Where, below the folder; its cache stands beside it.
            more: More arguments.
            until: The processor time after which it is killed; None to let it end.

        Raises:
            Fault: If it fails, or ends before it is killed.
        """
        place = self.folder / name
        place.mkdir(exist_ok=True)
        arguments = [*kind.command, "--output", str(place / kind.name), *more]
        log = place / f"{kind.name}.log"
        process = forked(lambda: main(arguments), log)
        used, begin = 0.0, time.monotonic()
        while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
            used = processor_seconds(process)
            if time.monotonic() - begin > SECONDS or (until is not None and used >= until):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                if until is None or used < until:
                    raise Fault(f"{kind.name} does not end: {last_line(log)}")
                return used
            time.sleep(0.003)
        if status := os.waitstatus_to_exitcode(ended[1]):
            raise Fault(f"{kind.name} ends with status {status}: {last_line(log)}")
        if until is not None:
            raise Fault(f"{kind.name} took less than {until:.2f} s of processor time")
        return used


def write_release(root: Path, references: int = 10, levels: int = 3) -> None:
    """Write a small release of KADID-10k: soft noise, blurred more and more."""
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(1, references + 1):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)
        picture.save(root / "images" / f"I{number:02}.png")
        for level in range(1, levels + 1):
            name = f"I{number:02}_01_{level:02}.png"
            picture.filter(ImageFilter.GaussianBlur(2 * level)).save(root / "images" / name)
            rows.append(f"{name},I{number:02}.png,{4.5 - level + 0.1 * rng.random():.3f},0.5\n")
    (root / "dmos.csv").write_text("dist_img,ref_img,dmos,var\n" + "".join(rows))


def forked(work: Callable[[], int], log: Path) -> int:
    """Do work in a copy of this process, which must not have computed a gradient yet, and return its number."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            status = work()
        finally:
            os._exit(status)
    return process


def processor_seconds(process: int) -> float:
    """Return the processor time of a process and its threads so far, in steps of a tick."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def last_line(log: Path) -> str:
    """Return the end of what a run said."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"


def differences(one: Path, other: Path) -> list[str]:
    """Compare what two runs of one command left, but for times and dates.

    Returns:
        Each file that is in one of them only or differs, relative to the folder.
    """
    names = {str(path.relative_to(folder)) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    return sorted(
        name
        for name in names
        if not any(part in name for part in SESSIONS)
        and not ((one / name).is_file() and (other / name).is_file() and content(one / name) == content(other / name))
    )


def content(path: Path) -> Any:
    """Return all of a file that must be the same for two runs, bit for bit."""
    if path.suffix == ".safetensors":
        return tensors(path)
    if path.name == "history.csv":
        with path.open(newline="") as stream:
            return [{**row, "seconds": ""} for row in csv.DictReader(stream)]
    if path.name in ("result.json", "results.json"):
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".bin":
        return path.stat().st_size  # features lie in the order in which threads made them
    return path.read_bytes()


def tensors(path: Path) -> Any:
    """Return the tensors of a file as bytes, and how far its run has come."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
        progress = json.loads((file.metadata() or {}).get("iqametrics-run", "{}"))
    return timeless(progress), {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}


def timeless(value: Any) -> Any:
    """Return nested values without times, and without the digest of a checkpoint in which times stand."""
    if isinstance(value, dict):
        gone = ("seconds", "date", "fingerprint")
        return {key: timeless(inner) for key, inner in value.items() if key not in gone}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value
