"""Compare agreement with made full-reference labels with that of a lookup table, to show what it is worth.

    python benchmarks/made_labels.py runs/bpclip-fr/predictions.csv data/fr96/labels.csv --output FILE.json

The labels are mean scores of a distortion's type and level, shifted by content. A table of type and level,
which never sees an image, agrees with them closely. So a high agreement shows that a model recognises types and levels
of distortion, and little else. Within one type and level only the shift by content is left, made by classical metrics.
Both are computed where LABELS has levels.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from iqametrics.evaluation import plcc, srcc

_ENOUGH = 5


def main() -> None:
    """Compare, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="predictions.csv of a training run")
    parser.add_argument(
        "labels", type=Path, help="table of the synthetic set: image,mos,distortion, and level if it has one"
    )
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    found = compare(_read(args.predictions), _read(args.labels))
    text = json.dumps(found, indent=2) + "\n"
    if args.output:
        args.output.write_text(text)
    print(text, end="")


def compare(predictions: list[dict[str, str]], labels: list[dict[str, str]]) -> dict[str, Any]:
    """Return the agreement of the model and of the table, and of the model within types and within type and level."""
    by_image = {row["image"]: row for row in labels}
    held_out = {row["image"] for row in predictions}
    rows = [by_image[row["image"]] for row in predictions]
    mos = np.array([float(row["mos"]) for row in rows])
    scores = np.array([float(row["score"]) for row in predictions])
    kinds = np.array([row["distortion"] for row in rows])
    found: dict[str, Any] = {
        "n": len(rows),
        "model": {"srcc": srcc(scores, mos), "plcc": plcc(scores, mos)},
        "model, mean SRCC within a type": _within(scores, mos, kinds),
    }
    if "level" in rows[0]:
        cells = np.array([_cell(row) for row in rows])
        found["model, mean SRCC within a type and level"] = _within(scores, mos, cells)
        known = defaultdict(list)
        for row in labels:
            if row["image"] not in held_out:
                known[_cell(row)].append(float(row["mos"]))
        if all(cell in known for cell in cells):
            table = np.array([np.mean(known[cell]) for cell in cells])
            found["lookup of type and level"] = {"srcc": srcc(table, mos), "plcc": plcc(table, mos)}
    found["model, SRCC of each type"] = {
        kind: round(srcc(scores[kinds == kind], mos[kinds == kind]), 4)
        for kind in dict.fromkeys(kinds.tolist())
        if _ranked(mos[kinds == kind])
    }
    return found


def _cell(row: dict[str, str]) -> str:
    return f"{row['distortion']}/{row['level']}"


def _within(scores: np.ndarray, mos: np.ndarray, groups: np.ndarray) -> float | None:
    """Give the mean SRCC within groups that are large enough and do not tie throughout, None where there are none."""
    found = [
        srcc(scores[groups == group], mos[groups == group])
        for group in sorted(set(groups))
        if _ranked(mos[groups == group])
    ]
    return float(np.mean(found)) if found else None


def _ranked(mos: np.ndarray) -> bool:
    """Tell whether there are enough labels for an order, and not all the same."""
    return len(mos) >= _ENOUGH and bool(np.ptp(mos) > 0)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    main()
