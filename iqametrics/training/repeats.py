"""The same recipe on several random splits: mean and standard deviation of what the held-out images say.

OUTPUT/split-00 ...   one run a split, as `run.py` leaves it; split.seed = 0, 1, ..., and train.seed counts on likewise
OUTPUT/summary.json   the figures of all splits, their mean and sample standard deviation (n - 1)
OUTPUT/summary.csv    the same as a table: one row a split, then the mean and the deviation
"""

import csv
import dataclasses
import io
import json
import math
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iqametrics.common.files import read_text
from iqametrics.errors import RecipeError, TrainingError
from iqametrics.training.folder import is_finished, with_seed_as_begun
from iqametrics.training.recipe import Recipe
from iqametrics.training.resume import write_run_file
from iqametrics.training.run import train_recipe
from iqametrics.training.starting import RESULTS
from iqametrics.training.telling import say

SUMMARY, TABLE = "summary.json", "summary.csv"
DEVIATION = "sample standard deviation (n - 1)"
_PARTS = ("validation", "test")
_SHOWN = ("srcc", "plcc")
# Counts, and what is about one split's images only, have no mean worth telling.
_LEFT_OUT = ("n", "srcc_low", "srcc_high")


def train_repeats(recipe: Recipe, output: Path | str, *, splits: int = 10, resume: bool = False) -> Path:
    """Train a recipe on several random splits.

    Args:
        recipe: A recipe with a test part; its `split.seed` is replaced by 0 to `splits` - 1, and that of the
            initial weights and the order, `train.seed`, by itself plus the same number.
        output: Folder of the runs and of the summary.
        splits: Number of splits.
        resume: Whether to continue what is in the folder: finished splits are kept, an unfinished one goes on.

    Returns:
        The path of the summary.

    Raises:
        RecipeError: If the split is not a random one, there is no test part, or `train` would refuse the recipe.
        TrainingError: If the folder holds runs already, or a run fails as in `train`.
        KeyboardInterrupt: If Ctrl-C is pressed; the message says how to go on.
    """
    _check(recipe, splits)
    folder = Path(output)
    # Under torchrun the others may come when the first process has begun to write; it alone also sums up.
    first = os.environ.get("RANK", "0") == "0"
    if first and not resume and folder.is_dir() and any(folder.iterdir()):
        raise TrainingError(f"{folder}: already holds files; go on with --resume or give another --output")
    runs = []
    for seed in range(splits):
        run = folder / f"split-{seed:02d}"
        one = with_seed_as_begun(run, of_split(recipe, seed), recipe.train.seed)
        before = resume and is_finished(run, one)
        train_recipe(one, run, resume=resume)
        if not first:
            continue
        runs.append(_read_results(run))
        say(f"split {seed + 1}/{splits}{' (finished before)' if before else ''}: {_figures(runs[-1])}")
    return write_summary(folder, runs) if first else folder / SUMMARY


def of_split(recipe: Recipe, number: int) -> Recipe:
    """Return the recipe of one of several splits, with seeds of its own for the split and for weights and order."""
    return dataclasses.replace(
        recipe,
        split=dataclasses.replace(recipe.split, seed=number),
        train=dataclasses.replace(recipe.train, seed=recipe.train.seed + number),
    )


def write_summary(folder: Path, runs: list[dict[str, Any]]) -> Path:
    """Write summary.json and summary.csv.

    Args:
        folder: Folder to write to.
        runs: Contents of each split's results.json, in the order of the splits.

    Returns:
        The path of summary.json.
    """
    first = runs[0]
    summary: dict[str, Any] = {
        "metric": first["metric"],
        "tag": first["tag"].removesuffix("-split-00"),
        "splits": len(runs),
        "split": {key: value for key, value in first["split"].items() if key != "seed"},
        "selection": first["selection"],
        "deviation": DEVIATION,
    }
    for part in _PARTS:
        if all(run["results"].get(part) for run in runs):
            summary[part] = _over_splits([run["results"][part] for run in runs])
    summary["runs"] = [
        {key: run.get(key) for key in ("split", "seed", "epoch", "images", "commit", "date", "seconds")} for run in runs
    ]
    write_run_file(folder / TABLE, _table(summary))
    write_run_file(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return folder / SUMMARY


def figures_of_splits(folder: Path) -> list[dict[str, Any]]:
    """Read mean and deviation of each held-out part from a summary, one record each; none where there is no summary."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return [
            {"part": part, "figure": name, **{figure: over[name] for figure, over in summary[part].items()}}
            for part in _PARTS
            if part in summary
            for name in ("mean", "std")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _check(recipe: Recipe, splits: int) -> None:
    if splits < 2:
        raise RecipeError(f"--splits {splits}: a deviation needs two splits or more; leave --splits out for one")
    if recipe.split.by in ("column", "official"):
        raise RecipeError(
            f"--splits {splits}: split.by = {recipe.split.by!r} is one fixed split; leave --splits out, or take a "
            "random one, e.g. --set split.by=reference --set split.test=0.2"
        )
    if recipe.train.seed + splits > 2**63:
        raise RecipeError(f"train.seed = {recipe.train.seed}: each of {splits} splits counts on from it; give less")
    if not recipe.split.test:
        raise RecipeError(f"--splits {splits}: there is no test part to measure on; give one with --set split.test=0.2")


def _read_results(run: Path) -> dict[str, Any]:
    path = run / RESULTS
    try:
        found = json.loads(read_text(path, error=TrainingError))
        if not isinstance(found, dict) or not {"metric", "tag", "split", "selection", "results"} <= found.keys():
            raise ValueError("it lacks what a run writes")
        return found
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); remove {run} and use --resume") from error


def _over_splits(results: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean, deviation and values of each figure; None where a split has none."""
    over: dict[str, Any] = {}
    for name in results[0]:
        values = [result.get(name) for result in results]
        if name in _LEFT_OUT or not all(value is None or type(value) in (int, float) for value in values):
            continue
        known = [float(value) for value in values if value is not None]
        complete = len(known) == len(values)
        over[name] = {
            "mean": math.fsum(known) / len(known) if complete else None,
            "std": statistics.stdev(known) if complete else None,
            "values": values,
        }
    return over


def _table(summary: Mapping[str, Any]) -> str:
    columns = {f"{part}_{name}": value for part in _PARTS for name, value in summary.get(part, {}).items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", *columns])
    for number in range(summary["splits"]):
        writer.writerow([number, *(_cell(column["values"][number]) for column in columns.values())])
    for row in ("mean", "std"):
        writer.writerow([row, *(_cell(column[row]) for column in columns.values())])
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _figures(run: Mapping[str, Any]) -> str:
    test = run["results"]["test"]
    return "  ".join(f"test {name} {test[name]:.4f}" for name in _SHOWN if test.get(name) is not None)
