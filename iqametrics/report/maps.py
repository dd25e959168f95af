"""Explanation maps as pictures that a page lays over the picture that they explain."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.errors import IqaError
from iqametrics.report.pictures import data_address
from iqametrics.report.records import Picture

if TYPE_CHECKING:
    from torch import Tensor

    from iqametrics.metric import Metric

_LONGEST_SIDE = 160


def worst(pictures: Sequence[Picture], metric: str, count: int, *, higher_is_better: bool) -> list[Picture]:
    """Choose the worst pictures by a metric."""
    scored = [picture for picture in pictures if metric in picture.scores]
    scored.sort(key=lambda picture: picture.scores[metric], reverse=not higher_is_better)
    return scored[:count]


def explained(
    metrics: "Sequence[Metric]", pictures: Sequence[Picture], count: int, root: Path
) -> dict[str, list[dict[str, Any]]]:
    """Explain the worst pictures of each metric that has explanations.

    A metric has them if it has a method `explain` whose result has a method `maps`: maps (H, W) over the whole
    picture, by name.

    Args:
        metrics: The metrics.
        pictures: The pictures that they have scored.
        count: Number of pictures of each metric.
        root: Folder that the paths are relative to.

    Returns:
        For each picture's path its maps: metric, name, least and greatest value, and the map as a `data:` address.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for metric in metrics:
        if not hasattr(metric, "explain"):
            continue
        for picture in worst(pictures, metric.full_name, count, higher_is_better=metric.higher_is_better):
            try:
                maps = _maps(metric, picture, root)
            except IqaError:  # a frame of a video, or a file that has gone
                continue
            found.setdefault(picture.image, []).extend(
                {"metric": metric.full_name, "name": name, **_drawn(values)} for name, values in maps.items()
            )
    return found


def _maps(metric: Any, picture: Picture, root: Path) -> "Mapping[str, Tensor]":
    files = [picture.image, *([picture.reference] if metric.mode == "fr" and picture.reference else [])]
    explanation = metric.explain(*(str(root / file) for file in files))
    maps: Mapping[str, Tensor] = explanation.maps() if hasattr(explanation, "maps") else {}
    return maps


def _drawn(values: "Tensor") -> dict[str, Any]:
    from PIL import Image

    from iqametrics.images.show import extent, map_pixels

    low, high = extent(values)
    picture = Image.fromarray(map_pixels(values))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return {"low": low, "high": high, "png": data_address(stream.getvalue(), "image/png")}
