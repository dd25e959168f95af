"""The report of a run: what was measured, beside the paper's numbers where there are any, and how it was done.

A report is made from the plan and the results alone. It has no date and no duration, so a run that was killed and
resumed gives the same bytes as one that was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.benchmark.jobs import read_scores
from iqametrics.benchmark.lines import ROUNDING, Done, Line, fingerprints_of, table_lines
from iqametrics.benchmark.plan import COMPARE, Job
from iqametrics.benchmark.readings import reading_lines
from iqametrics.benchmark.run import PLAN, job_folder, planned_jobs, read_failure, read_plan, read_result
from iqametrics.benchmark.tables import paper_table
from iqametrics.benchmark.variants import VARIANTS, VariantLine, variant_lines
from iqametrics.errors import DataError
from iqametrics.evaluation import Comparison
from iqametrics.evaluation.measure import compare

COMPARED = ("srcc", "plcc", "plcc_logistic", "krcc")
"""Statistics that a comparison of finished metrics gives for each."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is reported of a run.

    Attributes:
        id: Table, or "compare".
        title: What it compares.
        paper: Title, venue and year; "" for a comparison.
        facts: Lines on how the run was done, in order.
        lines: The cells.
        pairs: Differences in SRCC between metrics by dataset, on human opinion only.
        failures: Jobs whose last attempt failed, with the reason.
        variants: Readings of the paper against each other, on validation parts.
    """

    id: str
    title: str
    paper: str
    facts: tuple[str, ...]
    lines: tuple[Line, ...]
    pairs: tuple[tuple[str, Comparison], ...]
    failures: tuple[str, ...]
    variants: tuple[VariantLine, ...] = ()


def make_report(folder: Path) -> Report:
    """Read a run folder.

    Raises:
        DataError: If it is not the folder of a run, or a file in it is damaged.
    """
    plan = _plan(folder)
    if VARIANTS in plan:
        raise DataError(f"{folder}: holds variants of a table's rows; give the folder of the run that they are in")
    jobs = planned_jobs(plan)
    results = {job.id: read_result(folder, job) for job in jobs}
    done = [Done(job, result) for job in jobs if (result := results[job.id]) is not None]
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
    lines = tuple(table_lines(table, plan, jobs, done))
    return Report(
        id=table.id,
        title=table.title,
        paper=table.paper,
        facts=(*facts, *_how_judged(plan), *_readings(jobs)),
        lines=lines,
        pairs=(),
        failures=failures,
        variants=tuple(variant_lines(folder, table)),
    )


def _plan(folder: Path) -> dict[str, Any]:
    """Read the plan of a run; of one that has variants alone, theirs without its jobs."""
    others = sorted((folder / VARIANTS).glob(f"*/{PLAN}"))
    if (folder / PLAN).exists() or not others:
        return read_plan(folder)
    plan = {**read_plan(others[0].parent), "jobs": []}
    del plan[VARIANTS]
    return plan


def _facts(plan: Mapping[str, Any], jobs: Sequence[Job], done: Sequence[Done]) -> list[str]:
    facts = [f"{len(done)} of {len(jobs)} jobs are finished."]
    if any(job.recipe for job in jobs):
        rules = sorted({item.result["selection"] for item in done if item.job.recipe})
        facts.append(f"Epoch chosen by: {', '.join(rules) or 'nothing trained yet'}.")
        if "best-test" in rules:
            facts.append("best-test chooses the epoch by the test part, which makes the test result too good.")
    if plan["changes"]:
        facts.append(f"RECIPES CHANGED by {', '.join(plan['changes'])}: this is not the paper's protocol.")
    if plan["size"] == "lite" and any(job.recipe for job in jobs):
        facts.append(
            "SIZE LITE: small models, not the papers' models. Their results must not be compared with a paper's."
        )
    return facts


def _hardware(done: Sequence[Done]) -> list[str]:
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


def _readings(jobs: Sequence[Job]) -> list[str]:
    """Say which reading of a silent paper each trained row takes, where its recipe has marks."""
    # Recipes of one method differ in their data alone, as do the splits.
    lines: dict[str, list[str]] = {}
    for job in {(job.row, job.recipe, job.changes): job for job in jobs if job.recipe}.values():
        for line in reading_lines(job.recipe, job.changes):
            lines.setdefault(f"{job.row} ({job.metric}): {line}", []).append(job.train)
    return [f"Not from the paper, {text} (on {', '.join(dict.fromkeys(names))})." for text, names in lines.items()]


def _compared(done: Sequence[Done], jobs: Sequence[Job]) -> list[Line]:
    results = {item.job.id: item.result for item in done}
    lines = []
    for job in jobs:
        dataset = job.targets[0].dataset
        if job.id not in results:
            lines.append(Line(row=job.row, place=dataset, statistic="srcc", verdict="not run", planned=1))
            continue
        figures = results[job.id]["figures"][dataset]
        fingerprints = fingerprints_of([item for item in done if item.job.id == job.id])
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
                    fingerprints=fingerprints,
                )
            )
    return lines


def _human(plan: Mapping[str, Any]) -> list[str]:
    return [name for name, kind in plan["labels"].items() if kind == "human"]


def _training_data(done: Sequence[Done]) -> list[str]:
    """Say what the metrics were trained on: results on images that a metric has seen say little."""
    known = {item.job.row: item.result.get("trained_on") or [] for item in done}
    return [
        f"{row} was trained on images of {', '.join(data)}; results on images that it has seen say little."
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


def _pairs(folder: Path, dataset: str, done: Sequence[Done]) -> list[Comparison]:
    """Compare every two metrics; none if they scored different images of the dataset."""
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
