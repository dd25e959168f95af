"""Which images are trained on and which are held out, and which crop of which image stands in which step.

Order, crops and flips are digests of (seed, epoch, image, view): no random state is kept, so any step of any epoch can
be made again, on any machine and with any version of any library.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iqametrics.datasets.catalogue import load_dataset, made_labels
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS
from iqametrics.datasets.protocol import Parts, Shares, group_keys, official_parts, random_parts
from iqametrics.datasets.sample import Sample
from iqametrics.datasets.synthetic import LABELS_FILE, RECIPE_FILE
from iqametrics.errors import DataError, RecipeError, TrainingError
from iqametrics.pfd_iqa.prompts import DISTORTIONS as DISTORTION_CLASSES
from iqametrics.ranking import number_chains
from iqametrics.training.recipe import DataTable, ExtraData, Recipe, SplitTable, TrainTable

_CLASS_OF_KIND = {kind.id: kind.liqe_class for kind in (*DISTORTIONS.values(), *EXTRA_DISTORTIONS.values())}
_CLASS_OF_NAME = {kind.name: kind.liqe_class for kind in (*DISTORTIONS.values(), *EXTRA_DISTORTIONS.values())}
_PARTS = {"train": 0, "training": 0, "val": 1, "validation": 1, "valid": 1, "test": 2}
_FEWEST = 3


@dataclass(frozen=True)
class Item:
    """One image of a run.

    Attributes:
        sample: the image and its score.
        source: number of its CSV or dataset, 0 for the main one.
        weight: how often it is drawn, relative to the main one's images.
        group: what it was kept together with by the split.
        chain: row of `iqametrics.ranking.order_loss`'s `chains` where `mos` is a rank among versions of one image.
    """

    sample: Sample
    source: int = 0
    weight: float = 1.0
    group: str = ""
    chain: tuple[int, int] | None = None

    @property
    def distortion_class(self) -> int:
        """Index into `DISTORTION_CLASSES`, -1 where unknown."""
        name = self.sample.liqe_class or self.sample.distortion
        if name not in DISTORTION_CLASSES:
            name = _CLASS_OF_NAME.get(name or "") or _CLASS_OF_KIND.get(self.sample.kind or 0)
        return DISTORTION_CLASSES.index(name) if name in DISTORTION_CLASSES else -1


@dataclass(frozen=True)
class RunData:
    """The three parts of a run.

    Attributes:
        train: the images that are trained on.
        validation: may be empty where no epoch is selected by it.
        test: may be empty where no epoch is selected by it.
        digests: SHA-256 of what the datasets by name hold; a CSV is a file and known by its own.
    """

    train: list[Item]
    validation: list[Item]
    test: list[Item]
    digests: Mapping[str, str] = field(default_factory=dict)

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
        seed: of what the loss draws at random for it.
    """

    item: int
    top: float
    left: float
    flip_h: bool
    flip_v: bool
    seed: int = 0


@dataclass(frozen=True)
class Portion:
    """What one process computes at a time: its share of a step, or of one of the parts that a step is cut into.

    Attributes:
        views: the crops.
        counts: how many crops each process has at that time; empty where there is one process.
    """

    views: Sequence[View]
    counts: tuple[int, ...] = ()


def load_data(recipe: Recipe) -> RunData:
    """Read the CSV files and datasets and deal the main one's images to the parts.

    Images of the further ones join the training part, unless they, or their references, are held out; files are told
    apart by their paths.

    Raises:
        RecipeError: a range of scores is given for a dataset, whose own is known.
        DataError: no or unusable data; a part without images; scores that are all equal.
    """
    table = recipe.data
    name = source_name(table)
    main = _read(table, "data")
    _check_learnable(main, name)
    train, validation, test = split_samples(main, recipe.split)
    _check_parts(train, validation, test, recipe, name)
    digests = {} if table.csv else {name: _digest(main, table.root)}
    held = {path for item in (*validation, *test) for path in (item.sample.image, item.sample.reference) if path}
    held -= {item.sample.reference for item in train if item.sample.reference}
    for source, extra in enumerate(table.extra, start=1):
        samples = _read(extra, f"data.extra[{source - 1}]")
        digests |= {} if extra.csv else {source_name(extra): _digest(samples, extra.root)}
        kept = [sample for sample in samples if not {sample.image, sample.reference} & held]
        if extra.labels == "order":
            train += _chained(kept, source, extra.weight)
        else:
            train += [Item(sample, source, extra.weight) for sample in kept]
    return RunData(train, validation, test, digests)


def _chained(samples: Sequence[Sample], source: int, weight: float) -> list[Item]:
    """Make items of versions of images.

    Raises:
        DataError: one does not say which image it is a version of.
    """
    for sample in samples:
        if sample.group is None:
            raise DataError(f"{sample.image}: has no group, but is to be ordered among others; fill the column in")
    chains = number_chains([((source, sample.group), sample.distortion) for sample in samples])
    return [Item(sample, source, weight, chain=chain) for sample, chain in zip(samples, chains, strict=True)]


def source_name(table: DataTable | ExtraData) -> str:
    """Name a recipe's CSV file or dataset."""
    return table.csv or f"dataset {table.dataset}"


def label_kind(table: DataTable | ExtraData) -> str | None:
    """Tell what a table's scores are: "human" opinions, "made" by `iqametrics synthesize`, None where it does not show.

    A dataset that the package knows is scored by people, unless its folder is marked as an imitation.
    """
    file = Path(table.csv)
    folder = Path(table.root) if table.dataset else file.parent
    if made_labels(folder) or (file.name == LABELS_FILE and (folder / RECIPE_FILE).is_file()):
        return "made"
    return "human" if table.dataset else None


def _read(table: DataTable | ExtraData, where: str) -> list[Sample]:
    if table.csv:
        return read_csv_dataset(table.csv, table.root or None, mos_range=table.mos_range)
    if table.mos_range is not None:
        raise RecipeError(f"{where}.mos_range: is for a CSV, the range of {table.dataset} is known; leave it out")
    return load_dataset(table.dataset, table.root)


def _digest(samples: Sequence[Sample], root: str) -> str:
    """SHA-256 of what a dataset says: names from its root, and scores."""
    rows = [
        [relative_name(sample.image, root), relative_name(sample.reference, root), sample.mos] for sample in samples
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def relative_name(path: Path | None, root: str) -> str:
    """Name a file from the data's root, as a CSV does; empty for none."""
    if path is None:
        return ""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def split_samples(samples: Sequence[Sample], split: SplitTable) -> tuple[list[Item], list[Item], list[Item]]:
    """Deal samples to training, validation and test part as the recipe's [split] says.

    Raises:
        DataError: what the split goes by is not in the data, or too few groups.
    """
    if split.by == "column":
        groups, parts = group_keys(samples), _column_parts(samples)
    elif split.by == "official":
        groups = group_keys(samples)
        parts = official_parts(samples, validation=split.validation, seed=split.seed)
    else:
        groups = group_keys(samples, split.by)
        if split.by == "near-duplicates":
            groups = with_known_groups(samples, groups)
        # By the groups just found: looking for near-duplicates reads every image.
        grouped = [Sample(s.image, None, s.mos, group=group) for s, group in zip(samples, groups, strict=True)]
        shares = Shares(1 - split.validation - split.test, split.validation, split.test)
        parts = random_parts(grouped, seed=split.seed, shares=shares)
    train, validation, test = (
        [Item(samples[index], group=groups[index]) for index in part]
        for part in (parts.train, parts.validation, parts.test)
    )
    return train, validation, test


def with_known_groups(samples: Sequence[Sample], groups: Sequence[str]) -> list[str]:
    """Join groups of look-alikes that share a reference or a group: strong distortions of one image look nothing alike.

    A joined group has the name of its first image's. Images without reference and group stay as they are.
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
    """Deal by the CSV's column, in which every row must name a part."""
    indices: list[list[int]] = [[], [], []]
    for index, sample in enumerate(samples):
        part = _PARTS.get((sample.split or "").lower())
        if part is None:
            raise DataError(
                f"{sample.image}: nothing to split by 'column' in its row; fill the CSV in or change split.by"
            )
        indices[part].append(index)
    return Parts(*map(tuple, indices))


def _check_learnable(samples: Sequence[Sample], csv: str) -> None:
    if len(samples) < _FEWEST:
        raise DataError(f"{csv}: {len(samples)} images are too few to train on; give at least {_FEWEST}")
    if len({sample.mos for sample in samples}) == 1:
        raise DataError(f"{csv}: all {len(samples)} scores are {samples[0].mos:g}; there is nothing to learn from them")


def check_references(recipe: Recipe, data: RunData) -> None:
    """Make sure that every image has a reference.

    Raises:
        DataError: one has none.
    """
    tables: list[DataTable | ExtraData] = [recipe.data, *recipe.data.extra]
    for item in data.all_items:
        if item.sample.reference is None:
            raise DataError(
                f"{source_name(tables[item.source])}: the metric compares with references, but a row has none; fill "
                "the reference column"
            )


def check_order(recipe: Recipe, *, learns_order: bool) -> None:
    """Make sure that ranks are not taken for opinion scores.

    Raises:
        RecipeError: data are labelled by order, and the loss does not read it.
    """
    if not learns_order and any(extra.labels == "order" for extra in recipe.data.extra):
        raise RecipeError(
            f"data.extra.labels = 'order': the loss of {recipe.metric.name} takes no order as it stands; for BPCLIP "
            "set model.loss.order_weight, for others leave these data out"
        )


def _check_parts(train: list[Item], validation: list[Item], test: list[Item], recipe: Recipe, csv: str) -> None:
    if not train:
        raise DataError(f"{csv}: no image is left to train on; change [split]")
    for name, part in (("validation", validation), ("test", test)):
        if 0 < len(part) < _FEWEST:
            raise DataError(f"{csv}: {len(part)} {name} images have no correlation; hold out more (split.{name})")
    chosen_by = {"best-val": ("validation", validation), "best-test": ("test", test)}
    name, part = chosen_by.get(recipe.train.selection, ("", train))
    if not part:
        raise DataError(
            f"{csv}: no {name} images to choose an epoch by; hold some out (split.{name}) or set train.selection = "
            "'last'"
        )


def epoch_views(items: Sequence[Item], train: TrainTable, epoch: int) -> list[View]:
    """Give the crops of an epoch in their order.

    An image of weight w is drawn `views` times w an epoch; what is left of a whole number is drawn by chance.
    """
    drawn: list[tuple[bytes, View]] = []
    for index, item in enumerate(items):
        times = train.views * item.weight
        name = _draw_name(index, item)
        digest = hashlib.blake2b(f"{train.seed}/{epoch}/{name}/times".encode(), digest_size=8).digest()
        count = math.floor(times) + (_unit(digest) < times - math.floor(times))
        for view in range(count):
            digest = hashlib.blake2b(f"{train.seed}/{epoch}/{name}/{view}".encode(), digest_size=32).digest()
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
                        seed=draw_seed(train.seed, epoch, index, view),
                    ),
                )
            )
    return [view for _, view in sorted(drawn, key=lambda pair: (pair[0], pair[1].item))]


def _draw_name(index: int, item: Item) -> str:
    """Name what is drawn for an item: versions of one image share place, crop and flips, for a step compares them."""
    return str(index) if item.chain is None else f"{item.source} chain {item.chain[0]}"


def step_views(views: Sequence[View], batch_size: int) -> list[Sequence[View]]:
    """Cut an epoch into steps whose sizes differ by at most one.

    So no step is left with a handful of images, whose batch statistics or pairs would be worthless.
    """
    return _cut(views, -(-len(views) // batch_size))


def portions(views: Sequence[View], *, accumulate: int, processes: int, rank: int) -> list[Portion]:
    """Cut a step into parts that follow one another, and give this process's share of each.

    Sizes differ by at most one image, among the parts and among the shares. Every process has an image in every part,
    so a small step has fewer parts.

    Raises:
        TrainingError: there are more processes than images.
    """
    if len(views) < processes:
        raise TrainingError(
            f"a step of {len(views)} images cannot be spread over {processes} processes; raise train.batch_size "
            "or start fewer processes"
        )
    parts = _cut(views, min(accumulate, len(views) // processes))
    if processes == 1:
        return [Portion(part) for part in parts]
    shares = [_cut(part, processes) for part in parts]
    return [Portion(share[rank], tuple(len(views) for views in share)) for share in shares]


def _cut(views: Sequence[View], pieces: int) -> list[Sequence[View]]:
    ends = [len(views) * k // pieces for k in range(pieces + 1)]
    return [views[start:end] for start, end in itertools.pairwise(ends)]


def draw_seed(*parts: int) -> int:
    """Give a seed for torch's generators, 63 bits, from a few numbers."""
    text = "/".join(map(str, ("draws", *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def image_files(items: Sequence[Item]) -> list[Path]:
    """Give every image and reference file once, in order."""
    files = (path for item in items for path in (item.sample.image, item.sample.reference) if path is not None)
    return list(dict.fromkeys(files))


def _unit(digest: bytes) -> float:
    """Eight bytes as a number in [0, 1), exact in a double."""
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
