"""What a finished run says of its held-out images: scores, figures, and the rule that chose the epoch."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iqametrics.evaluation import evaluate
from iqametrics.training.data import Item, RunData, relative_name
from iqametrics.training.recipe import Recipe
from iqametrics.training.resume import write_run_file
from iqametrics.training.starting import RESULTS

PREDICTIONS = "predictions.csv"


def measure(items: list[Item], scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Give the agreement of scores with the opinions, with an interval over the groups of the split."""
    groups = [item.group for item in items]
    alike = len(set(groups)) == 1
    mos = [item.sample.mos for item in items]
    measured = evaluate(scores, mos, groups=None if alike else groups).to_dict()
    # Images of one group are no sample to resample: there is a figure, but no interval.
    return measured | ({"srcc_low": None, "srcc_high": None} if alike else {})


def write_predictions(folder: Path, recipe: Recipe, data: RunData, scores: dict[str, npt.NDArray[np.float64]]) -> None:
    """Write `predictions.csv`: image,reference,part,group,mos,score of every held-out image.

    Raises:
        TrainingError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "reference", "part", "group", "mos", "score"])
    root = recipe.data.root or str(Path(recipe.data.csv).parent)
    for part, values in scores.items():
        for item, score in zip(getattr(data, part), values, strict=True):
            files = [relative_name(path, root) for path in (item.sample.image, item.sample.reference)]
            writer.writerow([*files, part, item.group, f"{item.sample.mos:.6f}", f"{score:.6f}"])
    write_run_file(folder / PREDICTIONS, text.getvalue())


def write_results(folder: Path, metadata: dict[str, Any], seconds: float) -> None:
    """Write `results.json`: the figures and what they depend on, from the checkpoint's own record.

    Args:
        folder: of the run.
        metadata: of the checkpoint.
        seconds: time that the epochs took, validation included.

    Raises:
        TrainingError: it cannot be written.
    """
    training = metadata["training"]
    record = {
        **{name: metadata[name] for name in ("metric", "tag")},
        **{name: training[name] for name in ("data", "labels", "selection", "epoch", "split")},
        "results": metadata["results"],
        **{name: training[name] for name in ("images", "commit", "changed_since_commit", "hardware", "date")},
        "seconds": round(seconds, 2),
    }
    write_run_file(folder / RESULTS, json.dumps(record, indent=1) + "\n")
