"""Store what the features of training photographs are like, by which `Metric.uncertainty` judges pictures.

    python weights/make_novelty.py data/biq2021/train_subset.csv --held-out benchmarks/splits/biq2021-lite-heldout.txt \
        --metric bpclip-nr.lite --output benchmarks/results/uncertainty.json

The statistics are of photographs of the CSV that are not held out, chosen by a digest of their names. Every second
held-out photograph gives the quantiles. The others, and pictures that are no photographs, measure how well the two
are told apart (AUC); no statistics are fitted to these, though the second edition's backbone was trained on some of
them. `--kind drawings=FOLDER` measures a folder of your own, too. The file is bundled as a base beside the backbone
that the metric's checkpoint refers to.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from make_damaged import seed_of
from safetensors.torch import save_file
from spoilt import SPOILT, UNSEEN, Maker
from torch import Tensor

from iqametrics import Metric, create_metric, read_image
from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.images import list_images
from iqametrics.novelty import SUFFIX, NoveltyStatistics, pooled_features
from iqametrics.weights.manifest import WEIGHTS_FOLDER

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))
from behaviour_pictures import CONTENT
from bundle import _update

ODD: dict[str, Maker] = {name: SPOILT[name][0] for name in ("stripes", "dots", "pure_noise", "flat", "text_page")}
ODD |= {"checkerboard": UNSEEN["checkerboard"], **CONTENT}
"""What is no photograph: patterns, noise, flat colours, text."""
SPOILT_PHOTOGRAPHS = ("shuffled_blocks", "shuffled_rows", "part_replaced", "false_colours", "nearly_black", "smeared")
_SHARES = 101


def main() -> None:
    """Read the arguments, fit, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="photographs with scores (image,mos)")
    parser.add_argument("--held-out", type=Path, required=True, help="list of images that are not of training")
    parser.add_argument("--metric", default="bpclip-nr.lite", help="of the backbone (default: bpclip-nr.lite)")
    parser.add_argument("--photographs", type=int, default=600, help="to fit to (default: 600)")
    parser.add_argument("--directions", type=int, default=32, help="in which photographs vary most (default: 32)")
    parser.add_argument("--odd", type=int, default=20, help="pictures of each odd kind (default: 20)")
    parser.add_argument(
        "--kind", action="append", default=[], metavar="NAME=FOLDER", help="also measure on the pictures of a folder"
    )
    parser.add_argument("--output", type=Path, metavar="JSON", help="where to write how well it works")
    args = parser.parse_args()
    kinds = {name: list_images(folder) for name, _, folder in (kind.partition("=") for kind in args.kind)}
    held = args.held_out.read_text(encoding="utf-8").splitlines()
    held = [name for name in held if name and not name.startswith("#")]
    with args.csv.open(encoding="utf-8", newline="") as stream:
        names = sorted({row["image"] for row in csv.DictReader(stream)} - set(held), key=seed_of)
    metric = create_metric(args.metric)
    assert metric.base is not None
    root = args.csv.parent
    training = features(metric, photographs(root, names[: args.photographs]))
    statistics = fitted(training, args.directions)
    others = features(metric, photographs(root, held))
    statistics["quantiles"] = quantiles(statistics, others[::2])
    store(statistics, metric.base + SUFFIX)
    made = {name: features(metric, map(read_image, paths)) for name, paths in kinds.items()}
    report = measured(metric, NoveltyStatistics(statistics), others[1::2], root, held[: args.odd], made)
    print(json.dumps(report, indent=1))
    if args.output is not None:
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def photographs(root: Path, names: Iterable[str]) -> Iterator[Tensor]:
    """Read photographs, one after the other."""
    return (read_image(root / name) for name in names)


@torch.no_grad()
def features(metric: Metric, images: Iterable[Tensor]) -> Tensor:
    """Compute the pooled features (N, C) of images of any size."""
    return torch.cat([pooled_features(metric.picture_levels(metric._prepare([image]))) for image in images])


def fitted(training: Tensor, count: int) -> dict[str, Tensor]:
    """Fit mean, scale, directions and rest; see `NoveltyStatistics`."""
    mean, scale = training.mean(dim=0), training.std(dim=0).clamp(min=1e-6)
    centred = (training - mean) / scale
    _, singular, right = torch.linalg.svd(centred, full_matrices=False)
    deviations = singular[:count] / (len(training) - 1) ** 0.5
    left = centred - centred @ right[:count].T @ right[:count]
    found = {"mean": mean, "scale": scale, "directions": right[:count] / deviations[:, None]}
    found["rest"] = left.square().sum(dim=1).mean().sqrt()[None]
    return {name: tensor.half().contiguous() for name, tensor in found.items()}


def quantiles(statistics: dict[str, Tensor], others: Tensor) -> Tensor:
    """Return the distances of held-out photographs at equal steps of the share."""
    distances = NoveltyStatistics(statistics).distances_of(others)
    return torch.quantile(distances, torch.linspace(0, 1, _SHARES))


def store(statistics: dict[str, Tensor], name: str) -> None:
    """Write the file beside the manifest, with its entry."""
    path = WEIGHTS_FOLDER / f"{name}.safetensors"
    save_file(statistics, path)
    path.chmod(0o644)
    _update("bases", {"name": name, "file": path.name, "sha256": file_sha256(path, error=WeightsError)}, ("name",))


def measured(
    metric: Metric,
    statistics: NoveltyStatistics,
    others: Tensor,
    root: Path,
    names: list[str],
    folders: Mapping[str, Tensor],
) -> dict[str, object]:
    """Measure the AUC of each odd kind against held-out photographs, and how many are above 0.99."""
    usual = statistics.distances_of(others)
    report: dict[str, object] = {"metric": metric.full_name, "photographs": summary(statistics, others)}
    every: list[Tensor] = []
    makers = ODD | {name: SPOILT[name][0] for name in SPOILT_PHOTOGRAPHS}
    for kind, make in makers.items():
        made = features(metric, (_made(make, root / name, number) for number, name in enumerate(names)))
        distances = statistics.distances_of(made)
        report[kind] = {"auc": round(auc(distances, usual), 4), **summary(statistics, made)}
        if kind in ODD:
            every.append(distances)
    for kind, found in folders.items():
        report[kind] = {"auc": round(auc(statistics.distances_of(found), usual), 4), **summary(statistics, found)}
    report["all that are no photographs"] = {"auc": round(auc(torch.cat(every), usual), 4)}
    return report


def summary(statistics: NoveltyStatistics, pooled: Tensor) -> dict[str, float]:
    """Tell how many pictures there are, their median uncertainty and how many of them are above 0.99."""
    shares = statistics.shares_of(statistics.distances_of(pooled))
    return {
        "n": len(pooled),
        "median": round(shares.median().item(), 3),
        "above 0.99": round((shares > 0.99).float().mean().item(), 3),
    }


def auc(odd: Tensor, usual: Tensor) -> float:
    """Compute the probability that an odd picture is farther than a usual one."""
    higher = (odd[:, None] > usual[None, :]).double().mean()
    return float(higher + (odd[:, None] == usual[None, :]).double().mean() / 2)


def _made(make: Maker, path: Path, number: int) -> Tensor:
    pixels = read_image(path).permute(1, 2, 0).numpy()
    made = np.clip(make(pixels, np.random.default_rng(number)), 0, 1)
    return torch.from_numpy(np.ascontiguousarray(made, dtype=np.float32)).permute(2, 0, 1).contiguous()


if __name__ == "__main__":
    main()
