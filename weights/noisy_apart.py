"""Write tables of photographs into two: those whose scores are noisy, and the others with the held-out part.

    python weights/noisy_apart.py data/biq2021/train_subset.csv data/biq2021/train_more_apart.csv \
        --held-out benchmarks/splits/biq2021-lite-heldout.txt --noisy "Images/ss02" --out data/biq2021

A recipe then takes the noisy ones less often (`[[data.extra]] weight`). `steady.csv` has all held-out images, noisy or
not, and says by its column `split` which they are; `noisy.csv` has the noisy ones of training. All tables lie in the
folder of the first, so that their images are found.
"""

import argparse
import csv
from pathlib import Path


def main() -> None:
    """Read the arguments and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="+", help="photographs with scores (image,mos)")
    parser.add_argument("--held-out", type=Path, required=True, help="list of the images to validate on")
    parser.add_argument("--noisy", required=True, metavar="PREFIX", help="how the names of noisy images begin")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to: that of the tables")
    args = parser.parse_args()
    held = set(args.held_out.read_text(encoding="utf-8").splitlines())
    steady: list[tuple[str, ...]] = []
    noisy: list[tuple[str, ...]] = []
    for table in args.csv:
        with table.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                name, mos = row["image"], row["mos"]
                if name in held:
                    steady.append((name, mos, "val"))
                elif name.startswith(args.noisy):
                    noisy.append((name, mos))
                else:
                    steady.append((name, mos, "train"))
    for name, columns, rows in (("steady", ("image", "mos", "split"), steady), ("noisy", ("image", "mos"), noisy)):
        with (args.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([columns, *rows])
        print(f"{args.out / name}.csv: {len(rows)} images")


if __name__ == "__main__":
    main()
