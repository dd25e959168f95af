"""Write the rows of a CSV whose images are no near-duplicates of held-out ones.

    python weights/apart.py data/biq2021/train_more.csv --from data/biq2021/train_subset.csv \
        --held-out benchmarks/splits/biq2021-lite-heldout.txt --out data/biq2021/train_more_apart.csv

A second table of photographs may show the scenes that the first one's held-out part was held out to test on.
"""

import argparse
import csv
from pathlib import Path

from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.protocol import group_keys


def main() -> None:
    """Read the arguments, look for look-alikes, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="table to choose from (image,mos)")
    parser.add_argument("--from", dest="main", type=Path, required=True, help="table that the held-out images are of")
    parser.add_argument("--held-out", type=Path, required=True, help="list of the held-out images")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    held = {args.main.parent / name for name in args.held_out.read_text(encoding="utf-8").splitlines()}
    samples = [*read_csv_dataset(args.main), *read_csv_dataset(args.csv)]
    groups = dict(zip((sample.image for sample in samples), group_keys(samples, "near-duplicates"), strict=True))
    banned = {group for image, group in groups.items() if image in held}
    with args.csv.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = [row for row in rows if groups[args.csv.parent / row["image"]] not in banned]
    with args.out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    print(f"{args.out}: {len(kept)} of {len(rows)} images")


if __name__ == "__main__":
    main()
