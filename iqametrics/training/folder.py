"""The folder of a run: what may be written into it, and when a run in it may go on."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from iqametrics.common.digest import file_sha256
from iqametrics.common.files import read_text, remove_parts
from iqametrics.common.locks import locked
from iqametrics.errors import RecipeError, TrainingError, WeightsError
from iqametrics.naming import run_tag
from iqametrics.training.environment import write_sessions
from iqametrics.training.recipe import Recipe, read_recipe, to_toml
from iqametrics.training.resume import write_run_file
from iqametrics.training.starting import CHECKPOINT, RESULTS
from iqametrics.weights.checkpoint import BACKBONE, load_checkpoint, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest

LAST, BEST, LOCK = "last.safetensors", "best.safetensors", "run.lock"
STATES = (LAST, BEST)
_RECIPE = "recipe.toml"
_STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16}
# A resumed run may differ in these: they change the speed, the description or the last bits, not the training.
_FREE = {
    "metric": {"tag"},
    "train": {
        *("device", "workers", "save_minutes", "save_every", "keep_state", "cudnn_benchmark", "deterministic"),
        *("channels_last", "compile", "checkpointing", "fused"),
    },
    "cache": {"folder", "images_gb"},
    "output": {"licence", "sources", "dtype"},
}


def check_not_busy(folder: Path) -> None:
    """Refuse a folder in which a run is at work, before its half-written files are looked at.

    Raises:
        TrainingError: If another run is at work in it.
    """
    if os.access(folder / LOCK, os.W_OK):
        with locked(folder / LOCK, wait=False, error=TrainingError) as free:
            if not free:
                raise TrainingError(busy(folder))


def busy(folder: Path) -> str:
    """Say that another run is at work in a folder."""
    return f"{folder}: another run is at work in it; wait for its end, or give another --output"


def make_folder(folder: Path) -> None:
    """Make the folder of a run.

    Raises:
        TrainingError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be made ({error.strerror}); give another --output") from error


def open_folder(folder: Path, recipe: Recipe, sessions: Sequence[dict[str, Any]]) -> None:
    """Write what a run begins with: its recipe, and the records of its sessions."""
    remove_parts(folder)
    write_run_file(folder / _RECIPE, to_toml(recipe.to_dict()).lstrip())
    write_sessions(folder, sessions)
    if recipe.train.selection == "best-test":
        print(
            "train.selection = best-test: the epoch is chosen by the test part, so the test figures are too good to be "
            "compared with those of a protocol that does not",
            file=sys.stderr,
        )


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Tell whether a folder holds a finished run of a recipe, its checkpoint's metadata being up to date."""
    if not has_results(folder):
        return False
    before = read_recipe(folder / _RECIPE)
    return (before.output, before.metric) == (recipe.output, recipe.metric)


def has_results(folder: Path) -> bool:
    """Tell whether a folder holds results and checkpoint of a run."""
    return (folder / RESULTS).is_file() and (folder / CHECKPOINT).is_file()


def remove_states(folder: Path) -> None:
    """Remove what a run that is done would have gone on from; its results are on the disk."""
    for name in STATES:
        (folder / name).unlink(missing_ok=True)


def describe_again(folder: Path, recipe: Recipe) -> None:
    """Write checkpoint and results of a run that is done, and whose states are gone, with other [metric] and [output].

    Raises:
        RecipeError: If weights that are stored in half precision are wanted in full.
        TrainingError: If a file cannot be read or written.
        WeightsError: If the checkpoint is damaged.
    """
    path = folder / CHECKPOINT
    if (read_recipe(folder / _RECIPE).output.dtype, recipe.output.dtype) == ("float16", "float32"):
        raise RecipeError(f"output.dtype: {path} is in float16, and the state is gone; keep it, or train anew")
    metadata, tensors = load_checkpoint(path)
    tensors.check(str(path))
    results = json.loads(read_text(folder / RESULTS, error=TrainingError))
    tag = recipe.metric.tag or run_tag(folder, recipe.metric.name)
    metadata |= {"tag": tag, "licence": recipe.output.licence, "sources": list(recipe.output.sources)}
    save_without_base(path, tensors, metadata, dtype=recipe.output.dtype)
    write_run_file(folder / RESULTS, json.dumps(results | {"tag": tag}, indent=1) + "\n")
    write_run_file(folder / _RECIPE, to_toml(recipe.to_dict()).lstrip())


def bundled_base(backbone: str | None) -> dict[str, str] | None:
    """Name the bundled backbone that a starting file is, known by its SHA-256."""
    known = file_sha256(backbone, error=WeightsError) if backbone else ""
    return next(({"name": b.name, "sha256": b.sha256} for b in read_manifest().bases if b.sha256 == known), None)


def save_without_base(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any], *, dtype: Literal["float32", "float16"]
) -> None:
    """Write a checkpoint without what the bundled backbone that its metadata name holds already, number for number."""
    named = metadata["backbone"]
    entry = next((base for base in read_manifest().bases if named and base.sha256 == named["sha256"]), None)
    kept = dict(tensors)
    if entry is not None:
        shared = {BACKBONE + key: tensor for key, tensor in load_file(WEIGHTS_FOLDER / entry.file).items()}
        kept = {
            key: tensor
            for key, tensor in kept.items()
            if key not in shared or not torch.equal(shared[key].to(tensor.dtype), tensor.cpu())
        }
    base = {"name": entry.name, "sha256": entry.sha256} if entry is not None and len(kept) < len(tensors) else None
    save_checkpoint(path, kept, metadata | {"backbone": base}, dtype=_STORED_DTYPES[dtype])


def with_seed_as_begun(folder: Path, recipe: Recipe, earlier: int) -> Recipe:
    """Return the recipe of one of several splits with the seed that its run was begun with.

    Args:
        folder: Folder of the split's run.
        recipe: Its recipe, with a seed of its own.
        earlier: The seed that all splits had in older versions; a run that one of them began goes on with it.
    """
    started = folder / _RECIPE
    if started.is_file() and read_recipe(started).train.seed == earlier:
        return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, seed=earlier))
    return recipe


def check_folder(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Refuse to overwrite a run or a file, and to resume a run with another recipe.

    Raises:
        TrainingError: If the folder is a file, or holds a run and is not to be resumed.
        RecipeError: If its run was begun with another recipe.
    """
    taken = next((path for path in (folder, *folder.parents) if os.path.exists(path) and not os.path.isdir(path)), None)
    if taken is not None:
        raise TrainingError(f"{taken}: is a file, and a run needs a folder; give another --output")
    started = folder / _RECIPE
    if not os.path.exists(started):
        return
    if not resume:
        raise TrainingError(f"{folder}: already holds a run; resume it with --resume or give another --output")
    before, now = _fixed(read_recipe(started).to_dict()), _fixed(recipe.to_dict())
    names = sorted({*before, *now})
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        raise RecipeError(
            f"{folder}: was begun with another recipe ({', '.join(changed)} changed); give the same values or "
            "another --output"
        )


def _fixed(tables: dict[str, Any]) -> dict[str, Any]:
    """Flatten a recipe to `table.key` names, without those that may change on resuming."""
    return {
        f"{table}.{key}": value
        for table, values in tables.items()
        for key, value in values.items()
        if key not in _FREE.get(table, ())
    }
