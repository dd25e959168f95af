"""How a folder shows that `iqametrics synthesize` made it."""

import json
import os
from pathlib import Path

MADE_FILE = "MADE-LABELS.txt"
"""Stands beside a `dmos.csv` in KADID-10k's layout that `iqametrics synthesize` wrote."""
RECIPE_FILE = "recipe.json"
"""What `iqametrics synthesize` made the images from, in each of its folders."""
_RECIPE_KEYS = {"version", "seed", "crops", "references"}


def made_labels(root: str | os.PathLike[str]) -> bool:
    """Return whether `iqametrics synthesize` made this folder: its labels are no opinions of these very images."""
    return (Path(root) / MADE_FILE).is_file() or _is_recipe(Path(root) / RECIPE_FILE)


def _is_recipe(path: Path) -> bool:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # any project may have a file of this name
        return False
    return isinstance(recipe, dict) and recipe.keys() >= _RECIPE_KEYS
