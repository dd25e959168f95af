"""Whether the scores that a run was trained on are people's opinions or were made by formulas."""

from collections.abc import Mapping
from typing import Any

from iqametrics.datasets.labelled import LabelledImages
from iqametrics.publishing.card import LABELS


def label_kind(training: object, recipe: Mapping[str, Any]) -> str | None:
    """Tell what the scores are, by the checkpoint's own record, else by the run's recipe and the folder of its data.

    Args:
        training: The table "training" of the checkpoint's metadata.
        recipe: Recipe of the run; empty where it is not known.

    Returns:
        One of `card.LABELS`; None where nothing shows it.
    """
    recorded = training.get("labels") if isinstance(training, Mapping) else None
    return recorded if recorded in LABELS else _of_recipe(recipe)


def _of_recipe(recipe: Mapping[str, Any]) -> str | None:
    """Tell from a run's recipe and the folder of its data what its scores are; None where neither shows it."""
    data = recipe.get("data")
    if not isinstance(data, Mapping):
        return None
    csv, dataset, root = (str(data.get(key) or "") for key in ("csv", "dataset", "root"))
    return LabelledImages(csv=csv, dataset=dataset, root=root).label_kind if csv or dataset else None
