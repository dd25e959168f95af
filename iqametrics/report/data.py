"""What the scripts of the page get: columns of a run, and beside them another run, opinions and explanation maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from iqametrics.errors import DataError, IqaError
from iqametrics.gate.change import measure_change
from iqametrics.gate.pairing import pair_names
from iqametrics.naming import parse_name
from iqametrics.registry import metric_info, metric_spec
from iqametrics.report.opinions import opinion_view
from iqametrics.report.pictures import address
from iqametrics.report.records import Picture, Scores
from iqametrics.spec import MetricSpec
from iqametrics.weights.meaning import ScoreMeaning

_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What stands in the page besides the scores.

    Attributes:
        pictures: Copies of pictures by path, as `data:` addresses.
        maps: Explanation maps by the picture's path.
        notes: Remarks on the run.
    """

    pictures: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def spec_of(name: str) -> MetricSpec | None:
    """Find the constants of a metric by its name in rows, whatever its checkpoint is called; None if unknown."""
    for known in (name, parse_name(name).metric):
        try:
            return metric_spec(known)
        except IqaError:
            continue
    return None


def report_data(run: Scores, other: Scores | None, *, root: Path, folder: Path, extras: Extras) -> dict[str, Any]:
    """Put a run into columns.

    Args:
        run: The run.
        other: The run that it is set against; None for none.
        root: Folder that paths are relative to.
        folder: Folder of the page.
        extras: What else stands in the page.

    Raises:
        DataError: If the two runs have no picture with a score by the same metric in common.
    """
    pictures = run.pictures
    columns: dict[str, Any] = {
        "title": run.title,
        "metrics": [_metric(name, run.fingerprints.get(name)) for name in run.metrics],
        "images": [picture.image for picture in pictures],
        "scores": [_column(pictures, name) for name in run.metrics],
        "errors": {index: picture.error for index, picture in enumerate(pictures) if picture.error},
        "fails": {index: picture.fails for index, picture in enumerate(pictures) if picture.fails},
        "notes": list(extras.notes),
        "copies": dict(extras.pictures),
        "maps": dict(extras.maps),
    }
    references = [picture.reference for picture in pictures]
    shown = [picture.image for picture in pictures]
    if any(references):
        columns["references"] = references
        shown += [path for path in references if path]
    if any(picture.mos is not None for picture in pictures):
        columns["mos"] = [picture.mos for picture in pictures]
        columns["opinions"] = [opinion_view(name, pictures) for name in run.metrics]
    if other is not None:
        columns["against"] = _against(run, other)
        shown += [path for path in columns["against"]["images"] if path]
        columns["notes"] += _unlike(run, other)
    return columns | _addresses(shown, root, folder)


def _metric(name: str, fingerprint: str | None) -> dict[str, Any]:
    spec = spec_of(name)
    constants: dict[str, Any] = {"name": name, "fingerprint": fingerprint}
    constants["higher"] = spec is None or spec.higher_is_better
    meaning = _meaning(name, fingerprint)
    if meaning is not None:
        constants["meaning"] = {"pictures": meaning.pictures, "quantiles": meaning.quantiles, "spread": meaning.spread}
    return constants if spec is None else {**constants, "paper": spec.paper, "mode": spec.mode}


def _meaning(name: str, fingerprint: str | None) -> ScoreMeaning | None:
    """Find what scores mean, if they are of the very checkpoint that has this name here."""
    if fingerprint is None:
        return None
    try:
        info = metric_info(name)
    except IqaError:
        return None
    return info.meaning if fingerprint == str(info.fingerprint) else None


def _column(pictures: Sequence[Picture | None], metric: str) -> list[float | None]:
    scores = [None if picture is None else picture.scores.get(metric) for picture in pictures]
    return [None if score is None else round(score, _DIGITS) for score in scores]


def _against(run: Scores, other: Scores) -> dict[str, Any]:
    """Pair two runs by the names of their pictures, and measure how they differ by each metric of both."""
    partners = pair_names([p.image for p in run.pictures], [p.image for p in other.pictures])
    by_name = {picture.image: picture for picture in other.pictures}
    paired = [by_name.get(partners.get(picture.image, "")) for picture in run.pictures]
    changes = [_change(name, run.pictures, paired) for name in run.metrics]
    if not any(changes):
        raise DataError(
            f"{other.title}: has no score of a picture and metric that {run.title} has a score of; give runs over "
            "pictures of the same names"
        )
    return {
        "title": other.title,
        "images": [None if picture is None else picture.image for picture in paired],
        "scores": [_column(paired, name) for name in run.metrics],
        "changes": changes,
        "missing": len(other.pictures) - sum(picture is not None for picture in paired),
    }


def _change(metric: str, now: Sequence[Picture], before: Sequence[Picture | None]) -> dict[str, Any] | None:
    """Measure how the scores differ; pictures of one reference are drawn together."""
    both = [(a, b) for a, b in zip(before, now, strict=True) if a and metric in a.scores and metric in b.scores]
    if not both:
        return None
    references = [b.reference for _, b in both]
    change = measure_change(
        metric,
        [a.scores[metric] for a, _ in both],
        [b.scores[metric] for _, b in both],
        higher_is_better=_metric(metric, None)["higher"],
        groups=references if all(references) and len(set(references)) > 1 else None,
    )
    return change.to_dict()


def _unlike(run: Scores, other: Scores) -> list[str]:
    """Say which metrics were not the same in both runs."""
    return [
        f"{name}: the runs were made with different weights, versions or preprocessing ({mine} and "
        f"{other.fingerprints[name]}), so differences are not of the pictures alone."
        for name, mine in run.fingerprints.items()
        if other.fingerprints.get(name, mine) != mine
    ]


def _addresses(paths: Sequence[str], root: Path, folder: Path) -> dict[str, Any]:
    """Give the start that most addresses share, and whole addresses of the pictures that have another."""
    known = {path: address(path, root, folder) for path in dict.fromkeys(paths)}
    start = next((found.removesuffix(_quoted(path)) for path, found in known.items() if found), "")
    odd = {path: found for path, found in known.items() if found != start + _quoted(path)}
    return {"start": start, "addresses": odd}


def _quoted(path: str) -> str:
    """Quote a path as the scripts do; one that is not UTF-8 never equals its address."""
    file, mark, time = path.rpartition("#t=") if "#t=" in path else (path, "", "")
    return quote(file, errors="replace") + mark + time
