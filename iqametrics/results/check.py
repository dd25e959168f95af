"""What is wrong with a result: by its form, by itself, and, where the images are at hand, by its figures."""

import importlib.resources
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from iqametrics.common.digest import file_sha256
from iqametrics.datasets.labelled import ChosenImages, LabelledImages
from iqametrics.errors import DataError, MissingExtraError
from iqametrics.fingerprint import Fingerprint
from iqametrics.results.record import FIGURES, figures_of, opinions_digest, samples_digest

_TOLERANCE = 1e-6
_MOST_PROBLEMS = 5


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """Return the published JSON schema of a result."""
    text = importlib.resources.files("iqametrics.results").joinpath("schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def form_problems(record: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the form of a record, one line each; the first few.

    Raises:
        MissingExtraError: If jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise MissingExtraError('results are checked with jsonschema: pip install "iqametrics[results]"') from error
    errors = Draft202012Validator(schema()).iter_errors(record)
    found = [f"{error.json_path.removeprefix('$.')}: {error.message[:200]}" for error in errors]
    return found[:_MOST_PROBLEMS]


def inner_problems(record: Mapping[str, Any]) -> list[str]:
    """Return where a record of good form contradicts itself, one line each."""
    return list(_inner(record))


def _inner(record: Mapping[str, Any]) -> Iterator[str]:
    rows, data, figures = record["scores"], record["data"], record["figures"]
    for name, number in (("data.images", data["images"]), ("figures.n", figures["n"])):
        if number != len(rows):
            yield f"{name} is {number}, but there are {len(rows)} scores"
    if data["samples_sha256"] != samples_digest(rows):
        yield "data.samples_sha256 is not that of the pictures listed"
    names = [(row["image"], row["reference"]) for row in rows]
    if len(set(names)) < len(names):
        yield "an image is listed twice"
    if any((row["reference"] is None) != (row["reference_sha256"] is None) for row in rows):
        yield "a reference has no digest, or a digest no reference"
    low, high = figures["srcc_low"], figures["srcc_high"]
    if (low is None) != (high is None) or (low is not None and low > high):
        yield f"the interval of srcc is {low} to {high}"
    metric = {name: value for name, value in record["metric"].items() if name != "higher_is_better"}
    stated = metric.pop("fingerprint")
    if stated != (found := str(Fingerprint(**{**metric}))):
        yield f"metric.fingerprint is {stated}, but what stands beside it gives {found}"


def data_problems(record: Mapping[str, Any], images: LabelledImages, chosen: ChosenImages) -> list[str]:
    """Return where a record contradicts the images and opinions at hand: its figures are computed again.

    Args:
        record: A record that has no other problem.
        images: The dataset or CSV.
        chosen: Its images of the record's split.
    """
    return list(_against(record, images, chosen))


def _against(record: Mapping[str, Any], images: LabelledImages, chosen: ChosenImages) -> Iterator[str]:
    rows = {(row["image"], row["reference"]): row for row in record["scores"]}
    found = [(images.name_of(sample.image), images.name_of(sample.reference) or None) for sample in chosen.samples]
    if set(found) != set(rows):
        missing, surplus = sorted(set(found) - set(rows), key=str), sorted(set(rows) - set(found), key=str)
        yield f"it is on other images: {len(missing)} are missing, {len(surplus)} are not in these data"
        return
    ordered = [rows[key] for key in found]
    for row, sample in zip(ordered, chosen.samples, strict=True):
        if _digest(sample.image) != row["sha256"] or (
            sample.reference is not None and _digest(sample.reference) != row["reference_sha256"]
        ):
            yield f"{row['image']}: this file or its reference is another one than that which was scored"
            return
    if opinions_digest(ordered, chosen.opinions) != record["data"]["opinions_sha256"]:
        yield "the opinions of these data are others than those which were used"
        return
    figures = figures_of([row["score"] for row in ordered], chosen)
    for name in FIGURES:
        if not _equal(figures[name], record["figures"][name]):
            yield f"figures.{name} is {record['figures'][name]}, but the scores give {figures[name]}"


@lru_cache(maxsize=100_000)
def _digest(path: Path) -> str:
    return file_sha256(path, error=DataError)


def _equal(found: float | None, stated: float | None) -> bool:
    if found is None or stated is None:
        return found is stated
    return abs(found - stated) <= _TOLERANCE
