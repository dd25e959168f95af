"""From a table to the jobs that fill its cells; no torch.

A job trains one variant on one split of one dataset, or scores one test part with a finished metric, and is done once:
it has an id, its own folder, and one result.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from iqametrics.baselines import is_installed
from iqametrics.baselines.paper_rows import PaperRow, paper_row
from iqametrics.benchmark.tables import AVERAGE, Cell, Table, choose, dataset_mode
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.errors import DataError
from iqametrics.methods import recipe_files, table_rows
from iqametrics.spec import Protocol, TableRow

Size = Literal["paper", "lite"]
COMPARE = "compare"
"""Id of the comparison of finished metrics, which is not a table of a paper."""

_LONGEST_NAME = 80
_TRAIN_SHARES = {"6:2:2": 0.6, "8:2": 0.72}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a job is measured on: a dataset, and "test", "official" or a text for `datasets.protocol.select`."""

    dataset: str
    part: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One unit of work with one result.

    Attributes:
        id: Name of its folder, unique in a plan.
        table: Id of the table, or "compare".
        row: Row of the table, or name of the metric.
        metric: Name of the metric that is trained, or of the finished metric that scores.
        weights: File of the finished metric's checkpoint, or its place on the Hub; "" where the name tells it.
        size: "paper", "lite", or "finished" where nothing is trained.
        recipe: Name of the recipe; "" where nothing is trained.
        changes: Changes of the recipe, `table.key=value` each, that make it the row's variant.
        train: Dataset that is trained on, "" where nothing is.
        protocol: How that dataset, or the one tested on, is split.
        split: Number of the split; None for the official one and where there is none.
        targets: What the metric is measured on.
    """

    id: str
    table: str
    row: str
    metric: str
    weights: str
    size: str
    recipe: str
    changes: tuple[str, ...]
    train: str
    protocol: Protocol
    split: int | None
    targets: tuple[Target, ...]

    @property
    def datasets(self) -> list[str]:
        """Datasets that have to be there."""
        return list(dict.fromkeys(name for name in (self.train, *(t.dataset for t in self.targets)) if name))

    @property
    def finished_metric(self) -> str:
        """Name for `create_metric` of a metric that is not trained."""
        return f"{self.metric}={self.weights}" if self.weights else self.metric

    def place(self, target: Target) -> str:
        """Return the name of the column that holds the results of a target, in the form of `Cell.place`."""
        return target.dataset if self.train in ("", target.dataset) else f"{self.train}->{target.dataset}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """Read what `to_dict` returned."""
        targets = tuple(Target(**target) for target in values["targets"])
        return cls(**{**values, "changes": tuple(values["changes"]), "targets": targets})


def plan_table(
    table: Table,
    *,
    rows: Sequence[str] = (),
    datasets: Sequence[str] = (),
    splits: int = 10,
    size: Size = "paper",
    changes: Sequence[str] = (),
) -> list[Job]:
    """List the jobs of a table; a row that nothing here can run has none, unless it is asked for by name.

    Args:
        table: A table of a paper.
        rows: Only these rows; all if empty.
        datasets: Only cells tested on these; all if empty.
        splits: Number of random splits.
        size: "paper" for the recipes of the paper's size, "lite" for the same jobs at lite size.
        changes: Further changes of all recipes, `table.key=value` each, such as fewer epochs for a trial.

    Raises:
        DataError: If a row or dataset is unknown, or the table is about cost, which is measured in another way.
    """
    if table.is_cost:
        raise DataError(f"{table.id} is about cost; measure it with iqametrics benchmark cost")
    wanted = choose(
        datasets, [name for name in dict.fromkeys(c.dataset for c in table.cells) if name != AVERAGE], "dataset"
    )
    ours = table_rows(table.id)
    jobs: list[Job] = []
    for row in choose(rows, table.rows, "row"):
        cells = [cell for cell in table.cells if cell.row == row and cell.dataset in wanted]
        if row in ours:
            # A row that is asked for by name fails where its recipe is looked for, and says so.
            if rows or not _missing_recipe(table, ours[row], size):
                jobs += _trained(table, ours[row], changes, cells, splits, size)
        elif (adapter := compared_row(table, row).adapter) and (rows or row not in unfilled_rows(table)):
            jobs += _finished(table, row, adapter, cells, splits)
    return jobs


def plan_comparison(
    metrics: Sequence[str], datasets: Sequence[str], part: str = "all", no_references: Sequence[str] = ()
) -> list[Job]:
    """List the jobs of a comparison of finished metrics: each metric on each dataset that it can be run on.

    Args:
        metrics: Names for `create_metric`, with or without a checkpoint's tag or file.
        datasets: Names of sources.
        part: Which images, as `datasets.protocol.select` reads it.
        no_references: Those of the datasets on which no full-reference metric can be run.

    Raises:
        UnknownMetricError: If there is no such metric or checkpoint.
    """
    from iqametrics.registry import find_metric, metric_info
    from iqametrics.weights.locate import source_of

    jobs = []
    for text in dict.fromkeys(metrics):
        spec, named = find_metric(text)
        if named.weights is None:
            row = metric = metric_info(text).full_name
            weights = ""
        else:
            # As typed: of two files, either may have any tag.
            row, metric, weights = text, spec.name, str(source_of(named.weights, whole=True))
        full_reference = spec.mode == "fr"
        for dataset in dict.fromkeys(datasets):
            if full_reference and dataset in no_references:
                continue
            targets = (Target(dataset=dataset, part=part),)
            jobs.append(_job(COMPARE, row, metric, (), "", "8:2", None, targets, size="finished", weights=weights))
    return list({job.id: job for job in jobs}.values())


def compared_row(table: Table, row: str) -> PaperRow:
    """Return what is known of a compared method: the metric of another package that stands for it, and a caveat."""
    return paper_row(row, table.mode)


def is_ours(table: Table, row: str) -> bool:
    """Tell whether a row is one of a method that can be trained here, or a variant of one."""
    return row in table_rows(table.id)


def unfilled_rows(table: Table, size: Size = "paper") -> dict[str, str]:
    """Tell why rows stay empty: no package has the method, the package is not installed, or a recipe is missing."""
    reasons = {}
    ours = table_rows(table.id)
    for row in table.rows:
        adapter = compared_row(table, row).adapter
        if row in ours:
            if missing := _missing_recipe(table, ours[row], size):
                reasons[row] = f"there is no recipe {missing}"
        elif adapter is None:
            reasons[row] = "nothing here can run it"
        elif not is_installed(adapter.partition("/")[0]):
            reasons[row] = f"{adapter} is not installed"
    return reasons


def _missing_recipe(table: Table, row: TableRow, size: Size) -> str:
    """Return the name of a recipe that a row needs and its method lacks; "" where none is missing."""
    trained_on = dict.fromkeys(cell.train or cell.dataset for cell in table.cells if cell.row == row.row)
    for train in trained_on:
        metric = row.metrics.get(dataset_mode(train)) if train != AVERAGE else None
        name = _recipe(metric, train, _protocol(table, train), size) if metric else ""
        if name and name not in recipe_files():
            return name
    return ""


def _recipe(metric: str, train: str, protocol: Protocol, size: str) -> str:
    if size == "lite":
        return f"lite/{metric}"
    return f"paper/{metric}/{train}" + ("-official" if protocol == "official" else "")


def _trained(
    table: Table, row: TableRow, changes: Sequence[str], cells: Sequence[Cell], splits: int, size: Size
) -> list[Job]:
    jobs = []
    variant = (*row.changes, *changes)
    for train in dict.fromkeys(cell.train or cell.dataset for cell in cells):
        tested = dict.fromkeys(cell.dataset for cell in cells if (cell.train or cell.dataset) == train)
        targets = tuple(Target(dataset=name, part="test" if name == train else "all") for name in tested)
        protocol = _protocol(table, train)
        numbers = [None] if protocol == "official" else range(splits)
        metric = row.metrics.get(dataset_mode(train))
        if metric is None:
            raise DataError(f"{row.row} of {table.id} has no metric for {train}; leave that dataset out")
        jobs += [
            _job(table.id, row.row, metric, variant, train, protocol, split, targets, size=size) for split in numbers
        ]
    return jobs


def _finished(table: Table, row: str, metric: str, cells: Sequence[Cell], splits: int) -> list[Job]:
    """Plan a finished metric: on the test part of each split, or on all of a dataset that nobody trains on here."""
    jobs = []
    # Whatever the paper's method was trained on, a finished metric scores each dataset once.
    for dataset, train in {cell.dataset: cell.train for cell in cells}.items():
        protocol = _protocol(table, dataset)
        if train:
            parts: list[tuple[int | None, str]] = [(None, "all")]
        elif protocol == "official":
            parts = [(None, "official")]
        else:
            parts = [(split, f"random:{split}:test") for split in range(splits)]
        jobs += [
            _job(table.id, row, metric, (), "", protocol, split, (Target(dataset=dataset, part=part),), size="finished")
            for split, part in parts
        ]
    return jobs


def _job(
    table: str,
    row: str,
    metric: str,
    changes: tuple[str, ...],
    train: str,
    protocol: Protocol,
    split: int | None,
    targets: tuple[Target, ...],
    *,
    size: str,
    weights: str = "",
) -> Job:
    where = train or targets[0].dataset
    words = [_slug(row), where]
    if weights:
        # Files whose names differ only in characters that `_slug` replaces would share a folder.
        words.insert(1, hashlib.sha256(weights.encode()).hexdigest()[:8])
    if train and [target.dataset for target in targets] != [train]:
        words.append("cross")
    words.append("official" if protocol == "official" else "all" if split is None else f"split{split:02d}")
    return Job(
        id="-".join(words),
        table=table,
        row=row,
        metric=metric,
        weights=weights,
        size=size,
        recipe=_recipe(metric, train, protocol, size) if train else "",
        changes=changes,
        train=train,
        protocol=protocol,
        split=split,
        targets=targets,
    )


def _protocol(table: Table, train: str) -> Protocol:
    return "official" if table.protocol == "official" else table.shares[dataset_mode(train)]


def _slug(text: str) -> str:
    """Turn the name of a row or metric into a safe folder name; of a long one, the end is kept."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[-_LONGEST_NAME:]


def cache_folder(folder: Path) -> Path:
    """Return the cache that the jobs of a run share: all splits of a dataset have the same images."""
    return folder.resolve() / "cache"


def overrides(job: Job, source: LabelledImages, device: str, cache: Path) -> list[str]:
    """Return the changes that a job makes to its recipe: data, split, variant and cache.

    Recipes of the paper's size state their protocol (shares and grouping) themselves; those of lite size serve any
    data, so the protocol is added.
    """
    data = [f"data.{key}={json.dumps(value)}" for key, value in source.to_table().items()]
    texts = [*data, *job.changes, f'train.device="{device}"']
    if job.split is not None:
        # Each split has weights and an order of its own too, unless what is compared is the seed.
        seeded = any(change.startswith("train.seed=") for change in job.changes)
        texts += [f"split.seed={job.split}", *([] if seeded else [f"train.seed={job.split}"])]
    if job.size != "lite":
        return texts
    texts.append(f"cache.folder={json.dumps(str(cache))}")
    if job.protocol == "official":
        return [*texts, 'split.by="official"']
    by = "reference" if dataset_mode(source.dataset or job.train) == "fr" else "image"
    validation = 0.2 if job.protocol == "6:2:2" else 0.08
    return [*texts, f'split.by="{by}"', f"split.validation={validation}", "split.test=0.2"]


def unlisted(dataset: str) -> LabelledImages:
    """Stand in for a dataset that the data file does not list, in a command that is shown."""
    return LabelledImages(dataset=dataset, root=f"ROOT-OF-{dataset}")


def command(job: Job, sources: Mapping[str, LabelledImages], folder: Path, device: str) -> str:
    """Write the command that does a job by hand; for a trained one, the command of its training."""
    if job.recipe:
        source = sources.get(job.train) or unlisted(job.train)
        words = ["iqametrics", "train", job.recipe]
        for text in overrides(job, source, device, cache_folder(folder)):
            words += ["--set", text]
        return shlex.join([*words, "--output", str(folder / "jobs" / job.id / "train"), "--resume"])
    target = job.targets[0]
    source = sources.get(target.dataset) or unlisted(target.dataset)
    data = ["--csv", source.csv] if source.csv else ["--dataset", source.dataset]
    root = ["--root", source.root] if source.root else []
    words = ["iqametrics", "evaluate", "--metric", job.finished_metric, *data, *root]
    return shlex.join([*words, "--split", target.part, "--device", device])


def image_passes(job: Job) -> int | None:
    """Count the crops that a job's training sees, its teacher's included; None where that is not known.

    The count is images x share of the training part x epochs x views, with the released dataset's number of images and
    the recipe's values as the job changes them.
    """
    from iqametrics.datasets.catalogue import dataset_spec
    from iqametrics.training.recipes import apply_overrides, find_recipe, read_tables

    spec = dataset_spec(job.train)
    if job.protocol == "official":
        images = (spec.official_parts or {}).get("train")
    else:
        images = round(spec.images * _TRAIN_SHARES[job.protocol])
    if images is None:
        return None
    tables = apply_overrides(read_tables(find_recipe(job.recipe)), job.changes)
    total = images * _passes(tables)
    teacher = tables.get("init", {}).get("teacher", "")
    if teacher.endswith(".toml"):
        total += images * _passes(read_tables(Path(teacher)))
    return total


def starting_files(job: Job) -> list[str]:
    """List what a job's recipe starts from: bundled files, starting weights by name, or a teacher's recipe."""
    from iqametrics.training.recipes import find_recipe, read_tables

    return [str(value) for value in read_tables(find_recipe(job.recipe)).get("init", {}).values()]


def _passes(tables: Mapping[str, Any]) -> int:
    train = tables.get("train", {})
    return int(train.get("epochs", 10)) * int(train.get("views", 1))
