"""What a report is made of: one record a picture, from rows of `score` as they come or as a file has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iqametrics.common.files import read_text
from iqametrics.errors import DataError
from iqametrics.gate.baseline import finite, parse_rows


@dataclass
class Picture:
    """One picture with all that is known of it.

    Attributes:
        image: Its path, as the rows have it.
        reference: Path of its reference; None without one.
        scores: Scores by metric.
        error: Why a metric has no score of it.
        fails: Why it fails the gate.
        mos: Opinion score.
    """

    image: str
    reference: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    fails: str | None = None
    mos: float | None = None


@dataclass(frozen=True)
class Scores:
    """A run of `score`.

    Attributes:
        title: What it is called on the page.
        pictures: Its pictures, in the order of the rows.
        metrics: Names of its metrics, in the order of the rows.
        fingerprints: Fingerprint of each metric, where the rows have one.
    """

    title: str
    pictures: tuple[Picture, ...]
    metrics: tuple[str, ...]
    fingerprints: Mapping[str, str]


def collect(title: str, rows: Iterable[Mapping[str, Any]]) -> Scores:
    """Gather rows, one an image and metric, by picture.

    Args:
        title: What the run is called.
        rows: Rows as `score` writes them; `mos` may be among their fields, as in what `evaluate --save` writes.

    Raises:
        KeyError: If a row has no image or metric.
        ValueError: If a score or opinion score is no finite number.
    """
    pictures: dict[str, Picture] = {}
    fingerprints: dict[str, str] = {}
    metrics: dict[str, None] = {}
    for row in rows:
        name, metric = str(row["image"]), str(row["metric"])
        picture = pictures.setdefault(name, Picture(name))
        metrics[metric] = None
        picture.reference = row.get("reference") or picture.reference
        picture.error = row.get("error") or picture.error
        picture.fails = row.get("fails") or picture.fails
        if row.get("score") not in (None, ""):
            picture.scores[metric] = finite(row["score"])
        if row.get("mos") not in (None, ""):
            picture.mos = finite(row["mos"])
        if row.get("fingerprint"):
            fingerprints[metric] = str(row["fingerprint"])
    return Scores(title, tuple(pictures.values()), tuple(metrics), fingerprints)


def read_scores(path: Path) -> Scores:
    """Read what `score` or `evaluate --save` wrote: JSON, JSON Lines or CSV.

    Raises:
        DataError: If the file cannot be read, or holds no such rows.
    """
    # Names that are not UTF-8 are written, and read back, byte by byte.
    rows = parse_rows(read_text(path, error=DataError, errors="surrogateescape"), path)
    try:
        scores = collect(path.name, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: has a row without image, metric and score; give a file that score wrote") from error
    if not scores.pictures:
        raise DataError(f"{path}: has no rows; give the JSON, JSON Lines or CSV that score wrote")
    return scores
