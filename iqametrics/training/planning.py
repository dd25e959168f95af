"""What a run will do and cost, before anything is fetched or written.

Images are counted in the data or, where these are not at hand, by the numbers that the dataset's authors publish. The
model is built with random weights, whose sizes are those of the trained one.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from iqametrics.common.devices import find_device
from iqametrics.datasets.catalogue import dataset_spec
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.datasets.protocol import Shares, random_parts
from iqametrics.datasets.sample import Sample
from iqametrics.errors import RecipeError
from iqametrics.images import image_size, read_image
from iqametrics.methods import named_class, objectives
from iqametrics.metric import Sizing
from iqametrics.objective import Objective
from iqametrics.training.data import RunData, image_files, load_data
from iqametrics.training.recipe import Recipe
from iqametrics.training.recipes import is_path, is_recipe
from iqametrics.training.resume import averaged, learned_state, trainable
from iqametrics.training.starting import teacher_recipe
from iqametrics.training.step_cost import StepCost, measure_step

_SAMPLE = 8
_FLOAT = 4
_FEATURE_SIDE = 256
_OF_THE_WHOLE_RUN = ("epochs", "steps_per_epoch", "lr", "seed", "workers", "selection")


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much a run has to do.

    Attributes:
        images: Images of each part: "train", "validation", "test".
        published: Whether they are the dataset's published numbers, the data not being at hand.
        epochs: Passes, or runs of `train.steps_per_epoch`.
        crops: Crops of an epoch.
        steps_per_epoch: Steps of an epoch.
        steps: Steps in all.
        batch: Images of a step (with `views_together`, all crops of an image count as one).
        files: Image files, references included; None where the data are not at hand.
    """

    images: dict[str, int]
    published: bool
    epochs: int
    crops: int
    steps_per_epoch: int
    steps: int
    batch: int
    files: int | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What reading the images costs, from a sample of the files.

    Attributes:
        sampled: Files of the sample.
        seconds: Mean time of decoding and resizing one file, by one thread.
        hours_per_epoch: Time of an epoch's crops at that, divided among `train.workers` threads; none is cached.
        pixels: Bytes of all images after resizing, with 8 bits a channel.
        features: Bytes of the feature cache; None where it is off.
    """

    sampled: int
    seconds: float
    hours_per_epoch: float
    pixels: int
    features: int | None


@dataclass(frozen=True, kw_only=True)
class Size:
    """Bytes of a model in memory and on the disk, and its numbers of parameters.

    Attributes:
        trained: Parameters that are trained.
        frozen: Parameters that are not; a teacher's count here.
        weights: Bytes of all parameters and buffers.
        gradients: Bytes of their gradients.
        optimiser: Bytes of AdamW's two moments.
        average: Bytes of the moving average of the weights.
        state: Bytes of `last.safetensors`.
        best: Bytes of `best.safetensors`; 0 where the last epoch is kept.
        checkpoint: Bytes of `checkpoint.safetensors`, with the backbone.
    """

    trained: int
    frozen: int
    weights: int
    gradients: int
    optimiser: int
    average: int
    state: int
    best: int
    checkpoint: int

    @property
    def disk(self) -> int:
        """The most that the run's folder takes: a new state is written before the old one goes."""
        return 2 * self.state + self.best + self.checkpoint


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of one run, without its teacher's, which has a plan of its own.

    Attributes:
        metric: What is trained.
        work: How much there is to do.
        size: Sizes of model, optimiser and files.
        reading: Cost of the images; None where the data are not at hand.
        step: Cost of a step; None where it was not measured.
        selection: Rule that chooses the epoch.
    """

    metric: str
    work: Work
    size: Size
    reading: Reading | None
    step: StepCost | None
    selection: str

    @property
    def memory(self) -> int | None:
        """Bytes of a step: weights, gradients, optimiser, average, activations; None where it was not measured."""
        if self.step is None:
            return None
        size = self.size
        return size.weights + size.gradients + size.optimiser + size.average + self.step.activations

    @property
    def hours(self) -> float | None:
        """Hours of the steps: of computing, or of reading where that is slower; None where it was not measured."""
        if self.step is None:
            return None
        reading = self.reading.hours_per_epoch * self.work.epochs if self.reading and not self.reading.features else 0.0
        return max(self.work.steps * self.step.seconds / 3600, reading)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields with what follows from them, ready for JSON."""
        return {**asdict(self), "memory": self.memory, "disk": self.size.disk, "hours": self.hours}


def plan_run(
    recipe: Recipe, *, published: bool = False, measure: bool = True, measured: dict[str, StepCost] | None = None
) -> list[Plan]:
    """Plan a run and, before it, that of the teacher that it trains first.

    Args:
        recipe: The recipe.
        published: Whether the data are not at hand, so that the published numbers of its dataset are taken.
        measure: Whether steps of noise are taken on the recipe's device.
        measured: What was measured before, by model and batch, which need not be measured again; it is added to.

    Raises:
        RecipeError: If the recipe has an impossible value.
        DataError: If data are missing or cannot be trained on.
    """
    device = find_device(recipe.train.device, error=RecipeError, what="train.device")
    plans = []
    costs = {} if measured is None else measured
    teacher: Objective | None = None
    if is_recipe(recipe.init.get("teacher", "")):
        first = teacher_recipe(recipe, Path())
        teacher = blank_objective(first)
        plans.append(_plan(first, teacher, device, costs, published=published, measure=measure))
    objective = blank_objective(recipe, teacher)
    plans.append(_plan(recipe, objective, device, costs, published=published, measure=measure))
    return plans


def blank_objective(recipe: Recipe, teacher: Objective | None = None) -> Objective:
    """Build a recipe's objective with random weights; nothing is fetched.

    Raises:
        RecipeError: If its metric cannot be trained, or a value is impossible.
    """
    known = objectives()
    if recipe.metric.name not in known:
        raise RecipeError(f"metric.name = {recipe.metric.name!r} cannot be trained; choose one of {', '.join(known)}")
    init = {key: value for key, value in recipe.init.items() if is_path(value) and Path(value).is_file()}
    init = {key: value for key, value in init.items() if not is_recipe(value)}
    objective: Objective = named_class(known[recipe.metric.name]).blank(
        recipe.metric.name, dict(recipe.model), init, teacher
    )
    return objective


def _plan(
    recipe: Recipe,
    objective: Objective,
    device: torch.device,
    costs: dict[str, StepCost],
    *,
    published: bool,
    measure: bool,
) -> Plan:
    data = None if published else load_data(_quick(recipe))
    work = published_work(recipe) if data is None else _work(recipe, data, objective)
    key = _step_key(recipe)
    if measure and key not in costs:
        objective.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        costs[key] = measure_step(objective, recipe.train, device, cached=recipe.cache.enabled)
    return Plan(
        metric=recipe.metric.name,
        work=work,
        size=model_size(recipe, objective),
        reading=None if data is None else _reading(recipe, data, objective, work),
        step=costs.get(key) if measure else None,
        selection=recipe.train.selection,
    )


def _step_key(recipe: Recipe) -> str:
    """Return all that a step's cost depends on, and none of the data."""
    train = {name: value for name, value in asdict(recipe.train).items() if name not in _OF_THE_WHOLE_RUN}
    return json.dumps([recipe.metric.name, recipe.model, recipe.teacher, train, recipe.cache.enabled], sort_keys=True)


def _quick(recipe: Recipe) -> Recipe:
    """Count parts by image where near-duplicates would be looked for, which reads every image."""
    if recipe.split.by != "near-duplicates":
        return recipe
    return replace(recipe, split=replace(recipe.split, by="image"))


def published_work(recipe: Recipe) -> Work:
    """Count by the published numbers of the recipe's dataset.

    Raises:
        RecipeError: If its images are no dataset's, so that there is no such number.
    """
    for table in recipe.images:
        if not table.dataset:
            raise RecipeError(f"{table.title}: is no dataset with published numbers; the plan needs the file")
    parts = _published_parts(recipe, recipe.data.images)
    images = float(parts["train"])
    for extra in recipe.data.extra:
        count = dataset_spec(extra.dataset).images
        parts["train"] += count
        images += count * extra.weight
    return _counted(recipe, parts, images, files=None)


def _published_parts(recipe: Recipe, table: LabelledImages) -> dict[str, int]:
    spec, split = dataset_spec(table.dataset), recipe.split
    if split.by == "official":
        if spec.official_parts is None:
            raise RecipeError(f"split.by = 'official': {spec.name} has no split of its own; take another")
        counts = {"train": 0, "validation": 0, "test": 0, **spec.official_parts}
        if not spec.official_parts.get("validation"):
            counts["validation"] = round(split.validation * counts["train"])
            counts["train"] -= counts["validation"]
        return counts
    # Whole references go to a part, each with as many images as the others.
    together = spec.images / spec.references if split.by == "reference" and spec.references else 1
    stand_ins = [Sample(Path(str(i)), None, 0.0, group=str(int(i / together))) for i in range(spec.images)]
    shares = Shares(1 - split.validation - split.test, split.validation, split.test)
    parts = random_parts(stand_ins, seed=split.seed, shares=shares)
    return {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}


def _work(recipe: Recipe, data: RunData, objective: Objective) -> Work:
    parts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    images = sum(item.weight for item in data.train)
    return _counted(recipe, parts, images, files=len(_files(data, objective)))


def _counted(recipe: Recipe, parts: dict[str, int], images: float, *, files: int | None) -> Work:
    """Count crops and steps.

    Args:
        recipe: The recipe.
        parts: Images of each part.
        images: Images of the training part, each as often as its weight says.
        files: Image files, where that is known.
    """
    train = recipe.train
    crops = round(images * train.views)
    batch = train.batch_size * train.crops_together
    steps = train.steps_per_epoch or -(-crops // batch)
    crops = steps * batch if train.steps_per_epoch else crops
    return Work(
        images=parts,
        published=files is None,
        epochs=train.epochs,
        crops=crops,
        steps_per_epoch=steps,
        steps=steps * train.epochs,
        batch=train.batch_size,
        files=files,
    )


def _files(data: RunData, objective: Objective) -> list[Path]:
    if objective.needs_reference:
        return image_files(data.all_items)
    return list(dict.fromkeys(item.sample.image for item in data.all_items))


def _reading(recipe: Recipe, data: RunData, objective: Objective, work: Work) -> Reading:
    """Decode a sample of the files, spread over the list."""
    files = _files(data, objective)
    sample = files[:: -(-len(files) // _SAMPLE)]
    sizing = Sizing(recipe.min_side, recipe.sizing.max_side or None, recipe.sizing.short_side or None)
    start = time.perf_counter()
    for path in sample:
        sizing.apply(read_image(path)[None])
    seconds = (time.perf_counter() - start) / len(sample)
    sides = [sizing.fit(*image_size(path)) for path in sample]
    pixels = sum(height * width for height, width in sides) / len(sample) * len(files)
    decoded = work.crops * (2 if objective.needs_reference else 1)
    return Reading(
        sampled=len(sample),
        seconds=seconds,
        hours_per_epoch=decoded * seconds / max(recipe.train.workers, 1) / 3600,
        pixels=round(3 * pixels),
        features=round(_feature_bytes(recipe, objective) * pixels) if recipe.cache.enabled else None,
    )


def _feature_bytes(recipe: Recipe, objective: Objective) -> float:
    """Return the bytes of the feature cache for one pixel."""
    device = next((tensor.device for tensor in objective.trunk_tensors().values()), torch.device("cpu"))
    maps = objective.eval().trunk(torch.rand(1, 3, _FEATURE_SIDE, _FEATURE_SIDE, device=device))
    chosen = objective.needed_levels or range(1, len(maps) + 1)
    width = 2 if recipe.cache.dtype == "float16" else _FLOAT
    return sum(maps[number - 1].numel() for number in chosen) * width / _FEATURE_SIDE**2


def model_size(recipe: Recipe, objective: Objective) -> Size:
    """Return the sizes of a model, its optimiser and its files."""
    state = objective.state_dict().values()
    parameters = list(objective.parameters())
    trained = sum(parameter.numel() for parameter in trainable(objective).values())
    learned = sum(tensor.nbytes for tensor in learned_state(objective).values())
    moments = 2 * trained * _FLOAT
    average = sum(tensor.nbytes for tensor in averaged(objective).values()) if recipe.train.ema else 0
    stored = sum(tensor.numel() for tensor in objective.model.state_dict().values())
    return Size(
        trained=trained,
        frozen=sum(parameter.numel() for parameter in parameters) - trained,
        weights=sum(tensor.nbytes for tensor in state),
        gradients=trained * _FLOAT,
        optimiser=moments,
        average=average,
        state=learned + moments + average,
        best=0 if recipe.train.selection == "last" else learned,
        checkpoint=stored * (2 if recipe.output.dtype == "float16" else _FLOAT),
    )
