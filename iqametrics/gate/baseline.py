"""An earlier run of `score` as the baseline that a new one must not fall behind."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.common.files import read_text
from iqametrics.errors import DataError, InputError
from iqametrics.gate.pairing import pair_names

MEAN = "mean"


@dataclass(frozen=True)
class AllowedDrop:
    """How far scores may fall behind the baseline.

    Attributes:
        picture: Largest drop of one picture, in units of the score; None for any.
        mean: Largest drop of the average; None for any.
    """

    picture: float | None = None
    mean: float | None = None


class Baseline:
    """Scores of an earlier run, by metric and picture.

    Args:
        scores: For each metric, by the name with its checkpoint's tag, the scores by path.
    """

    def __init__(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.scores = scores

    def check(self, metrics: Sequence[str]) -> None:
        """Make sure that the baseline has scores of the metrics.

        Raises:
            DataError: If it has none of one of them.
        """
        for metric in metrics:
            if metric not in self.scores:
                known = ", ".join(sorted(self.scores)) or "none"
                raise DataError(f"the baseline has no scores of {metric}; it has scores of {known}")

    def paired(self, metric: str, images: Iterable[str]) -> dict[str, float]:
        """Return the earlier scores of the pictures that have one, by the new run's path (see `pair_names`)."""
        earlier = self.scores[metric]
        return {new: earlier[old] for new, old in pair_names(images, earlier).items()}


def read_allowed_drop(texts: Sequence[str]) -> AllowedDrop:
    """Read the values of `--fail-drop`: `X` for every picture, `mean=X` for the average.

    Raises:
        InputError: If a value has neither form, or is negative.

    Examples:
        >>> read_allowed_drop(["0.02", "mean=0.005"])
        AllowedDrop(picture=0.02, mean=0.005)
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not value >= 0 or math.isinf(value) or (equals and name != MEAN):
            raise InputError(f"--fail-drop {text}: write it as 0.02 (every picture) or mean=0.005 (the average)")
        found[name or "picture"] = value
    return AllowedDrop(**found)


def read_baseline(path: Path) -> Baseline:
    """Read what `score` wrote: JSON, JSON Lines or CSV.

    Raises:
        DataError: If the file cannot be read, or has no scores in it.
    """
    # Names that are not UTF-8 are written, and read back, byte by byte.
    text = read_text(path, error=DataError, errors="surrogateescape")
    scores: dict[str, dict[str, float]] = {}
    for row in parse_rows(text, path):
        if row.get("score") in (None, ""):
            continue
        try:
            scores.setdefault(str(row["metric"]), {})[str(row["image"])] = finite(row["score"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: has a row without image, metric and score; give a file that score wrote"
            ) from error
    if not scores:
        raise DataError(f"{path}: has no scores in it; give the JSON, JSON Lines or CSV that score wrote")
    return Baseline(scores)


def parse_rows(text: str, path: Path) -> list[Mapping[str, Any]]:
    """Read rows of JSON, JSON Lines or CSV.

    Args:
        text: Content of the file.
        path: The file, for messages.

    Raises:
        DataError: If it is none of these.
    """
    stripped = text.lstrip()
    try:
        if stripped.startswith("["):
            found = json.loads(text)
        elif stripped.startswith("{"):
            found = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            found = list(csv.DictReader(io.StringIO(text, newline="")))
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(
            f"{path}: is neither JSON, JSON Lines nor CSV ({error}); give a file that score wrote"
        ) from error
    if not all(isinstance(row, Mapping) for row in found):
        raise DataError(f"{path}: is not a list of rows; give the JSON, JSON Lines or CSV that score wrote")
    return found


def finite(value: Any) -> float:
    """Read a finite number.

    Raises:
        ValueError: If it is none.
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number
