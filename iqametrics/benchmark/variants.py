"""The readings of a silent paper against each other, on a validation part; no torch.

A variant is a job of the table with one value of each chosen field, trained without a look at the test part and
measured on the validation part. Variants lie in a folder of their own beside the table's jobs, which they never fill:

RUN/variants/FIELDS/plan.json, RUN/variants/FIELDS/jobs/ID/...
"""

import hashlib
import itertools
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iqametrics.benchmark.plan import Job, Target
from iqametrics.benchmark.readings import value_of
from iqametrics.benchmark.run import planned_jobs, read_plan, read_result
from iqametrics.benchmark.tables import Table
from iqametrics.errors import DataError
from iqametrics.training.recipes import apply_overrides, find_recipe, read_tables

VARIANTS = "variants"
"""Name of the variants' folder in that of the run, and key of their plan."""

_PART = "validation"
_WITHHELD = "split.withhold_test=true"
_FIELD = re.compile(r"(model|init|sizing|train|teacher)(\.\w+)+")
_STATISTICS = ("srcc", "plcc")
_LONGEST = 60


@dataclass(frozen=True, kw_only=True)
class VariantLine:
    """One reading of a row on one dataset.

    Attributes:
        row: Row of the table.
        dataset: Dataset that is trained on, and whose validation part is measured on.
        statistic: "srcc" or "plcc".
        reading: Values of the chosen fields, "FIELD=value".
        in_table: Whether the table's row takes this reading.
        paper: The number that the paper prints, of its test part; None where it prints none.
        measured: Mean over the splits, of the validation part.
        spread: Sample standard deviation over the splits; None for one.
        n: Splits that are finished.
        planned: Splits that are planned.
    """

    row: str
    dataset: str
    statistic: str
    reading: str
    in_table: bool
    paper: float | None
    measured: float | None
    spread: float | None
    n: int
    planned: int


def read_choices(texts: Sequence[str]) -> dict[str, list[str]]:
    """Read `FIELD=a,b` options: the values of each field, as they are written.

    Raises:
        DataError: If one is not of that form, or has fewer than two values.

    >>> read_choices(["model.similarity=softmax,pairs"])
    {'model.similarity': ['softmax', 'pairs']}
    """
    choices: dict[str, list[str]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not _FIELD.fullmatch(field):
            raise DataError(
                f"--variants {text}: write FIELD=a,b with a field of [model], [train], [sizing], [init] or [teacher], "
                "such as model.similarity=softmax,pairs"
            )
        # A comma within brackets belongs to a list.
        found = list(dict.fromkeys(part.strip() for part in re.split(r",(?![^\[]*\])", values) if part.strip()))
        if len(found) < 2 or field in choices:
            raise DataError(f"--variants {text}: give each field once, with two values or more")
        choices[field] = found
    return choices


def variants_folder(folder: Path, choices: Mapping[str, Sequence[str]]) -> Path:
    """Return the folder of the variants of some fields in that of a run."""
    name = "+".join(sorted(choices))
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return folder / VARIANTS / name


def variant_jobs(jobs: Sequence[Job], choices: Mapping[str, Sequence[str]]) -> list[Job]:
    """Give each training of a table one job for each combination of values.

    Raises:
        DataError: If none of the jobs trains anything.
    """
    # A training that several columns are tested on is one, whatever it is tested on there.
    trained = {(job.row, job.train, job.split, job.protocol): job for job in jobs if job.recipe}
    if not trained:
        raise DataError("--variants: none of these rows is trained here; choose --rows that are")
    found = []
    for job in trained.values():
        for values in itertools.product(*choices.values()):
            changes = tuple(f"{field}={value}" for field, value in zip(choices, values, strict=True))
            found.append(
                replace(
                    job,
                    id=f"{job.id}-{_name(changes)}",
                    changes=(*job.changes, *changes, _WITHHELD),
                    targets=(Target(dataset=job.train, part=_PART),),
                )
            )
    return found


def _name(changes: Sequence[str]) -> str:
    """Name a combination by its values, and by a digest where they say too little or too much."""
    words = re.sub(r"[^a-z0-9.]+", "-", "-".join(change.partition("=")[2] for change in changes).lower()).strip("-.")
    return f"{words[:_LONGEST]}-{hashlib.sha256(repr(changes).encode()).hexdigest()[:6]}"


def variant_lines(folder: Path, table: Table) -> list[VariantLine]:
    """Read the variants of a run: one line for each row, dataset, reading and statistic.

    Raises:
        DataError: If a file is damaged.
    """
    lines = []
    for plan_file in sorted((folder / VARIANTS).glob("*/plan.json")):
        plan = read_plan(plan_file.parent)
        fields = list(plan.get(VARIANTS, {}))
        groups: dict[tuple[str, str, tuple[str, ...]], list[Job]] = {}
        for job in planned_jobs(plan):
            groups.setdefault((job.row, job.train, job.changes), []).append(job)
        for jobs in groups.values():
            lines += _lines(plan_file.parent, table, jobs, fields)
    return lines


def _lines(folder: Path, table: Table, jobs: Sequence[Job], fields: Sequence[str]) -> list[VariantLine]:
    job = jobs[0]
    results = [result for job in jobs if (result := read_result(folder, job)) is not None]
    reading = list(job.changes[-len(fields) - 1 : -1])
    lines = []
    for statistic in _STATISTICS:
        found = [result["figures"][job.train][statistic] for result in results]
        values = [value for value in found if value is not None]
        lines.append(
            VariantLine(
                row=job.row,
                dataset=job.train,
                statistic=statistic,
                reading=", ".join(reading),
                in_table=_is_the_tables(job, fields),
                paper=_printed(table, job, statistic),
                measured=statistics.fmean(values) if values else None,
                spread=statistics.stdev(values) if len(values) > 1 else None,
                n=len(values),
                planned=len(jobs),
            )
        )
    return lines


def _is_the_tables(job: Job, fields: Sequence[str]) -> bool:
    """Tell whether the table's own row has these values."""
    base = read_tables(find_recipe(job.recipe))
    before = apply_overrides(base, job.changes[: -len(fields) - 1])
    after = apply_overrides(base, job.changes)
    return all(value_of(before, field) == value_of(after, field) for field in fields)


def _printed(table: Table, job: Job, statistic: str) -> float | None:
    cells: list[Any] = [
        cell.value
        for cell in table.cells
        if (cell.row, cell.place, cell.statistic) == (job.row, job.train, statistic) and cell.value is not None
    ]
    return cells[0] if cells else None
