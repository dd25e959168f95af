"""`iqametrics benchmark run --dry-run`: the jobs of a table, each with its command, and what they take together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iqametrics.cli.common import EXIT_OK, complain
from iqametrics.cli.output import open_rows

if TYPE_CHECKING:
    from iqametrics.benchmark.plan import Job
    from iqametrics.benchmark.planned import JobCost
    from iqametrics.datasets.labelled import LabelledImages

_COLUMNS = ("job", "data", "starts from", "crops", "hours", "command", "row", "steps", "disk GB", "memory GB")
_UNKNOWN, _NONE = "unknown", "none"


def dry_run(
    jobs: "Sequence[Job]", sources: "Mapping[str, LabelledImages]", folder: Path, device: str, *, measure: bool
) -> int:
    """Write one CSV line a job, and on stderr what all jobs take together; return the exit status.

    Args:
        jobs: The jobs.
        sources: Where the datasets are, as far as they are configured.
        folder: Folder of the run, whose finished jobs tell the hours.
        device: Device of the run.
        measure: Whether to take steps of noise with each model here; this imports torch.
    """
    from iqametrics.benchmark.plan import command, image_passes, starting_files
    from iqametrics.benchmark.run import crops_per_second

    costs = _measured(jobs, sources, folder, device) if measure else {}
    rates = crops_per_second(folder, jobs)
    crops_of = {job.id: image_passes(job) if job.recipe else None for job in jobs}
    hours = {}
    for job in jobs:
        rate, crops = rates.get((job.metric, job.size)), crops_of[job.id]
        # What finished jobs took counts more than what was measured on noise.
        if crops and rate:
            hours[job.id] = crops / rate / 3600
        elif job.id in costs:
            hours[job.id] = costs[job.id].hours
    with open_rows("csv", _COLUMNS) as writer:
        for job in jobs:
            writer.write(
                {
                    "job": job.id,
                    "data": " ".join(name if name in sources else f"{name}(missing)" for name in job.datasets),
                    "starts from": " ".join(starting_files(job)) if job.recipe else job.metric,
                    "crops": crops_of[job.id] or (_UNKNOWN if job.recipe else _NONE),
                    "hours": f"{hours[job.id]:.2f}" if job.id in hours else _UNKNOWN,
                    "command": command(job, sources, folder, device),
                    "row": job.row,
                    **_cells(job, costs.get(job.id)),
                }
            )
    complain(_together(jobs, crops_of, hours, costs))
    complain(
        "crops: images x share x epochs x views, the teacher's included. hours: by the speed of the finished jobs in "
        "the output folder, else with --measure by steps of noise on this machine, without validation"
    )
    return EXIT_OK


def _cells(job: "Job", cost: "JobCost | None") -> dict[str, object]:
    if cost is None:
        return dict.fromkeys(_COLUMNS[-3:], _UNKNOWN if job.recipe else _NONE)
    return {"steps": cost.steps, "disk GB": f"{cost.disk / 1e9:.2f}", "memory GB": f"{cost.memory / 1e9:.2f}"}


def _measured(
    jobs: "Sequence[Job]", sources: "Mapping[str, LabelledImages]", folder: Path, device: str
) -> "dict[str, JobCost]":
    from iqametrics.benchmark.planned import job_costs

    return job_costs(jobs, sources, folder, device)


def _together(
    jobs: "Sequence[Job]",
    crops: Mapping[str, int | None],
    hours: Mapping[str, float],
    costs: "Mapping[str, JobCost]",
) -> str:
    """Write the sums over all jobs; of what is not known for every training, nothing."""
    trained = [job for job in jobs if job.recipe]
    parts = [f"{len(jobs)} jobs in {len({job.row for job in jobs})} rows, {len(trained)} of them trained"]
    counted = [count for job in trained if (count := crops[job.id])]
    if trained and len(counted) == len(trained):
        parts.append(f"{sum(counted):,} crops")
    if trained and all(job.id in costs for job in trained):
        parts.append(f"{sum(costs[job.id].steps for job in trained):,} steps")
        parts.append(f"{sum(costs[job.id].disk for job in trained) / 1e9:.1f} GB of disk")
    known = [hours[job.id] for job in trained if job.id in hours]
    if trained and len(known) == len(trained):
        parts.append(f"{sum(known):,.1f} hours on one device")
    return ", ".join(parts)
