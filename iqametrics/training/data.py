"""Which images are trained on and which are held out, and which crop of which image stands in which step.

Order, crops and flips are digests of (seed, epoch, image, view): no random state is kept, so any step of any epoch can
be made again, on any machine and with any version of any library.
"""

import hashlib
import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS
from iqametrics.datasets.sample import Sample
from iqametrics.datasets.splits import near_duplicate_groups, split_groups
from iqametrics.errors import DataError
from iqametrics.pfd_iqa.prompts import DISTORTIONS as DISTORTION_CLASSES
from iqametrics.training.recipe import Recipe, SplitTable, TrainTable

_CLASS_OF_KIND = {kind.id: kind.liqe_class for kind in (*DISTORTIONS.values(), *EXTRA_DISTORTIONS.values())}
_CLASS_OF_NAME = {kind.name: kind.liqe_class for kind in (*DISTORTIONS.values(), *EXTRA_DISTORTIONS.values())}
_PARTS = {"train": 0, "training": 0, "val": 1, "validation": 1, "valid": 1, "test": 2}
_FEWEST = 3


@dataclass(frozen=True)
class Item:
    """One image of a run.

    Attributes:
        sample: the image and its score.
        source: number of its CSV, 0 for the main one.
        weight: how often it is drawn, relative to the main CSV's images.
        group: what it was kept together with by the split.
    """

    sample: Sample
    source: int = 0
    weight: float = 1.0
    group: str = ""

    @property
    def distortion_class(self) -> int:
        """Index into `DISTORTION_CLASSES`, -1 where unknown."""
        name = self.sample.liqe_class or self.sample.distortion
        if name not in DISTORTION_CLASSES:
            name = _CLASS_OF_NAME.get(name or "") or _CLASS_OF_KIND.get(self.sample.kind or 0)
        return DISTORTION_CLASSES.index(name) if name in DISTORTION_CLASSES else -1


@dataclass(frozen=True)
class RunData:
    """The three parts of a run; `test` may be empty, `validation` only if nothing is selected by it."""

    train: list[Item]
    validation: list[Item]
    test: list[Item]

    @property
    def all_items(self) -> list[Item]:
        """Every image, in a fixed order."""
        return [*self.train, *self.validation, *self.test]


@dataclass(frozen=True)
class View:
    """One training crop.

    Attributes:
        item: index into the training part.
        top: vertical position, in [0, 1) of the free room.
        left: horizontal position likewise.
        flip_h: whether it is mirrored left to right.
        flip_v: whether it is turned upside down.
    """

    item: int
    top: float
    left: float
    flip_h: bool
    flip_v: bool


def load_data(recipe: Recipe, *, needs_reference: bool) -> RunData:
    """Read the CSV files and deal the main one's images to the parts.

    Images of the further CSVs join the training part, unless they, or their references, are held out; files are told
    apart by their paths.

    Raises:
        DataError: no or unusable data; a part without images; scores that are all equal; references missing where the
            metric needs them.
    """
    table = recipe.data
    main = read_csv_dataset(table.csv, table.root or None, mos_range=table.mos_range)
    _check_learnable(main, table.csv, needs_reference=needs_reference)
    train, validation, test = split_samples(main, recipe.split)
    _check_parts(train, validation, test, recipe, table.csv)
    held = {path for item in (*validation, *test) for path in (item.sample.image, item.sample.reference) if path}
    held -= {item.sample.reference for item in train if item.sample.reference}
    for source, extra in enumerate(table.extra, start=1):
        samples = read_csv_dataset(extra.csv, extra.root or None, mos_range=extra.mos_range)
        _check_references(samples, extra.csv, needs_reference=needs_reference)
        train += [
            Item(sample, source, extra.weight) for sample in samples if not {sample.image, sample.reference} & held
        ]
    return RunData(train, validation, test)


def split_samples(samples: Sequence[Sample], split: SplitTable) -> tuple[list[Item], list[Item], list[Item]]:
    """Deal samples to training, validation and test part as the recipe's [split] says.

    Raises:
        DataError: what the split goes by is not in the data, or too few groups.
    """
    groups = [str(group) for group in _groups(samples, split)]
    items = [Item(sample, group=group) for sample, group in zip(samples, groups, strict=True)]
    if split.by == "column":
        numbers = [_PARTS[group] for group in groups]
        train, validation, test = ([item for item, n in zip(items, numbers, strict=True) if n == k] for k in range(3))
        return train, validation, test
    shares = [1 - split.validation - split.test, split.validation, split.test]
    dealt = iter(split_groups(groups, [share for share in shares if share], split.seed))
    train, validation, test = ([items[index] for index in next(dealt)] if share else [] for share in shares)
    return train, validation, test


def _groups(samples: Sequence[Sample], split: SplitTable) -> list[Hashable]:
    """What each sample is kept together with; for "column", the part itself."""
    if split.by == "near-duplicates":
        return list(near_duplicate_groups([sample.image for sample in samples]))
    if split.by == "image":
        return list(range(len(samples)))
    groups: list[Hashable] = []
    for sample in samples:
        group: Hashable | None
        if split.by == "reference":
            group = sample.group or (sample.reference.name if sample.reference else None)
        elif split.by == "distortion":
            group = sample.kind if sample.kind is not None else sample.distortion
        else:
            group = sample.split.lower() if sample.split and sample.split.lower() in _PARTS else None
        if group is None:
            raise DataError(
                f"{sample.image}: nothing to split by {split.by!r} in its row; fill the CSV in or change split.by"
            )
        groups.append(group)
    return groups


def _check_learnable(samples: Sequence[Sample], csv: str, *, needs_reference: bool) -> None:
    if len(samples) < _FEWEST:
        raise DataError(f"{csv}: {len(samples)} images are too few to train on; give at least {_FEWEST}")
    if len({sample.mos for sample in samples}) == 1:
        raise DataError(f"{csv}: all {len(samples)} scores are {samples[0].mos:g}; there is nothing to learn from them")
    _check_references(samples, csv, needs_reference=needs_reference)


def _check_references(samples: Sequence[Sample], csv: str, *, needs_reference: bool) -> None:
    if needs_reference and any(sample.reference is None for sample in samples):
        raise DataError(f"{csv}: the metric compares with references, but a row has none; fill the reference column")


def _check_parts(train: list[Item], validation: list[Item], test: list[Item], recipe: Recipe, csv: str) -> None:
    if not train:
        raise DataError(f"{csv}: no image is left to train on; change [split]")
    for name, part in (("validation", validation), ("test", test)):
        if 0 < len(part) < _FEWEST:
            raise DataError(f"{csv}: {len(part)} {name} images have no correlation; hold out more (split.{name})")
    if recipe.train.selection == "best-val" and not validation:
        raise DataError(
            f"{csv}: no validation images to choose an epoch by; hold some out or set train.selection = 'last'"
        )


def epoch_views(items: Sequence[Item], train: TrainTable, epoch: int) -> list[View]:
    """Give the crops of an epoch in their order.

    An image of weight w is drawn `views` times w an epoch; what is left of a whole number is drawn by chance.
    """
    drawn: list[tuple[bytes, View]] = []
    for index, item in enumerate(items):
        times = train.views * item.weight
        digest = hashlib.blake2b(f"{train.seed}/{epoch}/{index}/times".encode(), digest_size=8).digest()
        count = math.floor(times) + (_unit(digest) < times - math.floor(times))
        for view in range(count):
            digest = hashlib.blake2b(f"{train.seed}/{epoch}/{index}/{view}".encode(), digest_size=32).digest()
            flips = digest[24]
            drawn.append(
                (
                    digest[:8],
                    View(
                        item=index,
                        top=_unit(digest[8:16]),
                        left=_unit(digest[16:24]),
                        flip_h="h" in train.flips and bool(flips & 1),
                        flip_v="v" in train.flips and bool(flips & 2),
                    ),
                )
            )
    return [view for _, view in sorted(drawn, key=lambda pair: (pair[0], pair[1].item))]


def step_views(views: Sequence[View], batch_size: int) -> list[Sequence[View]]:
    """Cut an epoch into steps whose sizes differ by at most one.

    So no step is left with a handful of images, whose batch statistics or pairs would be worthless.
    """
    steps = -(-len(views) // batch_size)
    ends = [len(views) * k // steps for k in range(steps + 1)]
    return [views[start:end] for start, end in itertools.pairwise(ends)]


def image_files(items: Sequence[Item]) -> list[Path]:
    """Give every image and reference file once, in order."""
    files = (path for item in items for path in (item.sample.image, item.sample.reference) if path is not None)
    return list(dict.fromkeys(files))


def _unit(digest: bytes) -> float:
    """Eight bytes as a number in [0, 1), exact in a double."""
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
