"""Whether the scores that a run was trained on are people's opinions or were made by formulas."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iqametrics.datasets.kadid10k import MADE_FILE
from iqametrics.datasets.synthetic import LABELS_FILE, RECIPE_FILE
from iqametrics.publishing.card import LABELS


def label_kind(training: object, recipe: Mapping[str, Any]) -> str | None:
    """Tell what the scores are, by the checkpoint's own record, else by the run's recipe and the folder of its data.

    Args:
        training: The table "training" of the checkpoint's metadata.
        recipe: Of the run; empty where it is not known.

    Returns:
        One of `card.LABELS`; None where it does not show.
    """
    recorded = training.get("labels") if isinstance(training, Mapping) else None
    return recorded if recorded in LABELS else _of_recipe(recipe)


def _of_recipe(recipe: Mapping[str, Any]) -> str | None:
    """Tell from a run's recipe and the folder of its data what its scores are; None where that does not show."""
    data = recipe.get("data")
    if not isinstance(data, Mapping):
        return None
    file = Path(str(data.get("csv") or ""))
    folder = Path(str(data.get("root") or "")) if data.get("dataset") else file.parent
    # `iqametrics synthesize` leaves its own recipe beside the labels, and a mark where they look like KADID-10k's.
    if (folder / MADE_FILE).is_file() or (file.name == LABELS_FILE and (folder / RECIPE_FILE).is_file()):
        return "made"
    # The datasets that the package knows are scored by people; but a folder that is gone may have been a made one.
    return "human" if data.get("dataset") and data.get("root") and folder.is_dir() else None
