"""One training run from recipe to checkpoint.

RUN/recipe.toml              the recipe as it was understood, with absolute paths
RUN/run.lock                 held while a run is at work in the folder
RUN/environment.json         versions, hardware, commit, digests of the input files, for each session
RUN/history.csv              one row an epoch
RUN/tensorboard/             the same for TensorBoard, where tensorboardX or tensorboard is installed
RUN/curves.png               the same as a picture, where matplotlib is installed
RUN/last.safetensors         state to resume from, until the run is done
RUN/best.safetensors         weights of the best epoch by validation SRCC (or the test part's, if so selected), likewise
RUN/predictions.csv          scores of the held-out images by the shipped weights
RUN/results.json             the figures, and the rule that chose the epoch
RUN/checkpoint.safetensors   the result, which describes itself
"""

import contextlib
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqametrics.common.devices import as_float64, defaults_of_torch
from iqametrics.common.interrupts import Stopped
from iqametrics.common.locks import locked
from iqametrics.errors import RecipeError, TrainingError
from iqametrics.methods import named_class, objectives
from iqametrics.metric import Sizing
from iqametrics.naming import run_tag
from iqametrics.objective import Objective, Statistics
from iqametrics.training.batches import Batches, CachedFeatures, CropSource, ImageFiles
from iqametrics.training.cache import FeatureCache
from iqametrics.training.checks import check_ranked, check_references
from iqametrics.training.curves import write_curves
from iqametrics.training.data import RunData, RunImage, image_files, load_data
from iqametrics.training.distributed import Ranks, joined
from iqametrics.training.environment import (
    check_inputs,
    checkpoint_record,
    earlier_sessions,
    this_session,
)
from iqametrics.training.folder import (
    LAST,
    LOCK,
    bundled_base,
    busy,
    check_folder,
    check_not_busy,
    describe_again,
    has_results,
    is_finished,
    make_folder,
    open_folder,
    remove_states,
    save_without_base,
)
from iqametrics.training.loop import Trainer
from iqametrics.training.pictures import PictureCache, StoredPictures
from iqametrics.training.precision import check_compiler, device_settings
from iqametrics.training.recipe import Recipe, read_recipe
from iqametrics.training.results import measure_part, write_predictions, write_results
from iqametrics.training.starting import CHECKPOINT, starting_files
from iqametrics.training.telling import still

_MOST_VIEWS = 2 * 10**7
_STATISTICS_IMAGES = 128


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
        with (
            defaults_of_torch(),
            joined(recipe.train.device) as ranks,
            device_settings(recipe.train),
            contextlib.ExitStack() as held,
        ):
            return _train(recipe, Path(output), ranks, held, resume=resume)
    except KeyboardInterrupt as interrupt:
        told = str(interrupt) or "stopped; go on with the same command and --resume"
        raise Stopped(told, getattr(interrupt, "number", signal.SIGINT)) from None


def _train(recipe: Recipe, folder: Path, ranks: Ranks, held: contextlib.ExitStack, *, resume: bool) -> Path:
    """Train; `held` keeps the lock of the folder until the run ends."""
    objective_class = _objective_class(recipe.metric.name)
    if ranks.first:
        check_not_busy(folder)
    check_folder(folder, recipe, resume=resume)
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
    if recipe.train.channels_last:
        objective.to(memory_format=torch.channels_last)
    if recipe.train.checkpointing:
        objective.checkpoint_activations()
    check_compiler(recipe.train.compile, ranks.device)
    check_ranked(recipe, learns_order=objective.learns_order)
    if objective.needs_reference:
        with still("comparing the sizes of images and references", on=ranks.first):
            check_references(recipe, data)
    now = this_session([*_data_files(recipe), *init.values()], data.digests, processes=ranks.count)
    sessions = _sessions(folder, now, resume=resume)
    if resume and _done_before(folder, recipe, ranks):
        return folder
    # Until here every process has looked at what the first one now begins to write.
    ranks.wait()
    if ranks.first:
        make_folder(folder)
        if not held.enter_context(locked(folder / LOCK, wait=False, error=TrainingError)):
            raise TrainingError(busy(folder))
        # Another run may have begun, and even ended, while this one read its data.
        check_folder(folder, recipe, resume=resume)
        open_folder(folder, recipe, sessions)
    ranks.wait()
    batches = _batches(recipe, objective, data, folder, pin=ranks.device.type == "cuda")
    trainer = Trainer(objective, batches, data, recipe.train, folder, ranks)
    if not (resume and trainer.resume()):
        with still("measuring the training images", on=ranks.first):
            trainer.begin(_statistics(trainer))
    trainer.run()
    _finish(recipe, folder, trainer, init, sessions)
    ranks.wait()
    return folder


def _finish(
    recipe: Recipe, folder: Path, trainer: Trainer, init: dict[str, str], sessions: Sequence[dict[str, Any]]
) -> None:
    """Measure the selected weights on the held-out parts, and write what the run leaves."""
    objective, data = trainer.objective, trainer.data
    epoch = trainer.use_selected()
    objective.eval()  # an objective may keep what it trains beside the model, see the teacher's text tower
    held_out = {"validation": data.validation, "test": data.test}
    # As the shipped metric reads them: decoded anew, and not from 8 bits.
    pictures = isinstance(trainer.batches.source, StoredPictures)
    exact = _reading(recipe, objective, ImageFiles(_sizing(recipe), crop=1)) if pictures else trainer.batches
    scores = {name: trainer.predict(items, exact) for name, items in held_out.items() if items}
    if trainer.ranks.first:
        write_predictions(folder, recipe, data, scores)
        results = {name: measure_part(recipe.data.images, held_out[name], values) for name, values in scores.items()}
        tag = recipe.metric.tag or run_tag(folder, recipe.metric.name)
        metadata = _metadata(recipe, tag, objective, sessions, data, results, epoch)
        metadata["backbone"] = bundled_base(init.get("backbone"))
        save_without_base(folder / CHECKPOINT, objective.model.state_dict(), metadata, dtype=recipe.output.dtype)
        write_curves(folder, trainer.progress.history)
        write_results(folder, metadata, sum(row["seconds"] for row in trainer.progress.history))
        if not recipe.train.keep_state:
            remove_states(folder)


def _done_before(folder: Path, recipe: Recipe, ranks: Ranks) -> bool:
    """Tell whether a run is done, and needs no more than another description."""
    if not has_results(folder):
        return False
    if is_finished(folder, recipe):
        # A run that was killed between its results and the end still has its states.
        if ranks.first and not recipe.train.keep_state:
            remove_states(folder)
        return True
    if (folder / LAST).exists():
        return False
    if ranks.first:
        describe_again(folder, recipe)
    return True


def _objective(objective_class: type[Objective], recipe: Recipe, init: dict[str, str]) -> Objective:
    try:
        return objective_class.from_recipe(recipe.metric.name, dict(recipe.model), init)
    except (RuntimeError, MemoryError, OverflowError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecipeError(f"[model]: no network can be made of it ({told}); change its sizes") from error


def _objective_class(name: str) -> type[Objective]:
    known = objectives()
    if name not in known:
        raise RecipeError(f"metric.name = {name!r} cannot be trained; choose one of {', '.join(known)}")
    objective: type[Objective] = named_class(known[name])
    return objective


def _sessions(folder: Path, now: dict[str, Any], *, resume: bool) -> list[dict[str, Any]]:
    """Return the records of the run's sessions with this one; a run that has saved nothing yet begins with it."""
    before = earlier_sessions(folder) if resume and (folder / LAST).exists() else []
    if before:
        check_inputs(folder, before[0], now)
    return [*before, now]


def _batches(recipe: Recipe, objective: Objective, data: RunData, folder: Path, *, pin: bool = False) -> Batches:
    """Make the source of a run's batches: from cached features, from cached pictures, or from the files each time."""
    sizing, crop = _sizing(recipe), recipe.train.crop
    parent = Path(recipe.cache.folder) if recipe.cache.folder else folder.resolve().parent / "cache"
    source: CropSource = ImageFiles(sizing, crop=crop)
    if recipe.cache.enabled:
        cache = FeatureCache(parent, objective, sizing, recipe.cache.dtype)
        cache.build(_needed_files(data.all_items, objective), recipe.train.threads)
        source = CachedFeatures(cache, crop=crop, levels=objective.frozen_levels)
    elif recipe.cache.images:
        pictures = PictureCache(parent, sizing, gigabytes=recipe.cache.images_gb)
        watched = data.test if recipe.train.selection == "best-test" else []
        pictures.build(_needed_files([*data.train, *data.validation, *watched], objective), recipe.train.threads)
        source = StoredPictures(pictures, crop=crop)
    return _reading(recipe, objective, source, pin=pin)


def _reading(recipe: Recipe, objective: Objective, source: CropSource, *, pin: bool = False) -> Batches:
    return Batches(
        source,
        workers=recipe.train.threads,
        with_reference=objective.needs_reference,
        together=recipe.train.crops_together,
        pin=pin,
    )


def _needed_files(items: Sequence[RunImage], objective: Objective) -> list[Path]:
    if objective.needs_reference:
        return image_files(items)
    return list(dict.fromkeys(item.sample.image for item in items))


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


def _data_files(recipe: Recipe) -> list[str]:
    return [file for images in recipe.images for file in (images.csv, images.labels_file) if file]
