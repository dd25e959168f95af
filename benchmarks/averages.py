"""Measure what averages of scores reach, to know what is left to gain by more views, sizes and seeds.

    python benchmarks/averages.py data/biq2021/train_subset.csv --only benchmarks/splits/biq2021-lite-heldout.txt \
        --metric bpclip-nr.lite2 --metric pfd-iqa.lite2 --metric bpclip-nr.lite --metric pfd-iqa.lite \
        --output benchmarks/results/averages.json

Each metric scores the photographs; the first scores their mirror images, and enlarged and reduced ones, as well.
Reported is the agreement of each with people's scores, of the first metric's mean over a photograph and each version,
and of the mean over all metrics; over all photographs and within each folder (the part of a name before its number).
"""

import argparse
import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from measure_lite import describe_machine

from iqametrics import create_metric, evaluate, read_image

Numbers = npt.NDArray[np.float64]


def resized(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give a function that resizes a batch of pictures."""

    def resize(images: torch.Tensor) -> torch.Tensor:
        return F.interpolate(images, scale_factor=factor, mode="bicubic", antialias=True).clamp(0, 1)

    return resize


VERSIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mirrored": lambda images: images.flip(-1),
    "three quarters as large": resized(0.75),
    "a quarter larger": resized(1.25),
}


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="CSV: image,mos")
    parser.add_argument("--only", type=Path, required=True, help="list of the images to use")
    parser.add_argument("--metric", action="append", required=True, help="no-reference metric; the first is varied")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    allowed = set(args.only.read_text(encoding="utf-8").splitlines())
    with args.labels.open(encoding="utf-8", newline="") as stream:
        opinions = {row["image"]: float(row["mos"]) for row in csv.DictReader(stream) if row["image"] in allowed}
    scores = score(args.metric, [args.labels.parent / name for name in opinions])
    folders = np.array([Path(name).name.split()[0] for name in opinions])
    found = {name: agreement(values, np.array(list(opinions.values())), folders) for name, values in scores.items()}
    text = json.dumps({"machine": describe_machine(), "agreement": found}, indent=1) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    print(text, end="")


def score(names: list[str], photographs: list[Path]) -> Mapping[str, Numbers]:
    """Score the photographs and their versions, and give the scores and their means, by name."""
    metrics = [create_metric(name) for name in names]
    rows = []
    for photograph in photographs:
        image = read_image(photograph)[None]
        with torch.no_grad():
            row = [float(metric(image)) for metric in metrics]
            row += [float(metrics[0](change(image).contiguous())) for change in VERSIONS.values()]
        rows.append(row)
    columns = dict(zip([*names, *(f"{names[0]}, {version}" for version in VERSIONS)], np.array(rows).T, strict=True))
    means = {
        f"mean of {names[0]} as it is and {version}": (columns[names[0]] + columns[f"{names[0]}, {version}"]) / 2
        for version in VERSIONS
    }
    return columns | means | {"mean of all metrics": np.mean([columns[name] for name in names], axis=0)}


def agreement(scores: Numbers, mos: Numbers, folders: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Give SRCC and PLCC over all photographs, and SRCC within each folder."""
    whole = evaluate(scores, mos)
    within = {
        str(folder): round(evaluate(scores[folders == folder], mos[folders == folder]).srcc, 4)
        for folder in np.unique(folders)
    }
    return {"n": len(mos), "srcc": round(whole.srcc, 4), "plcc": round(whole.plcc, 4), "srcc within a folder": within}


if __name__ == "__main__":
    main()
