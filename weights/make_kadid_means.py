"""Make iqametrics/datasets/kadid_means.json from KADID-10k's own score file, dmos.csv.

    python weights/make_kadid_means.py path/to/kadid10k/dmos.csv iqametrics/datasets/kadid_means.json

Only 125 means and standard deviations go into the package: the human opinion on each type and level of distortion over
81 photographs. The score file itself does not.
"""

import argparse
import csv
import hashlib
import json
import statistics
from collections import defaultdict
from pathlib import Path


def summarise(source: Path) -> dict[str, object]:
    """Compute mean and population standard deviation of the mean opinion score over photographs, by type and level."""
    content = source.read_bytes()
    scores: dict[tuple[int, int], list[float]] = defaultdict(list)
    for row in csv.DictReader(content.decode("utf-8-sig").splitlines()):
        _, kind, level = Path(row["dist_img"]).stem.split("_")
        scores[int(kind), int(level)].append(float(row["dmos"]))
    kinds = sorted({kind for kind, _ in scores})
    return {
        "source": "KADID-10k (Lin, Hosu and Saupe, QoMEX 2019), dmos.csv",
        "sha256": hashlib.sha256(content).hexdigest(),
        "count": sum(len(values) for values in scores.values()),
        "range": [1, 5],
        "higher_is_better": True,
        "types": {
            str(kind): {
                "mean": [round(statistics.fmean(scores[kind, level]), 4) for level in range(1, 6)],
                "std": [round(statistics.pstdev(scores[kind, level]), 4) for level in range(1, 6)],
            }
            for kind in kinds
        },
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="KADID-10k's dmos.csv")
    parser.add_argument("target", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    arguments.target.write_text(json.dumps(summarise(arguments.source), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
