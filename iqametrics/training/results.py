"""What a finished run says of its held-out images: scores, figures, and the rule that chose the epoch."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iqametrics.datasets.labelled import LabelledImages
from iqametrics.evaluation.measure import measure
from iqametrics.training.data import RunData, RunImage
from iqametrics.training.recipe import Recipe
from iqametrics.training.resume import write_run_file
from iqametrics.training.starting import RESULTS

PREDICTIONS = "predictions.csv"


def measure_part(
    images: LabelledImages, part: list[RunImage], scores: npt.NDArray[np.float64]
) -> dict[str, int | float | bool | None]:
    """Measure the agreement of scores with opinions on a held-out part of the run's main images."""
    samples = [item.sample for item in part]
    return measure(scores.tolist(), [sample.mos for sample in samples], groups=images.interval_groups(samples))


def write_predictions(folder: Path, recipe: Recipe, data: RunData, scores: dict[str, npt.NDArray[np.float64]]) -> None:
    """Write `predictions.csv`: image,reference,part,group,mos,score of every held-out image.

    Raises:
        TrainingError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "reference", "part", "group", "mos", "score"])
    images = recipe.data.images
    for part, values in scores.items():
        samples = [item.sample for item in getattr(data, part)]
        for sample, group, score in zip(samples, images.interval_groups(samples), values, strict=True):
            files = [images.name_of(path) for path in (sample.image, sample.reference)]
            writer.writerow([*files, part, group, f"{sample.mos:.6f}", f"{score:.6f}"])
    write_run_file(folder / PREDICTIONS, text.getvalue())


def write_results(folder: Path, metadata: dict[str, Any], seconds: float) -> None:
    """Write `results.json`: the figures and what they depend on, from the checkpoint's own record.

    Args:
        folder: Folder of the run.
        metadata: Metadata of the checkpoint.
        seconds: Time that the epochs took, validation included.

    Raises:
        TrainingError: If it cannot be written.
    """
    training = metadata["training"]
    record = {
        **{name: metadata[name] for name in ("metric", "tag")},
        **{name: training[name] for name in ("data", "labels", "selection", "epoch", "split")},
        "seed": training["settings"]["seed"],
        "results": metadata["results"],
        **{name: training[name] for name in ("images", "commit", "changed_since_commit", "hardware", "date")},
        "seconds": round(seconds, 2),
    }
    write_run_file(folder / RESULTS, json.dumps(record, indent=1) + "\n")


def figures(folder: Path) -> list[dict[str, Any]]:
    """Read the figures of each held-out part of a finished run, one record a part; none where it is no finished run."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["results"]
        return [{"part": part, **of_part} for part, of_part in results.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
