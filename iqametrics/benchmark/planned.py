"""What the jobs of a run take, from the plans of their trainings, each model measured once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iqametrics.benchmark.plan import Job, cache_folder, overrides, unlisted
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.training.planning import Plan, plan_run
from iqametrics.training.recipe import read_recipe
from iqametrics.training.recipes import find_recipe
from iqametrics.training.step_cost import StepCost


@dataclass(frozen=True, kw_only=True)
class JobCost:
    """What a job takes, its teacher's training included.

    Attributes:
        steps: Steps of the optimiser.
        hours: Hours of the training, without validation.
        disk: Bytes that its folder takes at most.
        memory: Bytes of the larger of its steps.
    """

    steps: int
    hours: float
    disk: int
    memory: int


def job_costs(
    jobs: Sequence[Job], sources: Mapping[str, LabelledImages], folder: Path, device: str
) -> dict[str, JobCost]:
    """Plan the trained jobs, by their ids; of datasets that are not configured by the published numbers.

    Raises:
        RecipeError: If a recipe has an impossible value.
        DataError: If a configured dataset cannot be read.
    """
    steps: dict[str, StepCost] = {}
    found: dict[tuple[str, ...], JobCost] = {}
    costs = {}
    for job in jobs:
        if not job.recipe:
            continue
        # The splits of a dataset differ in their seed alone.
        key = (job.recipe, job.train, *job.changes)
        if key not in found:
            source = sources.get(job.train) or unlisted(job.train)
            recipe = read_recipe(find_recipe(job.recipe), overrides(job, source, device, cache_folder(folder)))
            found[key] = _sum(plan_run(recipe, published=job.train not in sources, measured=steps))
        costs[job.id] = found[key]
    return costs


def _sum(plans: Sequence[Plan]) -> JobCost:
    return JobCost(
        steps=sum(plan.work.steps for plan in plans),
        hours=sum(plan.hours or 0.0 for plan in plans),
        disk=sum(plan.size.disk for plan in plans),
        memory=max(plan.memory or 0 for plan in plans),
    )
