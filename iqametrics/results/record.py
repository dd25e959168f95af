"""A result as a record: scores of single images, and all that is needed to get them again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.common.digest import file_sha256
from iqametrics.common.files import read_text, write_file
from iqametrics.datasets.labelled import ChosenImages, LabelledImages
from iqametrics.errors import DataError
from iqametrics.evaluation.measure import measure
from iqametrics.fingerprint import Fingerprint

FORMAT = 1
FIGURES = ("n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "krcc", "rmse")
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What only a person can say of a result.

    Attributes:
        title: Images in words: "BIQ2021, 400 held-out photographs".
        source: Where anybody gets the images and opinions.
        trained: One of `iqametrics.results.TRAINED`.
        selection: By which rule the checkpoint was chosen, on which images.
        paper: What a paper prints for the same images and split, or None.
    """

    title: str
    source: str
    trained: str
    selection: str
    paper: Mapping[str, Any] | None = None


def make_record(
    fingerprint: Fingerprint,
    *,
    higher_is_better: bool,
    images: LabelledImages,
    chosen: ChosenImages,
    scores: Sequence[float],
    claim: Claim,
    made: Mapping[str, Any],
) -> dict[str, Any]:
    """Make the record of a result.

    Args:
        fingerprint: What the scores were made with.
        higher_is_better: The metric's direction.
        images: The dataset or CSV.
        chosen: Its images that were scored.
        scores: The score of each.
        claim: What was stated of the result.
        made: Command, commit, date, versions and hardware.
    """
    rows = _rows(images, chosen, scores)
    return {
        "format": FORMAT,
        "metric": {**fingerprint.to_dict(), "higher_is_better": higher_is_better},
        "data": {
            "title": claim.title,
            "dataset": chosen.facts["dataset"],
            "source": claim.source,
            "labels": images.label_kind or "human",
            "images": len(rows),
            "split": chosen.facts["split"],
            "samples_sha256": samples_digest(rows),
            "opinions_sha256": opinions_digest(rows, chosen.opinions),
        },
        "trained": claim.trained,
        "selection": claim.selection,
        "figures": figures_of(scores, chosen),
        "interval": {"level": _LEVEL, "by": chosen.grouped_by, "groups": len(set(chosen.groups))},
        "paper": claim.paper,
        "made": dict(made),
        "scores": rows,
    }


def figures_of(scores: Sequence[float], chosen: ChosenImages) -> dict[str, Any]:
    """Compute the figures of a result from scores and opinions."""
    figures = measure(scores, chosen.opinions, groups=chosen.groups)
    return {name: figures[name] for name in FIGURES}


def _rows(images: LabelledImages, chosen: ChosenImages, scores: Sequence[float]) -> list[dict[str, Any]]:
    digests: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in digests:
            digests[path] = file_sha256(path, error=DataError)
        return digests[path]

    return [
        {
            "image": images.name_of(sample.image),
            "sha256": digest(sample.image),
            "reference": images.name_of(sample.reference) or None,
            "reference_sha256": None if sample.reference is None else digest(sample.reference),
            "score": score,
        }
        for sample, score in zip(chosen.samples, scores, strict=True)
    ]


def samples_digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return one SHA-256 for which pictures a result is on: of their digests and their references', sorted."""
    return _digest(f"{row['sha256']} {row['reference_sha256'] or '-'}" for row in rows)


def opinions_digest(rows: Sequence[Mapping[str, Any]], opinions: Sequence[float]) -> str:
    """Return one SHA-256 for the opinions of the images, each rounded to six places."""
    return _digest(f"{row['sha256']} {opinion:.6f}" for row, opinion in zip(rows, opinions, strict=True))


def _digest(lines: Any) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, one image a line, so that a change of one shows as a change of one line.

    Raises:
        DataError: If the file cannot be written.
    """
    head = json.dumps({**record, "scores": []}, indent=1, ensure_ascii=False, allow_nan=False)
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in record["scores"])
    text = head.removesuffix(' "scores": []\n}') + f' "scores": [\n{rows}\n ]\n}}\n'
    write_file(path, text.encode(), error=DataError)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; whether it is a good one, `check` says.

    Raises:
        DataError: If it is no JSON object.
    """
    try:
        record = json.loads(read_text(path, error=DataError))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}); write it with `iqametrics results add`") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}: is no JSON object; write it with `iqametrics results add`")
    return record
