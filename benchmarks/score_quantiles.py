"""Tell how the scores of a set of pictures are spread, for `what a score means` in iqametrics/weights/facts.json.

    python benchmarks/score_quantiles.py BIQ2021 benchmarks/splits/biq2021-lite-heldout.txt bpclip-nr.lite pfd-iqa.lite

BIQ2021 is the folder that the names of the list start from; lines of the list that begin with # are comments.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from iqametrics import create_metric
from iqametrics.scoring import Item, score_items

SHARES = (5, 25, 50, 75, 95)


def main() -> None:
    """Score the pictures and print the quantiles as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder that the names start from")
    parser.add_argument("names", type=Path, help="list of pictures, one a line")
    parser.add_argument("metrics", nargs="+", help="no-reference metrics")
    args = parser.parse_args()
    lines = args.names.read_text().splitlines()
    items = [Item(str(args.root / line)) for line in lines if line and not line.startswith("#")]
    scores: dict[str, list[float]] = {}
    for row in score_items([create_metric(name) for name in args.metrics], items):
        if row.score is None:
            parser.error(row.error or row.image)
        scores.setdefault(row.metric, []).append(row.score)
    for metric, values in scores.items():
        found = np.percentile(values, SHARES)
        print(
            json.dumps(
                {
                    metric: {
                        "n": len(values),
                        **{f"p{p}": round(float(v), 3) for p, v in zip(SHARES, found, strict=True)},
                    }
                }
            )
        )


if __name__ == "__main__":
    main()
