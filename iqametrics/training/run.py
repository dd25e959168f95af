"""One training run from recipe to checkpoint.

RUN/recipe.toml              the recipe as it was understood, with absolute paths
RUN/run.lock                 held while a run is at work in the folder
RUN/environment.json         versions, hardware, commit, digests of the input files, for each session
RUN/history.csv              one row an epoch
RUN/tensorboard/             the same for TensorBoard, where tensorboardX or tensorboard is installed
RUN/curves.png               the same as a picture, where matplotlib is installed
RUN/last.safetensors         state to resume from
RUN/best.safetensors         weights of the best epoch by validation SRCC (or the test part's, if so selected)
RUN/predictions.csv          scores of the held-out images by the shipped weights
RUN/results.json             the figures, and the rule that chose the epoch
RUN/checkpoint.safetensors   the result, which describes itself
"""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from iqametrics.common.devices import as_float64, defaults_of_torch
from iqametrics.common.digest import file_sha256
from iqametrics.common.files import remove_parts
from iqametrics.common.interrupts import Stopped
from iqametrics.common.locks import locked
from iqametrics.errors import RecipeError, TrainingError, WeightsError
from iqametrics.methods import named_class, objectives
from iqametrics.metric import Sizing
from iqametrics.naming import run_tag
from iqametrics.objective import Objective, Statistics
from iqametrics.training.batches import Batches, CachedFeatures, ImageFiles
from iqametrics.training.cache import FeatureCache
from iqametrics.training.checks import check_ranked, check_references
from iqametrics.training.curves import write_curves
from iqametrics.training.data import RunData, image_files, load_data
from iqametrics.training.distributed import Ranks, joined
from iqametrics.training.environment import (
    check_inputs,
    checkpoint_record,
    earlier_sessions,
    this_session,
    write_sessions,
)
from iqametrics.training.loop import LAST, Trainer
from iqametrics.training.recipe import Recipe, read_recipe, to_toml
from iqametrics.training.results import measure_part, write_predictions, write_results
from iqametrics.training.resume import write_run_file
from iqametrics.training.starting import CHECKPOINT, RESULTS, starting_files
from iqametrics.training.telling import still
from iqametrics.weights.checkpoint import BACKBONE, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest

_RECIPE = "recipe.toml"
_LOCK = "run.lock"
# A resumed run may differ in these: they change the speed or the description, not the weights.
_FREE = {
    "metric": {"tag"},
    "train": {"device", "workers"},
    "cache": {"folder"},
    "output": {"licence", "sources", "dtype"},
}
_MOST_VIEWS = 2 * 10**7
_STATISTICS_IMAGES = 128
_STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def train(
    recipe_path: Path | str, overrides: Sequence[str] = (), output: Path | str | None = None, resume: bool = False
) -> Path:
    """Train as a recipe says and write a checkpoint.

    Args:
        recipe_path: The TOML file, or the name of a recipe of the package.
        overrides: `table.key=value` each.
        output: Folder of the run; `runs/` and the recipe's name, below the working folder, if None.
        resume: Whether to continue the run in `output`; one that has not saved anything yet starts from its beginning,
            and a finished one is kept.

    Returns:
        The folder of the run.

    Raises:
        RecipeError: If the recipe has an unknown key or an impossible value, or is not that of the run to resume.
        DataError: If data are missing or cannot be trained on.
        WeightsError: If a starting file is missing or does not fit.
        TrainingError: If the folder holds a run already, a loss is not finite, or the disk is full.
        KeyboardInterrupt: If Ctrl-C is pressed; the message says how to go on.
    """
    folder = Path(output) if output is not None else Path("runs") / Path(recipe_path).stem
    return train_recipe(read_recipe(recipe_path, overrides), folder, resume=resume)


def train_recipe(recipe: Recipe, output: Path | str, *, resume: bool = False) -> Path:
    """Train a recipe that is already read; see `train`."""
    try:
        with defaults_of_torch(), joined(recipe.train.device) as ranks, contextlib.ExitStack() as held:
            return _train(recipe, Path(output), ranks, held, resume=resume)
    except KeyboardInterrupt as interrupt:
        told = str(interrupt) or "stopped; go on with the same command and --resume"
        raise Stopped(told, getattr(interrupt, "number", signal.SIGINT)) from None


def _train(recipe: Recipe, folder: Path, ranks: Ranks, held: contextlib.ExitStack, *, resume: bool) -> Path:
    """Train; `held` keeps the lock of the folder until the run ends."""
    objective_class = _objective_class(recipe.metric.name)
    if ranks.first:
        _check_not_busy(folder)
    _check_folder(folder, recipe, resume=resume)
    # Before anything is downloaded, and before a teacher is trained for hours, so that wrong data are reported at once.
    with still("reading the images and dealing them to the parts", on=ranks.first):
        data = load_data(recipe)
    if len(data.train) * recipe.train.views > _MOST_VIEWS:
        raise RecipeError(
            f"train.views = {recipe.train.views}: of {len(data.train)} images, these are more than {_MOST_VIEWS} crops "
            "an epoch; give fewer"
        )
    init = starting_files(recipe, folder, partial(train_recipe, resume=resume))
    torch.manual_seed(recipe.train.seed)
    objective = _objective(objective_class, recipe, init).to(ranks.device)
    objective.to(memory_format=torch.channels_last)
    check_ranked(recipe, learns_order=objective.learns_order)
    if objective.needs_reference:
        with still("comparing the sizes of images and references", on=ranks.first):
            check_references(recipe, data)
    now = this_session([*_data_files(recipe), *init.values()], data.digests, processes=ranks.count)
    sessions = _sessions(folder, now, resume=resume)
    if resume and is_finished(folder, recipe):
        return folder
    # Until here every process has looked at what the first one now begins to write.
    ranks.wait()
    if ranks.first:
        _make_folder(folder)
        if not held.enter_context(locked(folder / _LOCK, wait=False, error=TrainingError)):
            raise TrainingError(_busy(folder))
        # Another run may have begun, and even ended, while this one read its data.
        _check_folder(folder, recipe, resume=resume)
        _open_folder(folder, recipe, sessions)
    ranks.wait()
    batches = _batches(recipe, objective, data, folder)
    trainer = Trainer(objective, batches, data, recipe.train, folder, ranks)
    if not (resume and trainer.resume()):
        with still("measuring the training images", on=ranks.first):
            trainer.begin(_statistics(trainer))
    trainer.run()
    epoch = trainer.use_selected()
    objective.eval()  # an objective may keep what it trains beside the model, see the teacher's text tower
    held_out = {"validation": data.validation, "test": data.test}
    scores = {name: trainer.predict(items) for name, items in held_out.items() if items}
    if ranks.first:
        write_predictions(folder, recipe, data, scores)
        results = {name: measure_part(recipe.data.images, held_out[name], values) for name, values in scores.items()}
        tag = recipe.metric.tag or run_tag(folder, recipe.metric.name)
        metadata = _metadata(recipe, tag, objective, sessions, data, results, epoch)
        _write_checkpoint(folder / CHECKPOINT, recipe, init, objective, metadata)
        write_curves(folder, trainer.progress.history)
        write_results(folder, metadata, sum(row["seconds"] for row in trainer.progress.history))
    ranks.wait()
    return folder


def _objective(objective_class: type[Objective], recipe: Recipe, init: dict[str, str]) -> Objective:
    try:
        return objective_class.from_recipe(recipe.metric.name, dict(recipe.model), init)
    except (RuntimeError, MemoryError, OverflowError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecipeError(f"[model]: no network can be made of it ({told}); change its sizes") from error


def _check_not_busy(folder: Path) -> None:
    """Refuse a folder in which a run is at work, before its half-written files are looked at."""
    if os.access(folder / _LOCK, os.W_OK):
        with locked(folder / _LOCK, wait=False, error=TrainingError) as free:
            if not free:
                raise TrainingError(_busy(folder))


def _busy(folder: Path) -> str:
    return f"{folder}: another run is at work in it; wait for its end, or give another --output"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be made ({error.strerror}); give another --output") from error


def _open_folder(folder: Path, recipe: Recipe, sessions: Sequence[dict[str, Any]]) -> None:
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
    done = (folder / RESULTS).is_file() and (folder / CHECKPOINT).is_file()
    if not done:
        return False
    before = read_recipe(folder / _RECIPE)
    return (before.output, before.metric) == (recipe.output, recipe.metric)


def _objective_class(name: str) -> type[Objective]:
    known = objectives()
    if name not in known:
        raise RecipeError(f"metric.name = {name!r} cannot be trained; choose one of {', '.join(known)}")
    objective: type[Objective] = named_class(known[name])
    return objective


def _check_folder(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Refuse to overwrite a run or a file, and to resume a run with another recipe."""
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


def _sessions(folder: Path, now: dict[str, Any], *, resume: bool) -> list[dict[str, Any]]:
    """Return the records of the run's sessions with this one; a run that has saved nothing yet begins with it."""
    before = earlier_sessions(folder) if resume and (folder / LAST).exists() else []
    if before:
        check_inputs(folder, before[0], now)
    return [*before, now]


def _fixed(tables: dict[str, Any]) -> dict[str, Any]:
    """Flatten a recipe to `table.key` names, without those that may change on resuming."""
    return {
        f"{table}.{key}": value
        for table, values in tables.items()
        for key, value in values.items()
        if key not in _FREE.get(table, ())
    }


def _batches(recipe: Recipe, objective: Objective, data: RunData, folder: Path) -> Batches:
    sizing = _sizing(recipe)
    source: CachedFeatures | ImageFiles
    if recipe.cache.enabled:
        parent = Path(recipe.cache.folder) if recipe.cache.folder else folder.resolve().parent / "cache"
        cache = FeatureCache(parent, objective, sizing, recipe.cache.dtype)
        cache.build(_needed_files(data, objective), recipe.train.workers)
        source = CachedFeatures(cache, crop=recipe.train.crop, levels=objective.frozen_levels)
    else:
        source = ImageFiles(sizing, crop=recipe.train.crop)
    return Batches(
        source,
        workers=recipe.train.workers,
        with_reference=objective.needs_reference,
        together=recipe.train.crops_together,
    )


def _needed_files(data: RunData, objective: Objective) -> list[Path]:
    if objective.needs_reference:
        return image_files(data.all_items)
    return list(dict.fromkeys(item.sample.image for item in data.all_items))


def _sizing(recipe: Recipe) -> Sizing:
    try:
        return Sizing(recipe.min_side, recipe.sizing.max_side or None, recipe.sizing.short_side or None)
    except ValueError as error:
        raise RecipeError(f"[sizing]: {error}") from error


def _statistics(trainer: Trainer) -> Statistics:
    """Measure opinion scores, and the levels of some training images chosen by their place in the CSV."""
    main = [item for item in trainer.data.train if item.source == 0]
    stride = -(-len(main) // _STATISTICS_IMAGES)
    sums: list[Tensor] = []
    trainer.objective.eval()
    with torch.no_grad():
        for _, batch in trainer.batches.whole(main[::stride], trainer.train.eval_batch_size):
            levels = trainer.objective.statistics_levels(trainer.prepare(batch).dist)
            found = [_moments(level) for level in levels]
            sums = [total + new for total, new in zip(sums, found, strict=True)] if sums else found
    means = [total[1] / total[0] for total in sums]
    deviations = [(total[2] / total[0] - mean**2).clamp(min=0).sqrt() for total, mean in zip(sums, means, strict=True)]
    mos = torch.tensor([item.sample.mos for item in main], dtype=torch.float64)
    return Statistics(
        mos_mean=float(mos.mean()),
        mos_std=float(mos.std(correction=0)),
        level_means=tuple(mean.float() for mean in means),
        level_stds=tuple(deviation.float() for deviation in deviations),
    )


def _moments(level: Tensor) -> Tensor:
    """Count, sum and sum of squares of each channel, (3, C)."""
    values = as_float64(level).transpose(0, 1).flatten(1)
    return torch.stack([torch.full_like(values[:, 0], values.shape[1]), values.sum(1), values.square().sum(1)])


def _metadata(
    recipe: Recipe,
    tag: str,
    objective: Objective,
    sessions: Sequence[dict[str, Any]],
    data: RunData,
    results: dict[str, Any],
    epoch: int,
) -> dict[str, Any]:
    """Return what the checkpoint says of itself, without the backbone it refers to."""
    return {
        "metric": recipe.metric.name,
        "tag": tag,
        "config": objective.config(),
        "sizing": _sizing(recipe).to_dict(),
        "training": {
            "data": [Path(images.title).name for images in recipe.images],
            "labels": recipe.data.images.label_kind,
            "images": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
            "split": {"by": recipe.split.by, "seed": recipe.split.seed},
            "selection": recipe.train.selection,
            "epoch": epoch + 1,
            "settings": recipe.to_dict()["train"],
            **checkpoint_record(sessions),
        },
        "licence": recipe.output.licence,
        "results": results,
        "sources": list(recipe.output.sources),
    }


def _write_checkpoint(
    path: Path, recipe: Recipe, init: dict[str, str], objective: Objective, metadata: dict[str, Any]
) -> None:
    tensors, base = _without_base(objective.model.state_dict(), init.get("backbone"))
    save_checkpoint(path, tensors, metadata | {"backbone": base}, dtype=_STORED_DTYPES[recipe.output.dtype])


def _without_base(state: dict[str, Tensor], backbone: str | None) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    """Leave out what a bundled backbone file, known by its SHA-256, holds already, number for number."""
    known = file_sha256(backbone, error=WeightsError) if backbone else ""
    entry = next((base for base in read_manifest().bases if base.sha256 == known), None)
    if entry is None:
        return state, None
    shared = {BACKBONE + key: tensor for key, tensor in load_file(WEIGHTS_FOLDER / entry.file).items()}
    kept = {
        key: tensor
        for key, tensor in state.items()
        if key not in shared or not torch.equal(shared[key].to(tensor.dtype), tensor.cpu())
    }
    if len(kept) == len(state):
        return state, None
    return kept, {"name": entry.name, "sha256": entry.sha256}


def _data_files(recipe: Recipe) -> list[str]:
    return [file for images in recipe.images for file in (images.csv, images.labels_file) if file]
