"""Which images are trained on and which are held out, and which crop of which image comes in which step.

Order, crops and flips are digests of (seed, epoch, image, view): no random state is kept, so any step of any epoch can
be repeated, on any machine and with any version of any library.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS
from iqametrics.datasets.image_labels import CLASS_OF_NAME, SCENES
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.datasets.protocol import Parts, Shares, group_keys, official_parts, random_parts
from iqametrics.datasets.sample import LIQE_CLASSES, Sample
from iqametrics.errors import DataError, TrainingError
from iqametrics.ranking import number_chains
from iqametrics.training.checks import check_learnable, check_parts
from iqametrics.training.recipe import Recipe, SplitTable
from iqametrics.training.tables import TrainTable
from iqametrics.words import UNKNOWN, word_of

_CLASS_OF_KIND = {kind.id: kind.liqe_class for kind in (*DISTORTIONS.values(), *EXTRA_DISTORTIONS.values())}
_CLASS_OF_NAME = {kind.name: kind.liqe_class for kind in (*DISTORTIONS.values(), *EXTRA_DISTORTIONS.values())}
_WORD_RANK = 0.8
"""Rank above which damage is too slight for a word."""
_PARTS = {"train": 0, "training": 0, "val": 1, "validation": 1, "valid": 1, "test": 2}


@dataclass(frozen=True)
class RunImage:
    """One image of a run.

    Attributes:
        sample: The image and its score.
        source: Number of its CSV or dataset, 0 for the main one.
        weight: How often it is drawn, relative to the main images.
        chain: Row of `iqametrics.ranking.order_loss`'s `chains` where `mos` is a rank among versions of one image.
    """

    sample: Sample
    source: int = 0
    weight: float = 1.0
    chain: tuple[int, int] | None = None

    @property
    def distortion_class(self) -> int:
        """Index into `LIQE_CLASSES`, -1 where unknown."""
        name = self.sample.liqe_class or self.sample.distortion
        if name not in LIQE_CLASSES:
            kind = self.sample.kind or 0
            name = _CLASS_OF_NAME.get(name or "") or _CLASS_OF_KIND.get(kind) or CLASS_OF_NAME.get(name or "")
        return LIQE_CLASSES.index(name) if name in LIQE_CLASSES else -1

    @property
    def word(self) -> int:
        """Index into `iqametrics.words.WORDS` of what is known to be true of the image, see `Batch.words`.

        Of a photograph that stands alone nothing is known, and damage that is hardly seen says nothing.
        """
        if self.chain is None or _WORD_RANK < self.sample.mos < 1:
            return UNKNOWN
        return word_of(self.sample.distortion)

    @property
    def scenes(self) -> list[float]:
        """Whether the image shows each of `SCENES`, as 1 or 0; all 0 where its scenes are unknown."""
        return [float(scene in self.sample.scenes) for scene in SCENES]


@dataclass(frozen=True)
class RunData:
    """The three parts of a run.

    Attributes:
        train: The images that are trained on.
        validation: The validation images; may be empty if no epoch is selected by them.
        test: The test images; may be empty if no epoch is selected by them.
        digests: SHA-256 of the images and scores of each dataset given by name; a CSV has its file's.
    """

    train: list[RunImage]
    validation: list[RunImage]
    test: list[RunImage]
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_items(self) -> list[RunImage]:
        """Every image, in a fixed order."""
        return [*self.train, *self.validation, *self.test]


@dataclass(frozen=True)
class View:
    """One training crop.

    Attributes:
        item: Index into the training part.
        top: Vertical position, in [0, 1) of the range that the crop may move in.
        left: Horizontal position, likewise.
        flip_h: Whether it is flipped horizontally.
        flip_v: Whether it is flipped vertically.
        seed: Seed of what the loss draws at random for it.
    """

    item: int
    top: float
    left: float
    flip_h: bool
    flip_v: bool
    seed: int = 0


@dataclass(frozen=True)
class Portion:
    """What one process computes at a time: its share of a step, or of one part of a step.

    Attributes:
        views: The crops.
        counts: Number of crops of each process at that time; empty if there is only one process.
    """

    views: Sequence[View]
    counts: tuple[int, ...] = ()


def load_data(recipe: Recipe) -> RunData:
    """Read the CSV files and datasets, and split the main images into parts.

    Further images join the training part, unless they or their references are held out; files are identified by their
    paths.

    Raises:
        DataError: If data are missing or unusable, a part has no images, or all scores are equal.
    """
    images, *further = recipe.images
    main = _read(images, "data")
    check_learnable(main, images.title)
    train, validation, test = split_samples(main, recipe.split)
    shown = [] if recipe.split.withhold_test else test
    check_parts(RunData(train, validation, shown), recipe)
    digests = {images.title: _digest(main, images)} if images.dataset else {}
    held = {path for item in (*validation, *test) for path in (item.sample.image, item.sample.reference) if path}
    held -= {item.sample.reference for item in train if item.sample.reference}
    for source, extra in enumerate(further, start=1):
        samples = _read(extra, f"data.extra[{source - 1}]")
        digests |= {extra.title: _digest(samples, extra)} if extra.dataset else {}
        table = recipe.data.extra[source - 1]
        kept = [sample for sample in samples if not {sample.image, sample.reference} & held]
        chains = _chains(kept) if table.ranked else [None] * len(kept)
        train += [
            RunImage(sample, source, table.weight, chain=chain) for sample, chain in zip(kept, chains, strict=True)
        ]
    return RunData(train, validation, shown, digests)


def _chains(samples: Sequence[Sample]) -> list[tuple[int, int] | None]:
    """Number the image that each is a version of, and its kind of damage.

    Raises:
        DataError: If an image does not say of which image it is a version.
    """
    for sample in samples:
        if sample.group is None:
            raise DataError(
                f"{sample.image}: has no group, but is ranked among an image's versions; fill the column in"
            )
    return [*number_chains((sample.group, sample.distortion) for sample in samples)]


def _read(images: LabelledImages, where: str) -> list[Sample]:
    option = f"{where}.mos_range = [1, 5] in the recipe"
    return images.load(f"--mos-range 1 5, or {option}" if where == "data" else option)


def _digest(samples: Sequence[Sample], images: LabelledImages) -> str:
    """Compute the SHA-256 of a dataset's names, from its root on, and scores."""
    rows = [[images.name_of(sample.image), images.name_of(sample.reference), sample.mos] for sample in samples]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def split_samples(
    samples: Sequence[Sample], split: SplitTable
) -> tuple[list[RunImage], list[RunImage], list[RunImage]]:
    """Split samples into training, validation and test parts as the recipe's [split] says.

    Raises:
        DataError: If the data lack what the split goes by, or there are too few groups.
    """
    if split.by == "column":
        parts = _column_parts(samples)
    elif split.by == "official":
        parts = official_parts(samples, validation=split.validation, seed=split.seed)
    else:
        groups = group_keys(samples, split.by)
        if split.by == "near-duplicates":
            groups = with_known_groups(samples, groups)
        # By the groups just found, since looking for near-duplicates reads every image.
        grouped = [Sample(s.image, None, s.mos, group=group) for s, group in zip(samples, groups, strict=True)]
        shares = Shares(1 - split.validation - split.test, split.validation, split.test)
        parts = random_parts(grouped, seed=split.seed, shares=shares)
    train, validation, test = (
        [RunImage(samples[index]) for index in part] for part in (parts.train, parts.validation, parts.test)
    )
    return train, validation, test


def with_known_groups(samples: Sequence[Sample], groups: Sequence[str]) -> list[str]:
    """Join groups of near-duplicates that share a reference or a group, since strong distortions of an image differ.

    A joined group has the name of its first image's group. Images without reference and group stay in their groups.
    """
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while name in leader:
            name = leader[name]
        return name

    first: dict[str, str] = {}
    for sample, known, group in zip(samples, group_keys(samples), groups, strict=True):
        if sample.reference is None and sample.group is None:
            continue
        one, other = lead(first.setdefault(known, group)), lead(group)
        if one != other:
            leader[other] = one
    return [lead(group) for group in groups]


def _column_parts(samples: Sequence[Sample]) -> Parts:
    """Split by the CSV's column, in which every row must name a part."""
    indices: list[list[int]] = [[], [], []]
    for index, sample in enumerate(samples):
        part = _PARTS.get((sample.split or "").lower())
        if part is None:
            raise DataError(
                f"{sample.image}: nothing to split by 'column' in its row; fill the CSV in or change split.by"
            )
        indices[part].append(index)
    return Parts(*map(tuple, indices))


def epoch_steps(items: Sequence[RunImage], train: TrainTable, epoch: int) -> list[Sequence[View]]:
    """Return the crops of each step of an epoch: of one pass, or of as many steps as the recipe says."""
    together = train.crops_together
    views = epoch_views(items, train, epoch)
    if train.steps_per_epoch:
        wanted = train.steps_per_epoch * train.batch_size * together
        further = itertools.count(epoch + train.epochs, train.epochs)
        while len(views) < wanted:
            views += epoch_views(items, train, next(further))
        views = views[:wanted]
    return step_views(views, train.batch_size, together)


def step_views(views: Sequence[View], batch_size: int, together: int = 1) -> list[Sequence[View]]:
    """Cut an epoch into steps whose sizes differ by at most one image.

    So no step has only a few images, whose batch statistics or pairs would be worthless.
    """
    return _cut(views, -(-len(views) // (batch_size * together)), together)


def epoch_views(items: Sequence[RunImage], train: TrainTable, epoch: int) -> list[View]:
    """Return the crops of one pass over the images in their order.

    An image of weight w is drawn `views` times w in a pass, on average: the fraction is a probability. With
    `views_together`, it is drawn w times with `views` crops that follow one another.
    """
    together = train.crops_together
    drawn: list[tuple[bytes, int, list[View]]] = []
    for index, item in enumerate(items):
        times = train.views * item.weight / together
        name = _draw_name(index, item)
        digest = hashlib.blake2b(f"{train.seed}/{epoch}/{name}/times".encode(), digest_size=8).digest()
        count = math.floor(times) + (_unit(digest) < times - math.floor(times))
        for first in range(0, count * together, together):
            made = [_view(train, epoch, index, number, name) for number in range(first, first + together)]
            drawn.append((made[0][0], index, [view for _, view in made]))
    return [view for *_, views in sorted(drawn, key=lambda entry: entry[:2]) for view in views]


def _draw_name(index: int, item: RunImage) -> str:
    """Return the name that seeds an item's draws: versions of one image share it, so that a step can compare them."""
    return str(index) if item.chain is None else f"{item.source} chain {item.chain[0]}"


def _view(train: TrainTable, epoch: int, index: int, number: int, name: str) -> tuple[bytes, View]:
    """Draw a crop of an image; return what it is sorted by, and the crop."""
    digest = hashlib.blake2b(f"{train.seed}/{epoch}/{name}/{number}".encode(), digest_size=32).digest()
    flips = digest[24]
    view = View(
        item=index,
        top=_unit(digest[8:16]),
        left=_unit(digest[16:24]),
        flip_h="h" in train.flips and bool(flips & 1),
        flip_v="v" in train.flips and bool(flips & 2),
        seed=draw_seed(train.seed, epoch, index, number),
    )
    return digest[:8], view


def portions(views: Sequence[View], *, accumulate: int, processes: int, rank: int, together: int = 1) -> list[Portion]:
    """Cut a step into parts, computed one after the other, and return this process's share of each.

    Sizes differ by at most one image, among the parts and among the shares. Every process has an image in every part,
    so a small step has fewer parts. `together` crops of one image are never cut apart.

    Raises:
        TrainingError: If there are more processes than images.
    """
    images = len(views) // together
    if images < processes:
        raise TrainingError(
            f"a step of {images} images cannot be spread over {processes} processes; raise train.batch_size "
            "or start fewer processes"
        )
    parts = _cut(views, min(accumulate, images // processes), together)
    if processes == 1:
        return [Portion(part) for part in parts]
    shares = [_cut(part, processes, together) for part in parts]
    return [Portion(share[rank], tuple(len(views) for views in share)) for share in shares]


def _cut(views: Sequence[View], pieces: int, together: int) -> list[Sequence[View]]:
    ends = [together * (len(views) // together * k // pieces) for k in range(pieces + 1)]
    return [views[start:end] for start, end in itertools.pairwise(ends)]


def draw_seed(*parts: int) -> int:
    """Return a seed for torch's generators, 63 bits, from a few numbers."""
    text = "/".join(map(str, ("draws", *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def image_files(items: Sequence[RunImage]) -> list[Path]:
    """Return every image and reference file once, in order."""
    files = (path for item in items for path in (item.sample.image, item.sample.reference) if path is not None)
    return list(dict.fromkeys(files))


def _unit(digest: bytes) -> float:
    """Read eight bytes as a number in [0, 1), exact in a double."""
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
