"""Check that a bundled checkpoint, stored in half precision, scores the held-out parts as its training run did.

    python weights/check_bundled.py runs/bpclip-nr/predictions.csv --metric bpclip-nr.lite --root data/biq2021

Exits with 1 if a score differs by more than 0.001.
"""

import argparse
import csv
import sys
from pathlib import Path

from iqametrics import create_metric

TOLERANCE = 1e-3


def main() -> int:
    """Score images and compare; return 1 if a score differs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="predictions.csv of the run")
    parser.add_argument("--metric", required=True, help="name and tag")
    parser.add_argument("--root", type=Path, required=True, help="folder that the image names start from")
    parser.add_argument("--labels", type=Path, help="CSV with the references, for a full-reference metric")
    parser.add_argument("--count", type=int, default=50, help="images to check, evenly spread (default: 50)")
    args = parser.parse_args()
    rows = _read(args.predictions)
    rows = rows[:: max(1, len(rows) // args.count)]
    references = {row["image"]: row["reference"] for row in _read(args.labels)} if args.labels else {}
    metric = create_metric(args.metric)
    differences = []
    for row in rows:
        given = [args.root / row["image"]]
        if references:
            given.append(args.root / references[row["image"]])
        differences.append(abs(float(metric(*given)) - float(row["score"])))
    print(f"{args.metric}: {len(rows)} images, largest difference {max(differences):.6f}")
    return int(max(differences) > TOLERANCE)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    sys.exit(main())
