"""`iqametrics train --plan`: what a run will do and cost, before anything is fetched or written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.cli.common import EXIT_OK

if TYPE_CHECKING:
    from iqametrics.training.planning import Plan

_LABEL_WIDTH = 12


def show_plan(
    name: str | Path, overrides: Sequence[str], data: Mapping[str, Any] | None, *, splits: int | None, as_json: bool
) -> int:
    """Print the plan of a recipe and return the exit status.

    Args:
        name: The recipe, see `read_recipe`.
        overrides: Changes of it.
        data: Replacement of its table [data].
        splits: Number of splits that are to be trained; None for one run.
        as_json: Whether to print JSON.
    """
    from iqametrics.training.planning import plan_run
    from iqametrics.training.recipe import read_recipe

    absent = _without_root(name, overrides, data)
    recipe = read_recipe(name, [*overrides, *absent], data)
    plans = plan_run(recipe, published=bool(absent))
    if as_json:
        print(json.dumps({"splits": splits or 1, "runs": [plan.to_dict() for plan in plans]}, indent=2))
        return EXIT_OK
    for plan in plans:
        title = plan.metric + (", trained first" if plan is not plans[-1] else "")
        print(title + (f"; each of {splits} splits" if splits else ""))
        for label, text in plan_lines(plan):
            print(f"  {label:{_LABEL_WIDTH}} {text}")
    return EXIT_OK


def _without_root(name: str | Path, overrides: Sequence[str], data: Mapping[str, Any] | None) -> list[str]:
    """Return what stands in for the folder of a dataset that the recipe names without one; [] where nothing has to."""
    from iqametrics.training.recipes import apply_overrides, find_recipe, read_tables

    tables = read_tables(find_recipe(name))
    found = apply_overrides(tables if data is None else {**tables, "data": dict(data)}, overrides).get("data", {})
    missing = isinstance(found, dict) and found.get("dataset") and not found.get("root")
    return [f"data.root=ROOT-OF-{found['dataset']}"] if missing else []


def plan_lines(plan: "Plan") -> list[tuple[str, str]]:
    """Write a plan as labels and texts."""
    work, size, step = plan.work, plan.size, plan.step
    parts = ", ".join(f"{count:,} {part}" for part, count in work.images.items() if count)
    lines = [
        ("images", parts + (" (published numbers; no data here)" if work.published else "")),
        ("steps", f"{work.steps:,}: {work.epochs} epochs of {work.steps_per_epoch:,} steps, {work.crops:,} crops each"),
        ("parameters", f"{size.trained / 1e6:.2f} M trained, {size.frozen / 1e6:.2f} M frozen"),
        ("reading", _reading(plan)),
        (
            "disk",
            f"{amount(size.disk)}: states {amount(2 * size.state + size.best)}, checkpoint {amount(size.checkpoint)}",
        ),
    ]
    if step is None or plan.memory is None or plan.hours is None:
        return lines
    fixed = ", ".join(
        f"{what} {amount(count)}"
        for what, count in (
            ("activations", step.activations),
            ("weights", size.weights),
            ("gradients", size.gradients),
            ("optimiser", size.optimiser),
            ("average", size.average),
        )
        if count
    )
    return [
        *lines,
        ("memory", f"{amount(plan.memory)} at batch {work.batch}: {fixed}; workspace comes on top"),
        ("operations", f"{step.flops / 1e12:.3g} TFLOP a step, {step.flops * work.steps / 1e15:.3g} PFLOP in all"),
        ("speed", _speed(plan, step.seconds)),
    ]


def _reading(plan: "Plan") -> str:
    reading = plan.reading
    if reading is None:
        return "unknown without the data"
    text = (
        f"{reading.seconds * 1e3:.0f} ms a file ({reading.sampled} read), {reading.hours_per_epoch:.2f} h an epoch; "
        f"pixels of all {plan.work.files:,} files {amount(reading.pixels)}"
    )
    return text + (f", feature cache {amount(reading.features)}" if reading.features is not None else "")


def _speed(plan: "Plan", seconds: float) -> str:
    step = plan.step
    assert step is not None
    hours = f"{plan.hours:,.1f} h without validation"
    scaled = f", scaled to {plan.work.batch}" if step.measured_images < plan.work.batch else ""
    return (
        f"{1 / seconds:.3g} steps a second, {hours} (measured on this {step.device} with "
        f"{step.measured_images} images{scaled})"
    )


def amount(count: int) -> str:
    """Write a number of bytes.

    >>> amount(5_891_999_876)
    '5.9 GB'
    """
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
