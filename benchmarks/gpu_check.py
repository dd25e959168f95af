"""Check on a GPU what a machine without one cannot show; `gpu_check.sh` calls it with all that it needs.

    bash benchmarks/gpu_check.sh [--device cuda] [--output benchmarks/results/gpu-check.json]

1. Scores of every bundled checkpoint on the device and on the CPU, within 1e-4 in float32. Those with TF32, as torch
   has it for convolutions unless told otherwise, are reported beside them and not judged.
2. Two training steps of each paper recipe, twice with deterministic algorithms: the same bits.
3. A run of `iqametrics train` on the device, from end to end, and the same by two processes where there are two GPUs:
   the same predictions within 1e-3.
4. A training step of each paper recipe at its batch, in float32, TF32 and bfloat16: loss, memory, steps a second.
   Recipes of the datasets that take the same step as another are not repeated.

Weights are random except for the checkpoints', and images are made, so no data are needed. A step that finds no room on
the card, or a type that it has not, is reported and is no failure. What does not fit into --minutes is left out and
named. The exit status is 0 if nothing failed. `--small` takes batches of two and small crops: for a look at the check
itself on a CPU (`--device cpu --small`), where speed means little and memory is not told.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from iqametrics import create_metric
from iqametrics.benchmark.cost import picture
from iqametrics.common.devices import find_device
from iqametrics.common.files import write_file
from iqametrics.errors import DataError, IqaError, RecipeError
from iqametrics.objective import Objective, Statistics
from iqametrics.training.environment import this_session
from iqametrics.training.planning import blank_objective
from iqametrics.training.recipe import Recipe, read_recipe
from iqametrics.training.recipes import list_recipes
from iqametrics.training.starting import teacher_recipe
from iqametrics.training.step_cost import Steps
from iqametrics.weights.manifest import read_manifest

SCORES_WITHIN, PREDICTIONS_WITHIN = 1e-4, 1e-3
SIZES = ((384, 512), (225, 301))
MODES = ("float32", "tf32", "bfloat16")
WARM, TIMED = 2, 5
FAILED, DONE = "failed", "done"
STATES = (DONE, FAILED, "no room", "refused", "left out")
"""What can become of a check; only "failed" makes the whole fail."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks, write the results and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu (default: cuda)")
    parser.add_argument("--small", action="store_true", help="batches of two, small crops")
    parser.add_argument("--minutes", type=float, default=9.0, help="no check begins after this (default: 9)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gpu-check.json"))
    parser.add_argument("--recipes", nargs="+", help="only these recipes' steps (default: all of paper/)")
    args = parser.parse_args(argv)
    try:
        device = find_device(args.device, error=RecipeError, what="--device")
        recipes = distinct(args.recipes or [name for name in list_recipes() if name.startswith("paper/")], args.small)
        results = check_all(device, recipes, minutes=args.minutes, small=args.small)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_file(args.output, json.dumps(results, indent=2) + "\n", error=DataError)
    except (IqaError, OSError) as error:
        print(f"gpu_check: error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {'passed' if results['passed'] else 'FAILED'} in {results['seconds']:.0f} s")
    return 0 if results["passed"] else 1


def check_all(device: torch.device, recipes: dict[str, Recipe], *, minutes: float, small: bool) -> dict[str, Any]:
    """Run the checks until the time is over; return the results, ready for JSON."""
    begun = time.monotonic()
    jobs: list[tuple[str, str, Any]] = [
        ("scores", entry.full_name, lambda entry=entry: scores(entry.full_name, device))
        for entry in read_manifest().checkpoints
        if entry.source == "bundled"
    ]
    plain = {name: recipe for name, recipe in recipes.items() if name.count("/") == 1}
    jobs += [("deterministic", name, lambda r=recipe: deterministic(r, device)) for name, recipe in plain.items()]
    jobs += [("processes", "train", lambda: processes(device))]
    # The four methods first, then what their datasets' recipes change.
    for name, recipe in sorted(recipes.items(), key=lambda item: item[0].count("/")):
        jobs += [("steps", f"{name}, {mode}", lambda r=recipe, m=mode: training_step(r, m, device)) for mode in MODES]
    found: dict[str, dict[str, Any]] = {"scores": {}, "deterministic": {}, "processes": {}, "steps": {}}
    for kind, name, job in jobs:
        late = time.monotonic() - begun > 60 * minutes
        found[kind][name] = (
            {"state": "left out", "reason": f"after {minutes:g} minutes"} if late else tried(job, device)
        )
        print(f"{kind}, {name}: {found[kind][name]['state']}", flush=True)
    states = [entry["state"] for entries in found.values() for entry in entries.values()]
    return {
        "passed": FAILED not in states,
        "device": describe(device),
        "small": small,
        "seconds": round(time.monotonic() - begun, 1),
        "checks": found,
        **{key: value for key, value in this_session([], {}).items() if key != "inputs"},
    }


def describe(device: torch.device) -> dict[str, Any]:
    """Return what the device is."""
    if device.type != "cuda":
        return {"type": device.type, "name": device.type, "count": 1, "bytes": None, "capability": None}
    facts = torch.cuda.get_device_properties(device)
    return {
        "type": "cuda",
        "name": facts.name,
        "count": torch.cuda.device_count(),
        "bytes": facts.total_memory,
        "capability": f"{facts.major}.{facts.minor}",
    }


def tried(job: Any, device: torch.device) -> dict[str, Any]:
    """Run one check; what goes wrong in it is its result, so that the others still come."""
    try:
        result: dict[str, Any] = job()
    except torch.OutOfMemoryError:
        result = {"state": "no room"}
    except RecipeError as error:
        result = {"state": "refused", "reason": str(error)}
    except Exception as error:  # the very thing that a new machine is looked at for
        result = {"state": FAILED, "reason": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return result


@contextlib.contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Allow or forbid TF32 in products and convolutions."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = on
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def scores(name: str, device: torch.device) -> dict[str, Any]:
    """Score pictures on the CPU and on the device."""
    metric = create_metric(name, device="cpu")
    count = 2 if metric.mode == "fr" else 1
    given = [tuple(picture(size, seed) for seed in range(count)) for size in SIZES]
    expected = [metric(*images).item() for images in given]
    metric.to(device)

    def farthest(on: bool) -> float:
        with tf32(on):
            found = [metric(*images).item() for images in given]
        return max(abs(one - other) for one, other in zip(found, expected, strict=True))

    strict, rounded = farthest(False), farthest(True)
    # Not `>`, so that a NaN fails.
    state = DONE if strict <= SCORES_WITHIN else FAILED
    return {"state": state, "difference": strict, "difference_tf32": rounded, "within": SCORES_WITHIN}


def distinct(names: Sequence[str], small: bool) -> dict[str, Recipe]:
    """Read recipes, and keep one of those that take the same step."""
    kept: dict[str, Recipe] = {}
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        recipe = read_recipe(name, [], {"csv": "none"})
        if small:
            side = min(recipe.train.crop, 64) if recipe.metric.name.startswith("bpclip") else recipe.train.crop
            recipe = replace(recipe, train=replace(recipe.train, batch_size=2, crop=side))
        if all(step_of(recipe) != step_of(other) for other in kept.values()):
            kept[name] = recipe
    return kept


def step_of(recipe: Recipe) -> tuple[Any, ...]:
    """Return what a step's cost depends on."""
    train = recipe.train
    return recipe.metric.name, recipe.model, train.batch_size, train.crop, train.crops_together, train.accumulate


def begin(recipe: Recipe, device: torch.device) -> tuple[Objective, torch.optim.Optimizer]:
    """Make a recipe's objective with random weights, and its optimiser."""
    torch.manual_seed(0)
    first = teacher_recipe(recipe, Path()) if "teacher" in recipe.init else None
    objective = blank_objective(recipe, None if first is None else blank_objective(first))
    objective.initialise(Statistics(mos_mean=0.5, mos_std=0.3, level_means=(), level_stds=()))
    objective.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train = recipe.train
    groups = objective.parameter_groups(train.lr, train.backbone_lr or train.lr, train.weight_decay)
    return objective, torch.optim.AdamW(groups)


def take(steps: Steps, optimizer: torch.optim.Optimizer, images: int) -> float:
    """Take one training step; return its loss."""
    torch.manual_seed(1)
    optimizer.zero_grad(set_to_none=True)
    loss = steps.loss(steps.batch(images))
    steps.precision.scaler.scale(loss).backward()
    optimizer.step()
    return float(loss.detach())


def deterministic(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Take two steps of two images, twice; compare all weights."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    ends, told = [], set()
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        for _ in range(2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                objective, optimizer = begin(recipe, device)
                steps = Steps(objective, recipe.train, device, cached=False)
                losses = [take(steps, optimizer, 2) for _ in range(2)]
            told |= {str(warning.message).splitlines()[0] for warning in caught}
            ends.append([torch.tensor(losses), *(tensor.cpu() for tensor in objective.state_dict().values())])
            del objective, optimizer, steps
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    same = all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    return {"state": DONE if same else FAILED, "same_bits": same, "warnings": sorted(told)}


def training_step(recipe: Recipe, mode: str, device: torch.device) -> dict[str, Any]:
    """Measure steps of the whole batch, the optimiser's included."""
    counts_memory = device.type == "cuda"
    if counts_memory:
        torch.cuda.reset_peak_memory_stats(device)
    recipe = replace(recipe, train=replace(recipe.train, amp="bfloat16" if mode == "bfloat16" else "none"))
    images = -(-recipe.train.batch_size // recipe.train.accumulate)
    warm, timed = (1, 1) if device.type == "cpu" else (WARM, TIMED)
    with tf32(mode == "tf32"):
        objective, optimizer = begin(recipe, device)
        steps = Steps(objective, recipe.train, device, cached=False)
        first = take(steps, optimizer, images)
        losses = [take(steps, optimizer, images) for _ in range(warm - 1)]
        steps.wait()
        start = time.perf_counter()
        losses += [take(steps, optimizer, images) for _ in range(timed)]
        steps.wait()
        seconds = (time.perf_counter() - start) / timed * recipe.train.accumulate
    peak = torch.cuda.max_memory_allocated(device) if counts_memory else None
    return {
        "state": DONE if all(math.isfinite(loss) for loss in (first, *losses)) else FAILED,
        "batch": recipe.train.batch_size,
        "crop": recipe.train.crop,
        "loss": first,
        "memory": peak,
        "memory_unknown": None if counts_memory else f"torch keeps no peak of the memory of {device.type}",
        "steps_per_second": 1 / seconds,
    }


RECIPE = """
[metric]
name = "bpclip-nr"
[model]
backbone = "efficientnet_lite0"
frozen_levels = 3
text_width = 384
standardise_levels = true
dropout = 0.0
width = 32
[init]
backbone = "efficientnet_lite0"
anchors = "minilm_prompts"
[data]
csv = "data.csv"
[split]
validation = 0.25
by = "image"
[train]
epochs = 2
batch_size = 4
crop = 64
lr = 1e-4
device = "{device}"
"""


def processes(device: torch.device) -> dict[str, Any]:
    """Train from made pictures by the command line, by one process and, where there are two devices, by two."""
    both = device.type == "cpu" or (device.type == "cuda" and torch.cuda.device_count() > 1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder)
        (folder / "recipe.toml").write_text(RECIPE.format(device=device.type))
        one = trained(folder, "one", ["-m", "iqametrics"])
        if not both:
            return {"state": DONE, "one": "trained", "two": "left out: one device", "difference": None}
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "iqametrics"]
        two = trained(folder, "two", launcher)
    difference = max(abs(one[key] - two[key]) for key in one)
    state = DONE if one.keys() == two.keys() and difference <= PREDICTIONS_WITHIN else FAILED
    within = {"difference": difference, "within": PREDICTIONS_WITHIN}
    return {"state": state, "one": "trained", "two": "trained", **within}


def write_pictures(folder: Path) -> None:
    """Write 24 made pictures with made labels."""
    rows = []
    for number in range(24):
        pixels = picture((80, 96), number)[0].permute(1, 2, 0).numpy() * (1 - number / 48)
        Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{1 - number / 24:.3f}")
    (folder / "data.csv").write_text("\n".join(["image,mos", *rows]) + "\n")


def trained(folder: Path, name: str, launcher: list[str]) -> dict[str, float]:
    """Train in new processes; return the predictions by image.

    Raises:
        RuntimeError: If the command failed; with its last line.
    """
    command = [sys.executable, *launcher, "train", str(folder / "recipe.toml"), "--output", str(folder / name)]
    # One thread for each process, or on a CPU they get in each other's way.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    count = json.loads((folder / name / "environment.json").read_text())["sessions"][0]["hardware"]["processes"]
    if count != (2 if "torch.distributed.run" in launcher else 1):
        raise RuntimeError(f"{count} processes trained together")
    with (folder / name / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row["image"]: float(row["score"]) for row in rows}


if __name__ == "__main__":
    sys.exit(main())
