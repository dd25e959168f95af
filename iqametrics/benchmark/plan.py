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
from iqametrics.benchmark.sources import Source
from iqametrics.benchmark.tables import AVERAGE, Cell, Protocol, Table, choose
from iqametrics.errors import DataError

Size = Literal["paper", "lite"]
COMPARE = "compare"
"""Id of the comparison of finished metrics, which is not a table of a paper."""
COST_TABLE = "bpclip-fig5"

_OURS: dict[str, dict[str, tuple[str, ...]]] = {
    **{f"bpclip-table{number}": {"BPCLIP": ()} for number in (2, 3, 4, 5)},
    "bpclip-table6": {
        "BPCLIP": (),
        "without information branch (MSCA)": ("model.information_branch=false",),
        "without weight branch": ("model.weight_branch=false",),
        "without text encoder": ("model.text_anchors=false",),
        "progressive propagation": ('model.propagation="progressive"',),
        "cosine similarity": ('model.similarity="cosine"',),
        "scaled cosine similarity": ('model.similarity="scaled_cosine"',),
    },
    "pfd-table1": {"PFD-IQA": ()},
    "pfd-table2": {"PFD-IQA": ()},
    "pfd-table3": {
        "a": ("model.use_pda=false", "model.use_pdr=false"),
        "b": ("model.use_pdr=false",),
        "c": ("model.use_pda=false",),
        "d": (),
    },
    "pfd-table4": {
        "a": ("model.use_ana=false", "model.use_ppa=false"),
        "b": ("model.use_ppa=false",),
        "c": ("model.use_ana=false",),
        "d": (),
    },
    "pfd-table5": {steps: (f"model.sampling_steps={steps}",) for steps in ("1", "3", "5", "10")},
}
"""Rows that this package's own methods fill, and what they change in a recipe."""

_WITH_REFERENCES = ("bpclip-table2", "bpclip-table3")
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
        id: name of its folder, unique in a plan.
        table: id of the table, or "compare".
        row: row of the table, or name of the metric.
        metric: what is trained, or the finished metric that scores.
        weights: file of the finished metric's checkpoint, "" for the one that its name means.
        size: "paper", "lite", or "finished" where nothing is trained.
        recipe: name of the recipe; "" where nothing is trained.
        changes: `table.key=value` changes of the recipe that make the row.
        train: dataset that is trained on, "" where nothing is.
        protocol: how that dataset, or the one tested on, is split.
        split: number of the split; None for the official one and where there is none.
        targets: what is measured on.
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

    def place(self, target: Target) -> str:
        """Return the name of the column that holds the results of a target, in the form of `Cell.place`."""
        return target.dataset if self.train in ("", target.dataset) else f"{self.train}->{target.dataset}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """Read what `to_dict` gave."""
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
    """List the jobs of a table; rows that nothing here can run give none, if they are not asked for.

    Args:
        table: a table of a paper.
        rows: only these; all if empty.
        datasets: only cells tested on these; all if empty.
        splits: number of random splits.
        size: "paper" for the recipes of the paper's size, "lite" for the same jobs at lite size.
        changes: further `table.key=value` changes of all recipes, such as fewer epochs for a trial.

    Raises:
        DataError: an unknown row or dataset, or the table of costs, which is measured in another way.
    """
    if table.id == COST_TABLE:
        raise DataError(f"{table.id} is about cost; measure it with iqametrics benchmark cost")
    wanted = choose(
        datasets, [name for name in dict.fromkeys(c.dataset for c in table.cells) if name != AVERAGE], "dataset"
    )
    jobs: list[Job] = []
    for row in choose(rows, table.rows, "row"):
        cells = [cell for cell in table.cells if cell.row == row and cell.dataset in wanted]
        if is_ours(table, row):
            variant = (*_OURS[table.id][row], *changes)
            jobs += _trained(table, row, variant, cells, splits, size)
        elif (adapter := compared_row(table, row).adapter) and (rows or row not in unfilled_rows(table)):
            jobs += _finished(table, row, adapter, cells, splits)
    return jobs


def plan_comparison(
    metrics: Sequence[str], datasets: Sequence[str], part: str = "all", no_references: Sequence[str] = ()
) -> list[Job]:
    """List the jobs of a comparison of finished metrics: each metric on each dataset that it can be run on.

    Args:
        metrics: names for `create_metric`, one without a checkpoint's tag meaning the default checkpoint, or
            NAME=FILE for a checkpoint of one's own.
        datasets: names of sources.
        part: which images, as `datasets.protocol.select` reads it.
        no_references: those of the datasets on which no full-reference metric can be run.

    Raises:
        UnknownMetricError: there is no such metric or checkpoint.
    """
    from iqametrics.registry import metric_info, metric_spec

    jobs = []
    for text in dict.fromkeys(metrics):
        name, _, file = text.partition("=")
        row = f"{metric_spec(name).name}={file}" if file else metric_info(name).full_name
        full_reference = metric_spec(name).mode == "fr"
        for dataset in dict.fromkeys(datasets):
            if full_reference and dataset in no_references:
                continue
            targets = (Target(dataset=dataset, part=part),)
            metric, weights = (name, str(Path(file).resolve())) if file else (row, "")
            jobs.append(_job(COMPARE, row, metric, (), "", "8:2", None, targets, size="finished", weights=weights))
    return list({job.id: job for job in jobs}.values())


def compared_row(table: Table, row: str) -> PaperRow:
    """Give what is known of a compared method: the metric of another package that stands for it, and a caveat."""
    return paper_row(row, "fr" if table.id in _WITH_REFERENCES else "nr")


def is_ours(table: Table, row: str) -> bool:
    """Whether a row is one of this package's own methods, or a variant of one."""
    return row in _OURS.get(table.id, {})


def unfilled_rows(table: Table) -> dict[str, str]:
    """Tell why rows stay with the paper's numbers: no package has the method, or the one that has is not installed."""
    reasons = {}
    for row in table.rows:
        adapter = compared_row(table, row).adapter
        if is_ours(table, row):
            continue
        if adapter is None:
            reasons[row] = "nothing here can run it"
        elif not is_installed(adapter.partition("/")[0]):
            reasons[row] = f"{adapter} is not installed"
    return reasons


def _trained(
    table: Table, row: str, changes: tuple[str, ...], cells: Sequence[Cell], splits: int, size: Size
) -> list[Job]:
    jobs = []
    for train in dict.fromkeys(cell.train or cell.dataset for cell in cells):
        tested = dict.fromkeys(cell.dataset for cell in cells if (cell.train or cell.dataset) == train)
        targets = tuple(Target(dataset=name, part="test" if name == train else "all") for name in tested)
        protocol = _protocol(table, train)
        numbers = [None] if protocol == "official" else range(splits)
        metric = _metric(table, train)
        jobs += [_job(table.id, row, metric, changes, train, protocol, split, targets, size=size) for split in numbers]
    return jobs


def _finished(table: Table, row: str, metric: str, cells: Sequence[Cell], splits: int) -> list[Job]:
    """Plan a finished metric: on the test part of each split, or on all of a dataset that nobody trains on here."""
    jobs = []
    # Whatever the paper's method was trained on, the finished metric scores all images of a dataset once.
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
        # Names of files that differ in signs only would share a folder.
        words.insert(1, hashlib.sha256(weights.encode()).hexdigest()[:8])
    if train and [target.dataset for target in targets] != [train]:
        words.append("cross")
    words.append("official" if protocol == "official" else "all" if split is None else f"split{split:02d}")
    recipe = ""
    if train:
        recipe = f"lite/{metric}" if size == "lite" else f"paper/{metric}/{train}"
        if size == "paper" and protocol == "official":
            recipe += "-official"
    return Job(
        id="-".join(words),
        table=table,
        row=row,
        metric=metric,
        weights=weights,
        size=size,
        recipe=recipe,
        changes=changes,
        train=train,
        protocol=protocol,
        split=split,
        targets=targets,
    )


def _protocol(table: Table, train: str) -> Protocol:
    if table.protocol == "official":
        return "official"
    return "6:2:2" if table.id.startswith("bpclip") and _mode(train) == "fr" else "8:2"


def _metric(table: Table, train: str) -> str:
    return f"bpclip-{_mode(train)}" if table.id.startswith("bpclip") else "pfd-iqa"


def _mode(dataset: str) -> str:
    from iqametrics.datasets.catalogue import dataset_spec

    return dataset_spec(dataset).mode


def _slug(text: str) -> str:
    """Make a name that is safe as a folder, of a row or of a metric and the end of its file's path."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[-_LONGEST_NAME:]


def cache_folder(folder: Path) -> Path:
    """Say where the jobs of a run share the features of frozen levels: all splits of a dataset have the same images."""
    return folder.resolve() / "cache"


def overrides(job: Job, source: Source, device: str, cache: Path) -> list[str]:
    """Give the changes of a job's recipe: its data, its split, its variant, where its cache is.

    The recipes of the paper's size state shares and grouping themselves; those at lite size are for any data, so the
    protocol is put into them.
    """
    texts = [*source.overrides(), *job.changes, f'train.device="{device}"']
    if job.split is not None:
        texts.append(f"split.seed={job.split}")
    if job.size != "lite":
        return texts
    texts.append(f"cache.folder={json.dumps(str(cache))}")
    if job.protocol == "official":
        return [*texts, 'split.by="official"']
    by = "reference" if _mode(source.layout or job.train) == "fr" else "image"
    validation = 0.2 if job.protocol == "6:2:2" else 0.08
    return [*texts, f'split.by="{by}"', f"split.validation={validation}", "split.test=0.2"]


def command(job: Job, sources: Mapping[str, Source], folder: Path, device: str) -> str:
    """Write the command that does the same by hand; of a trained job, its training."""
    if job.recipe:
        source = sources.get(job.train) or Source(name=job.train, root=f"ROOT-OF-{job.train}", layout=job.train)
        words = ["iqametrics", "train", job.recipe]
        for text in overrides(job, source, device, cache_folder(folder)):
            words += ["--set", text]
        return shlex.join([*words, "--output", str(folder / "jobs" / job.id / "train"), "--resume"])
    target = job.targets[0]
    source = sources.get(target.dataset) or Source(name="", root=f"ROOT-OF-{target.dataset}", layout=target.dataset)
    data = ["--csv", source.csv] if source.csv else ["--dataset", source.layout]
    metric = f"{job.metric}={job.weights}" if job.weights else job.metric
    words = ["iqametrics", "evaluate", "--metric", metric, *data, *(["--root", source.root] if source.root else [])]
    return shlex.join([*words, "--split", target.part, "--device", device])


def image_passes(job: Job) -> int | None:
    """Count how many crops a job's training looks at, its teacher's included; None where a count is not known.

    images x share of the training part x epochs x views, with the numbers of the released dataset and of the recipe as
    the job changes it.
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
