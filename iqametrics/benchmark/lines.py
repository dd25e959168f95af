"""The cells of a paper's table, each with its measured number beside the printed one and a verdict."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from iqametrics.benchmark.plan import Job, compared_row, is_ours
from iqametrics.benchmark.tables import AVERAGE, Cell, Table
from iqametrics.datasets.catalogue import dataset_spec

Verdict = Literal["within", "above", "below", "not run", "no paper value", "not comparable", ""]

ROUNDING = 0.0005
"""Half a unit of the last digit that the papers print."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One cell of a table, or one figure of a comparison.

    Attributes:
        row: Method, variant or metric.
        place: Dataset, "train->test" across datasets, or "average".
        statistic: Name of the statistic; "plcc" is that of the raw scores.
        paper: Printed number.
        paper_std: Printed standard deviation.
        measured: Mean over the splits.
        measured_std: Sample standard deviation over the splits; None for one split.
        low: Lower end of the 95% bootstrap interval, in a comparison.
        high: Upper end.
        difference: Measured minus paper.
        verdict: See `judge`.
        n: Splits that are finished.
        planned: Splits that are planned; 0 where nothing is.
        images: Images measured on, in all splits.
        after_fit: For "plcc", the mean after the four-parameter logistic curve.
        values: The figure of each split.
        fingerprints: What the metrics of the finished jobs were made with.
        selection: Rule by which the epoch was chosen.
        metric: What was trained or run, with its size.
        note: Remarks on the cell.
    """

    row: str
    place: str
    statistic: str
    paper: float | None = None
    paper_std: float | None = None
    measured: float | None = None
    measured_std: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    verdict: Verdict = ""
    n: int = 0
    planned: int = 0
    images: int = 0
    after_fit: float | None = None
    values: tuple[float, ...] = ()
    fingerprints: tuple[str, ...] = ()
    selection: str = ""
    metric: str = ""
    note: str = ""


@dataclass(frozen=True)
class Done:
    """A finished job and its result."""

    job: Job
    result: dict[str, Any]


def judge(paper: float | None, paper_std: float | None, measured: float | None, measured_std: float | None) -> Verdict:
    """Compare a measured number with a printed one.

    It is within the paper's spread if it differs by no more than the printed standard deviation plus half a unit of the
    last printed digit. Where the paper prints no deviation, that of our own splits replaces it; with a single split,
    nothing but the rounding is allowed.

    >>> judge(0.920, 0.003, 0.9171, 0.002)
    'within'
    >>> judge(0.920, None, 0.9171, 0.002)
    'below'
    """
    if measured is None:
        return "not run"
    if paper is None:
        return "no paper value"
    spread = next((std for std in (paper_std, measured_std) if std is not None), 0.0)
    difference = measured - paper
    # An exact tie must stay one in spite of the rounding of decimal fractions.
    if abs(difference) <= spread + ROUNDING + 1e-12:
        return "within"
    return "above" if difference > 0 else "below"


def table_lines(table: Table, plan: Mapping[str, Any], jobs: Sequence[Job], done: Sequence[Done]) -> list[Line]:
    """Fill the cells of a table, in its order, from the finished jobs of a run."""
    lines: dict[tuple[str, str, str], Line] = {}
    for cell in table.cells:
        if cell.dataset != AVERAGE:
            lines[cell.row, cell.place, cell.statistic] = _line(cell, table, plan, jobs, done)
    averages = [_average(cell, lines, plan) for cell in table.cells if cell.dataset == AVERAGE]
    found = {**lines, **{(line.row, line.place, line.statistic): line for line in averages}}
    return [found[cell.row, cell.place, cell.statistic] for cell in table.cells]


def _line(cell: Cell, table: Table, plan: Mapping[str, Any], jobs: Sequence[Job], done: Sequence[Done]) -> Line:
    planned = [job for job in jobs if job.row == cell.row and cell.place in _places(job, cell)]
    finished = [item for item in done if item.job in planned]
    figures = [_figures(item, cell) for item in finished]
    values = [figure[cell.statistic] for figure in figures if figure.get(cell.statistic) is not None]
    fits = [figure["plcc_logistic"] for figure in figures if figure.get("plcc_logistic") is not None]
    notes = [cell.note, "" if planned else _idle(table, cell)]
    if len(values) < len(figures):
        notes.append(f"{len(figures) - len(values)} splits have no such figure (constant scores)")
    if any(not job.recipe for job in planned):
        notes.append(_caveat(table, cell))
    unlike = _unlike_paper(planned, finished, plan) or _other_weights(table, cell, planned)
    notes.append(unlike)
    measured = statistics.fmean(values) if values else None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Line(
        row=cell.row,
        place=cell.place,
        statistic=cell.statistic,
        paper=cell.value,
        paper_std=cell.std,
        measured=measured,
        measured_std=spread,
        difference=None if measured is None or cell.value is None else measured - cell.value,
        verdict=_verdict(cell, measured, spread, comparable=not unlike),
        n=len(values),
        planned=len(planned),
        images=sum(figure["n"] for figure in figures),
        after_fit=statistics.fmean(fits) if fits and cell.statistic == "plcc" else None,
        values=tuple(values),
        fingerprints=fingerprints_of(finished),
        selection=", ".join(sorted({item.result["selection"] for item in finished})),
        metric=", ".join(sorted({f"{job.metric} ({job.size})" for job in planned})),
        note="; ".join(note for note in notes if note),
    )


def fingerprints_of(done: Sequence[Done]) -> tuple[str, ...]:
    """List what the metrics of jobs were made with, each once; runs of earlier versions do not say."""
    return tuple(dict.fromkeys(found for item in done if (found := item.result.get("fingerprint"))))


def _idle(table: Table, cell: Cell) -> str:
    """Say what could fill a cell that no job of the run fills."""
    if is_ours(table, cell.row):
        return ""
    adapter = compared_row(table, cell.row).adapter
    return f"{adapter} can run it" if adapter else "nothing here can run it"


def _caveat(table: Table, cell: Cell) -> str:
    """Say how a finished metric of another package differs from the paper's row."""
    return compared_row(table, cell.row).caveat


def _other_weights(table: Table, cell: Cell, planned: Sequence[Job]) -> str:
    """Say why a finished metric's weights are not those of the paper's cell; "" where they may be.

    The paper's method was trained on the dataset's own training part, or on the dataset that the column names.
    """
    trained_on = compared_row(table, cell.row).trained_on
    if not trained_on or all(job.recipe for job in planned):
        return ""
    if cell.dataset in trained_on:
        return f"its weights have seen images of {cell.dataset}"
    if cell.train in trained_on:
        return ""
    return f"its weights were trained on {', '.join(trained_on)}, not on {cell.train or cell.dataset}"


def _unlike_paper(planned: Sequence[Job], finished: Sequence[Done], plan: Mapping[str, Any]) -> str:
    """Say why a measured number must not be compared with the paper's; "" where it may."""
    if any(job.recipe for job in planned) and plan["size"] == "lite":
        return "a small model"
    if any(job.recipe for job in planned) and plan["changes"]:
        return "a changed recipe"
    for name in dict.fromkeys(name for job in planned for name in job.datasets):
        if plan["labels"].get(name, "human") != "human":
            return f"{name} has made labels here"
        whole = dataset_spec(name).images
        parts = {item.result["images"][name] for item in finished if name in item.result["images"]} - {whole}
        if parts:
            return f"{name} has {min(parts):,} images here, not {whole:,}"
    return ""


def _verdict(cell: Cell, measured: float | None, spread: float | None, *, comparable: bool) -> Verdict:
    verdict = judge(cell.value, cell.std, measured, spread)
    return verdict if comparable or verdict in ("not run", "no paper value") else "not comparable"


def _places(job: Job, cell: Cell) -> list[str]:
    """Return the columns that a job fills; a finished metric fills those across datasets too."""
    if job.recipe:
        return [job.place(target) for target in job.targets]
    return [cell.place for target in job.targets if target.dataset == cell.dataset]


def _figures(item: Done, cell: Cell) -> dict[str, Any]:
    figures = item.result["figures"]
    return dict(figures[cell.place] if item.job.recipe else figures[cell.dataset])


def _average(cell: Cell, lines: Mapping[tuple[str, str, str], Line], plan: Mapping[str, Any]) -> Line:
    """Fill a cell that averages its row: the mean of the numbers ("mean"), or of their spreads ("std")."""
    row = [line for line in lines.values() if line.row == cell.row]
    parts = [line.measured if cell.statistic == "mean" else line.measured_std for line in row]
    known = [part for part in parts if part is not None]
    measured = statistics.fmean(known) if len(known) == len(row) else None
    return Line(
        row=cell.row,
        place=cell.place,
        statistic=cell.statistic,
        paper=cell.value,
        measured=measured,
        difference=None if measured is None or cell.value is None else measured - cell.value,
        verdict=_average_verdict(cell, measured, row),
        n=min(line.n for line in row),
        planned=max(line.planned for line in row),
        note=cell.note,
    )


def _average_verdict(cell: Cell, measured: float | None, row: Sequence[Line]) -> Verdict:
    """Judge a mean by the mean of its cells' spreads; a spread is not judged."""
    spreads = [next((std for std in (line.paper_std, line.measured_std) if std is not None), 0.0) for line in row]
    comparable = all(line.verdict != "not comparable" for line in row)
    verdict = _verdict(cell, measured, statistics.fmean(spreads), comparable=comparable)
    return "" if cell.statistic == "std" and verdict in ("within", "above", "below") else verdict
