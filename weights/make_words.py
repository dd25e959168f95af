"""Fit a readout of the words that are true of a picture, for `Metric.words`, and measure it.

    python weights/make_words.py data/biq2021/train_subset.csv --held-out benchmarks/splits/biq2021-lite-heldout.txt \
        --metric bpclip-nr.lite --output benchmarks/results/words-readout.json

The words and the damage that makes each true are those of `iqametrics/words.py`. For each word a logistic regression
on mean and deviation of each channel of the backbone's levels, with a penalty, is fitted to good photographs of the CSV
that are not held out and their damaged versions. A threshold is the number that 1 clean held-out photograph in 50
exceeds, by every second held-out photograph; the others measure the area under the ROC curve, and nothing is fitted to
them. The file is bundled as a base beside the backbone that the metric's checkpoint refers to.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from make_damaged import chosen
from safetensors.torch import save_file
from torch import Tensor

from iqametrics import Metric, create_metric
from iqametrics.common.digest import file_sha256
from iqametrics.errors import WeightsError
from iqametrics.novelty import pooled_features
from iqametrics.weights.manifest import WEIGHTS_FOLDER
from iqametrics.words import SUFFIX, WORDS, WordReadout

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))
from behaviour import chosen as best
from behaviour import tensor
from bundle import _update
from measure_lite import describe_machine
from words import auc, pictures

_FALSE_ALARMS = 0.02


def main() -> None:
    """Read the arguments, fit, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="photographs with scores (image,mos)")
    parser.add_argument("--held-out", type=Path, required=True, help="list of images that are not of training")
    parser.add_argument("--metric", default="bpclip-nr.lite", help="of the backbone (default: bpclip-nr.lite)")
    parser.add_argument("--photographs", type=int, default=120, help="to fit to (default: 120)")
    parser.add_argument("--measure", type=int, default=80, help="held-out ones, the best (default: 80)")
    parser.add_argument("--side", type=int, default=384, help="side of the part that is used, in pixels (default: 384)")
    parser.add_argument("--penalty", type=float, default=0.01, help="of the squared weights (default: 0.01)")
    parser.add_argument("--output", type=Path, metavar="JSON", help="where to write how well it works")
    args = parser.parse_args()
    metric = create_metric(args.metric)
    assert metric.base is not None
    training = made(metric, chosen([args.csv], args.held_out, 0.6, args.photographs), args.side)
    held = best(args.csv, args.held_out, args.measure)
    settings, measuring = (made(metric, held[start::2], args.side) for start in (0, 1))
    tensors = fitted(*training, penalty=args.penalty)
    numbers = WordReadout(tensors).numbers_of(settings[0])
    clean = torch.tensor([truth == "" for truth in settings[1]])
    tensors["thresholds"] = torch.quantile(numbers[clean], 1 - _FALSE_ALARMS, dim=0)
    readout = WordReadout(tensors)
    numbers = readout.numbers_of(measuring[0])
    areas = {word: auc(numbers[:, at].tolist(), measuring[1], word) for at, word in enumerate(WORDS)}
    tensors["auc"] = torch.tensor([areas[word] for word in WORDS])
    store(tensors, metric.base + SUFFIX)
    report = {
        "metric": metric.full_name,
        "pictures": {"fitted to": len(training[1]), "thresholds": len(settings[1]), "measured on": len(measuring[1])},
        "auc": areas,
        "mean": round(float(np.mean(list(areas.values()))), 4),
        "machine": describe_machine(),
    }
    print(json.dumps(report, indent=1))
    if args.output is not None:
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def made(metric: Metric, paths: Sequence[Path], side: int) -> tuple[Tensor, list[str]]:
    """Give the pooled features (N, C) of clean and damaged pictures, and the word that is true of each."""
    features, truths = [], []
    for truth, picture in pictures(paths, side):
        levels = metric.picture_levels(metric._prepare([tensor(picture)[0]]))
        features.append(pooled_features(levels))
        truths.append(truth)
    return torch.cat(features), truths


def fitted(features: Tensor, truths: Sequence[str], *, penalty: float) -> dict[str, Tensor]:
    """Fit a logistic regression for each word, the two sides of each with equal weight."""
    mean, scale = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    inputs = ((features - mean) / scale).double()
    true = torch.tensor([[truth == word for word in WORDS] for truth in truths], dtype=torch.float64)
    shares = torch.where(true == 1, 0.5 / true.sum(dim=0), 0.5 / (1 - true).sum(dim=0))
    weights = torch.zeros(inputs.shape[1], len(WORDS), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(WORDS), dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([weights, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        errors = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weights + bias, true, reduction="none")
        total = (shares * errors).sum() + penalty * weights.square().sum()
        total.backward()
        return total

    steps.step(loss)
    found = {"mean": mean, "scale": scale, "weights": weights.detach().T, "bias": bias.detach()}
    return {name: values.to(torch.float16 if values.ndim == 2 else torch.float32) for name, values in found.items()}


def store(tensors: dict[str, Tensor], name: str) -> None:
    """Write the file beside the manifest, with its entry."""
    path = WEIGHTS_FOLDER / f"{name}.safetensors"
    save_file({name: values.contiguous() for name, values in tensors.items()}, path)
    path.chmod(0o644)
    _update("bases", {"name": name, "file": path.name, "sha256": file_sha256(path, error=WeightsError)}, ("name",))


if __name__ == "__main__":
    main()
