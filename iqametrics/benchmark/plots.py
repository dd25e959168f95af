"""Scatter plots of score against opinion, one a job and dataset; needs matplotlib, the extra [report]."""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iqametrics.benchmark.jobs import read_scores
from iqametrics.benchmark.plan import Job
from iqametrics.benchmark.run import job_folder, planned_jobs, read_plan, read_result
from iqametrics.errors import MissingExtraError


def scatter_plots(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Plot the scores of a run's finished jobs against the opinions.

    Args:
        folder: Folder of the run.

    Yields:
        Name, caption and PNG of each plot; the same run gives the same bytes with the same matplotlib.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        DataError: If the run cannot be read.
    """
    plan = read_plan(folder)
    for job in planned_jobs(plan):
        if read_result(folder, job) is None:
            continue
        rows = read_scores(job_folder(folder, job))
        for dataset in dict.fromkeys(row["dataset"] for row in rows):
            points = [(row["mos"], row["score"]) for row in rows if row["dataset"] == dataset]
            kind = "opinion score" if plan["labels"].get(dataset) == "human" else "made label"
            place = next((job.place(target) for target in job.targets if target.dataset == dataset), dataset)
            yield f"{job.id}-on-{dataset}", _caption(job, place, len(points)), _scatter(points, job, place, kind)


def address(png: bytes) -> str:
    """Return a PNG as a `data:` address, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _caption(job: Job, place: str, images: int) -> str:
    split = "" if job.split is None else f", split {job.split}"
    return f"{job.row} ({job.size}) on {place}{split}: {images} images"


def _scatter(points: Sequence[tuple[float, float]], job: Job, place: str, kind: str) -> bytes:
    figure_class = _figure_class()
    figure = figure_class(figsize=(4, 3.2), dpi=100, layout="tight")
    axes: Any = figure.add_subplot()
    axes.scatter(*zip(*points, strict=True), s=6, alpha=0.5, linewidths=0)
    axes.set_xlabel(f"{kind} (0 worst, 1 best)")
    axes.set_ylabel("score, higher is better")
    axes.set_title(f"{job.row} on {place}", fontsize=9)
    stream = io.BytesIO()
    # Otherwise the file would state the version of matplotlib.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('plots need matplotlib: pip install "iqametrics[report]"') from error
    return Figure
