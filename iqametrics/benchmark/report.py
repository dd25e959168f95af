"""What a run folder says: the paper's number beside the measured one, and a verdict.

A report is made from the plan and the results alone. It holds no date and no duration, so a run that was killed and
resumed gives the same bytes as one that was not.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iqametrics.benchmark.jobs import read_scores
from iqametrics.benchmark.plan import COMPARE, Job, compared_row, is_ours
from iqametrics.benchmark.run import job_folder, planned_jobs, read_failure, read_plan, read_result
from iqametrics.benchmark.tables import AVERAGE, Cell, Table, paper_table
from iqametrics.datasets.catalogue import dataset_spec
from iqametrics.evaluation import Comparison
from iqametrics.evaluation.measure import compare

Verdict = Literal["within", "above", "below", "not run", "no paper value", "not comparable", ""]

ROUNDING = 0.0005
"""Half a unit of the last digit that the papers print."""
COMPARED = ("srcc", "plcc", "plcc_logistic", "krcc")
"""What a comparison of finished metrics tells of each."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One cell of a table, or one figure of a comparison.

    Attributes:
        row: method, variant or metric.
        place: dataset, "train->test" across datasets, or "average".
        statistic: "plcc" is of the raw scores.
        paper: printed number.
        paper_std: printed standard deviation.
        measured: mean over the splits.
        measured_std: sample standard deviation over the splits; None for one split.
        low: lower end of the 95% bootstrap interval, in a comparison.
        high: upper end.
        difference: measured minus paper.
        verdict: see `judge`.
        n: splits that are finished.
        planned: splits that are planned; 0 where nothing is.
        images: images measured on, in all splits.
        after_fit: for "plcc", the mean after the four-parameter logistic curve.
        selection: rule by which the epoch was chosen.
        metric: what was trained or run, with its size.
        note: what is to be known of the cell.
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
    selection: str = ""
    metric: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is reported of a run.

    Attributes:
        id: table, or "compare".
        title: what it compares.
        paper: title, venue and year; "" for a comparison.
        facts: lines on how it was done, in order.
        lines: the cells.
        pairs: differences in SRCC between metrics by dataset, on human opinion only.
        failures: jobs that failed last, with the reason.
    """

    id: str
    title: str
    paper: str
    facts: tuple[str, ...]
    lines: tuple[Line, ...]
    pairs: tuple[tuple[str, Comparison], ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class _Done:
    job: Job
    result: dict[str, Any]


def judge(paper: float | None, paper_std: float | None, measured: float | None, measured_std: float | None) -> Verdict:
    """Compare a measured number with a printed one.

    It is within the paper's spread if it differs by no more than the printed standard deviation, plus half a unit of
    the last printed digit. Where the paper prints none, the standard deviation of our own splits stands for it, and
    with a single split nothing but the rounding is allowed.

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
    # The sum of decimal fractions must not turn an exact tie into a finding.
    if abs(difference) <= spread + ROUNDING + 1e-12:
        return "within"
    return "above" if difference > 0 else "below"


def make_report(folder: Path) -> Report:
    """Read a run folder.

    Raises:
        DataError: it is none, or a file in it is damaged.
    """
    plan = read_plan(folder)
    jobs = planned_jobs(plan)
    results = {job.id: read_result(folder, job) for job in jobs}
    done = [_Done(job, result) for job in jobs if (result := results[job.id]) is not None]
    failures = tuple(f"{job.id}: {reason}" for job in jobs if (reason := read_failure(folder, job)) is not None)
    facts = [*_facts(plan, jobs, done), *_hardware(done)]
    if plan["table"] == COMPARE:
        pairs = tuple((name, pair) for name in _human(plan) for pair in _pairs(folder, name, done))
        facts += [*_training_data(done), *_circular(plan)]
        lines = tuple(_compared(done, jobs))
        return Report(
            id=COMPARE,
            title="Metrics compared",
            paper="",
            facts=tuple(facts),
            lines=lines,
            pairs=pairs,
            failures=failures,
        )
    table = paper_table(plan["table"])
    if table.protocol == "cross":
        facts.append(
            "Across datasets: trained on the training part of a split of the one (the papers name no part), measured "
            "on all images of the other."
        )
    lines = tuple(_lines(table, plan, jobs, done))
    return Report(
        id=table.id,
        title=table.title,
        paper=table.paper,
        facts=(*facts, *_how_judged(plan)),
        lines=lines,
        pairs=(),
        failures=failures,
    )


def _facts(plan: Mapping[str, Any], jobs: Sequence[Job], done: Sequence[_Done]) -> list[str]:
    facts = [f"{len(done)} of {len(jobs)} jobs are finished."]
    if any(job.recipe for job in jobs):
        rules = sorted({item.result["selection"] for item in done if item.job.recipe})
        facts.append(f"Epoch chosen by: {', '.join(rules) or 'nothing trained yet'}.")
        if "best-test" in rules:
            facts.append("best-test chooses the epoch by the test part, which makes the test figure too good.")
    if plan["changes"]:
        facts.append(f"RECIPES CHANGED by {', '.join(plan['changes'])}: this is not the paper's protocol.")
    if plan["size"] == "lite" and any(job.recipe for job in jobs):
        facts.append(
            "SIZE LITE: small models, not the papers' models. Their figures must not be compared with a paper's."
        )
    return facts


def _hardware(done: Sequence[_Done]) -> list[str]:
    found = set()
    for item in done:
        result = item.result
        commit = result["commit"] or "no commit (installed package)"
        changed = " with changes that are not committed" if result["changed_since_commit"] else ""
        hardware, packages = result["hardware"], result["packages"]
        versions = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
        found.add(
            f"Commit {commit}{changed}; {hardware['gpu'] or 'no GPU'}, {hardware['machine']}, {hardware['cpus']} "
            f"processors, {hardware['system']}; Python {result['python']}, {versions}."
        )
    return sorted(found)


def _how_judged(plan: Mapping[str, Any]) -> list[str]:
    made = [name for name, kind in plan["labels"].items() if kind != "human"]
    return [
        "plcc is of the raw scores, since the papers name no fit; beside it stands the mean after a logistic fit.",
        "Measured: mean ± sample standard deviation over the splits. Within: no further from the paper's number than "
        f"its printed standard deviation (where none is printed, ours over the splits) plus {ROUNDING} for rounding.",
        *([f"Made labels, not human opinion: {', '.join(made)}."] if made else []),
    ]


def _lines(table: Table, plan: Mapping[str, Any], jobs: Sequence[Job], done: Sequence[_Done]) -> list[Line]:
    lines: dict[tuple[str, str, str], Line] = {}
    for cell in table.cells:
        if cell.dataset != AVERAGE:
            lines[cell.row, cell.place, cell.statistic] = _line(cell, table, plan, jobs, done)
    averages = [_average(cell, lines, plan) for cell in table.cells if cell.dataset == AVERAGE]
    found = {**lines, **{(line.row, line.place, line.statistic): line for line in averages}}
    return [found[cell.row, cell.place, cell.statistic] for cell in table.cells]


def _line(cell: Cell, table: Table, plan: Mapping[str, Any], jobs: Sequence[Job], done: Sequence[_Done]) -> Line:
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
        selection=", ".join(sorted({item.result["selection"] for item in finished})),
        metric=", ".join(sorted({f"{job.metric} ({job.size})" for job in planned})),
        note="; ".join(note for note in notes if note),
    )


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

    A cell is of a method trained on the dataset's training part, or on the dataset named in its column.
    """
    trained_on = compared_row(table, cell.row).trained_on
    if not trained_on or all(job.recipe for job in planned):
        return ""
    if cell.dataset in trained_on:
        return f"its weights have seen images of {cell.dataset}"
    if cell.train in trained_on:
        return ""
    return f"its weights were trained on {', '.join(trained_on)}, not on {cell.train or cell.dataset}"


def _unlike_paper(planned: Sequence[Job], finished: Sequence[_Done], plan: Mapping[str, Any]) -> str:
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
    """Give the columns that a job fills; a finished metric fills those across datasets too."""
    if job.recipe:
        return [job.place(target) for target in job.targets]
    return [cell.place for target in job.targets if target.dataset == cell.dataset]


def _figures(item: _Done, cell: Cell) -> dict[str, Any]:
    figures = item.result["figures"]
    return dict(figures[cell.place] if item.job.recipe else figures[cell.dataset])


def _average(cell: Cell, lines: Mapping[tuple[str, str, str], Line], plan: Mapping[str, Any]) -> Line:
    """Fill a column over all others: the mean of the numbers ("mean"), or of their spreads ("std")."""
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
    """Judge a mean by the mean of the spreads that its cells are judged by; a spread is not judged."""
    spreads = [next((std for std in (line.paper_std, line.measured_std) if std is not None), 0.0) for line in row]
    comparable = all(line.verdict != "not comparable" for line in row)
    verdict = _verdict(cell, measured, statistics.fmean(spreads), comparable=comparable)
    return "" if cell.statistic == "std" and verdict in ("within", "above", "below") else verdict


def _compared(done: Sequence[_Done], jobs: Sequence[Job]) -> list[Line]:
    results = {item.job.id: item.result for item in done}
    lines = []
    for job in jobs:
        dataset = job.targets[0].dataset
        if job.id not in results:
            lines.append(Line(row=job.row, place=dataset, statistic="srcc", verdict="not run", planned=1))
            continue
        figures = results[job.id]["figures"][dataset]
        for name in COMPARED:
            lines.append(
                Line(
                    row=job.row,
                    place=dataset,
                    statistic=name,
                    measured=figures[name],
                    low=figures["srcc_low"] if name == "srcc" else None,
                    high=figures["srcc_high"] if name == "srcc" else None,
                    n=1,
                    planned=1,
                    images=figures["n"],
                )
            )
    return lines


def _human(plan: Mapping[str, Any]) -> list[str]:
    return [name for name, kind in plan["labels"].items() if kind == "human"]


def _training_data(done: Sequence[_Done]) -> list[str]:
    """Say what the metrics were trained on: a figure on images that a metric has seen says little."""
    known = {item.job.row: item.result.get("trained_on") or [] for item in done}
    return [
        f"{row} was trained on images of {', '.join(data)}; on images that it has seen its figures say little."
        for row, data in known.items()
        if data
    ]


def _circular(plan: Mapping[str, Any]) -> list[str]:
    made = [name for name, kind in plan["labels"].items() if kind != "human"]
    if not made:
        return []
    return [
        f"No significance on {', '.join(made)}: its labels are made, not human opinion of these images. Where metrics "
        "took part in making them, a ranking against those metrics is circular."
    ]


def _pairs(folder: Path, dataset: str, done: Sequence[_Done]) -> list[Comparison]:
    """Compare each two metrics that scored the same images of a dataset."""
    rows = {item.job.row: _scores(folder, item.job, dataset) for item in done if dataset in item.job.datasets}
    images = [list(found) for found in rows.values()]
    if len(rows) < 2 or any(names != images[0] for names in images):
        return []
    first = next(iter(rows.values()))
    return compare(
        {name: [row["score"] for row in found.values()] for name, found in rows.items()},
        [row["mos"] for row in first.values()],
        groups=[str(row["group"]) for row in first.values()],
    )


def _scores(folder: Path, job: Job, dataset: str) -> dict[str, dict[str, Any]]:
    rows = read_scores(job_folder(folder, job))
    return {row["image"]: row for row in rows if row["dataset"] == dataset}
