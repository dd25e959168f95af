"""Entries for the Hub's leaderboards: what `evaluate` or a benchmark job measured of the checkpoint that is published.

Each becomes a file below `.eval_results/` of the repository; see https://huggingface.co/docs/hub/eval-results. The
value of an entry is the SRCC, and its note says on which images and how it was measured.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqametrics.common.digest import file_sha256
from iqametrics.common.files import read_text
from iqametrics.common.markup import plain
from iqametrics.errors import WeightsError

FOLDER = ".eval_results"
_TARGET = re.compile(r"(?P<dataset>[\w.-]+/[\w.-]+):(?P<task>[\w.-]+)")
_BESIDE_A_JOB = Path("training", "checkpoint.safetensors")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an entry says.

    Attributes:
        srcc: The value.
        n: Number of images.
        images: Dataset and part.
        fingerprint: Of the scores; empty where the record has none.
        date: Day of the measurement, YYYY-MM-DD; empty where the record has none.
    """

    srcc: float
    n: int
    images: str
    fingerprint: str
    date: str


def eval_results(evaluated: str, checkpoint: Path, fingerprint: str) -> tuple[str, str]:
    """Make the file of one entry.

    Args:
        evaluated: "RECORD=ORG/DATASET:TASK". RECORD is the JSON of `iqametrics evaluate`, or `result.json` of a
            benchmark job; ORG/DATASET and TASK are the benchmark on the Hub, as its `eval.yaml` names them.
        checkpoint: The checkpoint that is published.
        fingerprint: Fingerprint of its scores.

    Returns:
        The file's path in the repository, and its text in YAML.

    Raises:
        WeightsError: If the record cannot be read, is of another checkpoint, or has no single figure.
    """
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
        from huggingface_hub.utils import yaml_dump
    except ImportError as error:
        raise WeightsError(
            "this huggingface_hub is too old for results of evaluations; pip install -U huggingface_hub"
        ) from error
    path, _, target = evaluated.rpartition("=")
    found = _TARGET.fullmatch(target)
    if not path or found is None:
        raise WeightsError(f"{evaluated}: is no record with its benchmark; write RECORD.json=ORG/DATASET:TASK")
    measured = _read(Path(path), checkpoint, fingerprint)
    entry = EvalResultEntry(
        dataset_id=found["dataset"],
        task_id=found["task"],
        value=round(measured.srcc, 4),
        date=measured.date or None,
        notes=_note(measured),
    )
    name = re.sub(r"[^\w.-]", "-", f"{found['dataset']}-{found['task']}".lower())
    return f"{FOLDER}/{name}.yaml", yaml_dump(eval_result_entries_to_yaml([entry]))


def _read(path: Path, checkpoint: Path, fingerprint: str) -> Measured:
    try:
        record = json.loads(read_text(path, error=WeightsError))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: is no JSON ({error}); give what `evaluate --format json` wrote") from error
    if not isinstance(record, Mapping):
        record = {}
    try:
        return _of_job(path, record, checkpoint) if "figures" in record else _of_evaluate(path, record, fingerprint)
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: has no figures of one metric; give the JSON of `iqametrics evaluate` or result.json of a "
            "benchmark job"
        ) from error


def _of_evaluate(path: Path, record: Mapping[str, Any], fingerprint: str) -> Measured:
    (made_with,) = record["fingerprints"].values() if len(record["fingerprints"]) == 1 else ("several",)
    if made_with != fingerprint:
        raise WeightsError(
            f"{path}: was measured with {plain(made_with)}, and this checkpoint is {fingerprint}; evaluate it anew"
        )
    images = record.get("dataset") or Path(record.get("csv") or "").name
    return _measured(record, f"{images}, {record['split']}", fingerprint, "")


def _of_job(path: Path, record: Mapping[str, Any], checkpoint: Path) -> Measured:
    trained = path.parent / _BESIDE_A_JOB
    if not trained.is_file() or _digest(trained) != _digest(checkpoint):
        raise WeightsError(f"{path}: is of another checkpoint than {checkpoint}; publish that of the job's folder")
    if len(record["figures"]) != 1:
        raise WeightsError(
            f"{path}: has figures of {len(record['figures'])} parts; give the JSON of `iqametrics evaluate` on one"
        )
    ((place, figures),) = record["figures"].items()
    split = record["job"]["split"]
    images = place if split is None else f"{place}, split {split}"
    return _measured(figures, images, "", str(record.get("date") or ""))


def _measured(figures: Mapping[str, Any], images: str, fingerprint: str, date: str) -> Measured:
    srcc, n = figures["srcc"], figures["n"]
    if isinstance(srcc, bool) or not isinstance(srcc, int | float) or type(n) is not int:
        raise TypeError("figures that are no numbers")
    day = _DATE.match(date)
    return Measured(srcc=float(srcc), n=n, images=images, fingerprint=fingerprint, date=day[0] if day else "")


def _note(measured: Measured) -> str:
    parts = [f"SRCC, {measured.images}, n = {measured.n}", measured.fingerprint]
    return plain("; ".join(part for part in parts if part))


def _digest(path: Path) -> str:
    return file_sha256(path, error=WeightsError)
