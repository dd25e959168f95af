"""A training run as one frozen record, read from a TOML file.

The file opens with a comment that names paper, data, cost, expected result and the exact command. Its tables are the
classes below; `[model]` holds the fields of the method's config, `[init]` the files that training starts from, and
`[teacher]` changes to the recipe of a teacher that is trained first. `recipes.py` finds and reads the files.
Relative paths start from the recipe's own folder, also those given with `--set` (of a recipe given by name, from the
working folder).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from iqametrics.common.fields import read_fields
from iqametrics.common.suggest import did_you_mean
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.errors import RecipeError
from iqametrics.nn.levels import CELL
from iqametrics.training.bounds import check_bounds
from iqametrics.training.recipes import apply_overrides, find_recipe, is_recipe, locate, read_tables

_INIT_PATHS = ("backbone", "anchors", "teacher", "checkpoint")
_Table = TypeVar("_Table")


@dataclass(frozen=True, kw_only=True)
class MetricTable:
    """Which metric is trained: `name` as registered (or "pfd-teacher"), the checkpoint's `tag` ("": the run's name)."""

    name: str
    tag: str = ""


@dataclass(frozen=True, kw_only=True)
class ImagesTable:
    """Images and their scores: a CSV file, or one of the datasets that the package knows.

    Attributes:
        csv: CSV file with the columns `image,mos[,reference,kind,level,distortion,split,group,mos_std]`.
        dataset: Name of a dataset, see `iqametrics datasets list`.
        root: Folder that the CSV's names start from, its own folder if empty; with `dataset` the dataset's folder.
        mos_range: (worst, best) of the scores, mapped onto (0, 1); None for scores that lie in [0, 1].
        labels_file: File with distortion and scenes of the images, see `iqametrics.datasets.image_labels`; empty for
            what the dataset has.
    """

    csv: str = ""
    dataset: str = ""
    root: str = ""
    mos_range: tuple[float, float] | None = None
    labels_file: str = ""

    @property
    def images(self) -> LabelledImages:
        """The images that the table names."""
        named = (f.name for f in dataclasses.fields(ImagesTable))
        return LabelledImages(**{name: getattr(self, name) for name in named})


@dataclass(frozen=True, kw_only=True)
class ExtraData(ImagesTable):
    """Further images that join the training part, never the held-out ones.

    Attributes:
        weight: How often its images are drawn, relative to the main CSV's; 0.5 draws each every second epoch.
        ranked: Whether these are versions of images that nobody has scored. `mos` is then a rank, which is compared
            within a `group`, and there among images of one `distortion` and with those of none.
    """

    weight: float = 1.0
    ranked: bool = False


@dataclass(frozen=True, kw_only=True)
class DataTable(ImagesTable):
    """The main images, which are split into training, validation and test parts.

    Attributes:
        extra: Further images, `[[data.extra]]`.
    """

    extra: tuple[ExtraData, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """Which images are held out.

    Attributes:
        validation: Share of the validation part, in [0, 1).
        test: Share of a test part that no decision sees, in [0, 1).
        by: Which images are never separated: near-duplicates, all versions of one reference, all images of one
            distortion type, or none ("image"); or whose split is taken: that of the CSV's `split` column (train,
            validation, test), or the dataset's own ("official"; where it has no validation part, `validation` is taken
            from its training part).
        seed: Seed of the random split.
        withhold_test: Whether the test part is neither trained on nor scored, so that no decision can see it.
    """

    validation: float = 0.1
    test: float = 0.0
    by: Literal["near-duplicates", "reference", "distortion", "image", "column", "official"] = "near-duplicates"
    seed: int = 0
    withhold_test: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainTable:
    """How the model is trained.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Crops a step, or images with `views_together`; batches of an epoch differ by at most one in size.
        steps_per_epoch: Steps of an epoch, from as many passes over the training part as they need, or a part of one;
            0 for one pass.
        lr: Peak learning rate of the head.
        backbone_lr: Peak learning rate of the backbone's trainable stages; none takes `lr`.
        weight_decay: Weight decay of AdamW, on matrices and kernels only.
        optimizer: "adamw".
        schedule: "cosine" (linear warm-up, then cosine to 0), "one-cycle" (cosine up from lr/25, cosine down to
            nearly 0), "cosine-annealing" (the closed form of PyTorch's CosineAnnealingLR, an epoch at a time, which
            climbs again after `t_max`), "step" (times `step_factor` every `step_epochs`) or "constant".
        warmup: Share of the steps in which the learning rate rises ("cosine", "one-cycle").
        warmup_epochs: Epochs of "step" in which the learning rate rises, an epoch at a time, before its drops.
        warmup_start: Factor of the learning rate in the first of them.
        t_max: Half period of "cosine-annealing" in epochs.
        step_epochs: Epochs between drops of "step".
        step_factor: Factor of one drop.
        crop: Side of the training crops in pixels; a multiple of 32 where features are cached.
        views: Crops of each image an epoch.
        views_together: Whether the crops of an image follow one another in one step, so that an objective that can
            may judge the image by all of them.
        flips: Any of "h", "v": flips with probability one half.
        grad_clip: Largest gradient norm; 0 for no clipping.
        ema: Decay of the moving average of the weights that is validated and kept; 0 for none.
        selection: Which epoch is kept: the "last", the one with the best validation SRCC, or the one with the best
            test SRCC, as some published code does, which makes the test result too good.
        seed: Seed of initial weights, order, crops and whatever the loss draws.
        validate_every: Epochs between validations (the last epoch is always validated).
        save_every: Steps between saved states inside an epoch; 0 saves at the end of epochs only.
        eval_batch_size: Whole images at a time in validation.
        amp: Precision of the forward pass: "none" (float32), "bfloat16", or "float16" with a loss scaler.
        accumulate: Number of parts of a batch, one forward and backward pass each, to save memory.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda" or "mps".
        workers: Threads that prepare batches.
    """

    epochs: int = 10
    batch_size: int = 32
    steps_per_epoch: int = 0
    lr: float = 1e-3
    backbone_lr: float | None = None
    weight_decay: float = 1e-5
    optimizer: Literal["adamw"] = "adamw"
    schedule: Literal["cosine", "one-cycle", "cosine-annealing", "step", "constant"] = "cosine"
    warmup: float = 0.05
    warmup_epochs: int = 0
    warmup_start: float = 1e-3
    t_max: int = 50
    step_epochs: int = 3
    step_factor: float = 0.1
    crop: int = 384
    views: int = 1
    views_together: bool = False
    flips: tuple[Literal["h", "v"], ...] = ("h",)
    grad_clip: float = 0.0
    ema: float = 0.0
    selection: Literal["last", "best-val", "best-test"] = "best-val"
    seed: int = 0
    validate_every: int = 1
    save_every: int = 200
    eval_batch_size: int = 8
    amp: Literal["none", "bfloat16", "float16"] = "none"
    accumulate: int = 1
    device: str = "auto"
    workers: int = 2

    @property
    def crops_together(self) -> int:
        """How many crops stand one after the other in each step."""
        return self.views if self.views_together else 1


@dataclass(frozen=True, kw_only=True)
class SizingTable:
    """The resizing of every image before anything else, in training and in the finished metric alike.

    Attributes:
        min_side: Images with a shorter side below this are scaled up to it; 0 for the side of the training crops.
        max_side: Images with a longer side above this are scaled down to it; 0 for no limit.
        short_side: Every image is scaled so that its shorter side has this length, before the other two; 0 for none.
    """

    min_side: int = 0
    max_side: int = 0
    short_side: int = 0


@dataclass(frozen=True, kw_only=True)
class CacheTable:
    """The cache of the features of the frozen levels.

    Attributes:
        enabled: Whether they are computed once and then read, instead of at each step.
        dtype: "float16" or "float32" on the disk.
        folder: Parent of the caches; empty for `cache` beside the run's folder.
    """

    enabled: bool = False
    dtype: Literal["float16", "float32"] = "float16"
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputTable:
    """Metadata and format of the checkpoint.

    Attributes:
        licence: Terms of the weights.
        sources: Data and starting weights, one line each.
        dtype: "float32" or "float16" in the file.
    """

    licence: str = ""
    sources: tuple[str, ...] = ()
    dtype: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training run; each table has a class of its own.

    `model` holds fields of the method's config. `init` holds the files that training starts from, by their purpose:
    each a path, the name of a bundled file or of a starting weight, or, for "teacher", the path of a recipe. `teacher`
    holds changes of that recipe.
    """

    metric: MetricTable
    data: DataTable = DataTable()
    model: dict[str, Any] = field(default_factory=dict)
    init: dict[str, str] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    split: SplitTable = SplitTable()
    train: TrainTable = TrainTable()
    sizing: SizingTable = SizingTable()
    cache: CacheTable = CacheTable()
    output: OutputTable = OutputTable()

    @property
    def images(self) -> list[LabelledImages]:
        """The main images and the further ones."""
        return [self.data.images, *(extra.images for extra in self.data.extra)]

    @property
    def min_side(self) -> int:
        """Least length of an image's shorter side."""
        return self.sizing.min_side or self.train.crop

    def to_dict(self) -> dict[str, Any]:
        """Return plain tables, without the values that are None."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}


def read_recipe(name: str | Path, overrides: Sequence[str] = (), data: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name: The path of a TOML file, or the name of a recipe of the package (see `find_recipe`).
        overrides: Changes of the form `table.key=value` (or deeper), the value in TOML or, where that fails, a string.
            Relative paths start from the recipe's folder, or for a recipe given by name from the working folder.
        data: Replacement of the recipe's table [data], with absolute paths; None keeps it.

    Raises:
        RecipeError: If there is no such file, it is not TOML, a table or key is unknown, or a value is of the wrong
            type or out of range.
    """
    path = find_recipe(name)
    base = path.resolve().parent if path == Path(name) else Path.cwd()
    tables = read_tables(path)
    if data is not None:
        tables["data"] = dict(data)
    return parse_recipe(apply_overrides(tables, overrides), base)


def parse_recipe(tables: Mapping[str, Any], base: Path) -> Recipe:
    """Build a recipe from tables; relative paths are made absolute from `base`.

    Raises:
        RecipeError: If a table or key is unknown, or a value is of the wrong type or out of range.
    """
    recipe = read_fields(Recipe, locate(tables, base), "recipe", error=RecipeError, top=True)
    _check(recipe)
    return recipe


def to_toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Write nested tables of numbers, strings, booleans and lists as TOML."""
    lines, below = [], []
    for key, value in tables.items():
        if isinstance(value, Mapping):
            below.append(f"\n[{prefix}{key}]\n" + to_toml(value, f"{prefix}{key}."))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            below += [f"\n[[{prefix}{key}]]\n" + to_toml(item, f"{prefix}{key}.") for item in value]
        else:
            # JSON's strings, numbers, booleans and flat lists are TOML's too.
            lines.append(f"{key} = {json.dumps(value)}\n")
    return "".join(lines + below)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check_tag(tag: str) -> None:
    """Refuse a tag that the checkpoint's metadata could not hold, before anything is trained."""
    if not tag.isprintable() or "/" in tag or len(tag) > 100:
        raise RecipeError(f"metric.tag = {tag[:100]!r} is no name; give a word such as 'mine'")


def _check(recipe: Recipe) -> None:
    train, split = recipe.train, recipe.split
    _check_data(recipe.data)
    _check_init(recipe)
    _check_tag(recipe.metric.tag)
    check_bounds(recipe)
    for name in (
        "epochs",
        "batch_size",
        "crop",
        "views",
        "validate_every",
        "eval_batch_size",
        "t_max",
        "step_epochs",
        "accumulate",
    ):
        _require(getattr(train, name) >= 1, f"train.{name}", getattr(train, name), "give a whole number from 1 up")
    for name in ("weight_decay", "grad_clip", "save_every", "workers", "steps_per_epoch", "warmup_epochs"):
        _require(getattr(train, name) >= 0, f"train.{name}", getattr(train, name), "give 0 or more")
    for name in ("lr", "step_factor"):
        _require(getattr(train, name) > 0, f"train.{name}", getattr(train, name), "give a number above 0")
    for name in ("ema", "warmup", "warmup_start"):
        _require(0 <= getattr(train, name) < 1, f"train.{name}", getattr(train, name), "give 0 or more, below 1")
    for name in ("validation", "test"):
        _require(0 <= getattr(split, name) < 1, f"split.{name}", getattr(split, name), "give 0 or more, below 1")
    held_out = split.validation + split.test
    _require(held_out < 1, "split.validation + split.test", f"{held_out:g}", "their sum must be below 1")
    if split.by not in ("column", "official") and not split.validation and train.selection == "best-val":
        raise RecipeError("split.validation = 0 leaves no image to choose by; give a share or train.selection = 'last'")
    for number, extra in enumerate(recipe.data.extra):
        _require(extra.weight > 0, f"data.extra[{number}].weight", extra.weight, "give a number above 0")
    for side in ("min_side", "max_side", "short_side"):
        value = getattr(recipe.sizing, side)
        _require(value >= 0, f"sizing.{side}", value, "give 0 or more")
    _require(recipe.min_side >= train.crop, "sizing.min_side", recipe.min_side, "it must not be less than train.crop")
    if recipe.cache.enabled:
        _require(train.crop % CELL == 0, "train.crop", train.crop, f"cached crops are multiples of {CELL}")


def _check_data(data: DataTable) -> None:
    """Check that each table names a CSV or a dataset, and not both."""
    tables: dict[str, ImagesTable] = {"data": data}
    tables |= {f"data.extra[{number}]": extra for number, extra in enumerate(data.extra)}
    for where, table in tables.items():
        if not (table.csv or table.dataset):
            raise RecipeError(
                f"{where} names no images; give --csv FILE, or --dataset NAME --root DIR (in a recipe {where}.csv, or "
                f"{where}.dataset and {where}.root)"
            )
        if table.csv and table.dataset:
            raise RecipeError(f"{where}.csv and {where}.dataset are both given; leave one out")
        if table.dataset and not table.root:
            raise RecipeError(f"{where}.root is missing: give --root DIR, the folder that {table.dataset} is in")
        if table.dataset and table.mos_range is not None:
            raise RecipeError(f"{where}.mos_range: is for a CSV, the range of {table.dataset} is known; leave it out")


def _check_init(recipe: Recipe) -> None:
    for key in recipe.init:
        if key not in _INIT_PATHS:
            hint = did_you_mean(key, _INIT_PATHS) or f"known are {', '.join(_INIT_PATHS)}"
            raise RecipeError(f"init: unknown key {key!r}; {hint}")
    if recipe.teacher and not is_recipe(recipe.init.get("teacher", "")):
        raise RecipeError("[teacher] changes a teacher's recipe, but init.teacher names none; leave the table out")
    own = recipe.teacher.get("data")
    if "split" in recipe.teacher and not (isinstance(own, Mapping) and {"csv", "dataset"} & own.keys()):
        raise RecipeError(
            "teacher.split: the teacher's images are split like the student's, or it would be trained on what the "
            "student is tested on; leave it out"
        )


def _require(holds: bool, name: str, value: Any, remedy: str) -> None:
    if not holds:
        raise RecipeError(f"{name} = {value}: {remedy}")
