"""Measure whether words are true: how well each tells pictures with its damage from clean and otherwise damaged ones.

    python benchmarks/words.py data/biq2021/train_subset.csv --only benchmarks/splits/biq2021-lite-heldout.txt \
        --skip 80 --metric bpclip-nr.lite --metric bpclip-nr.lite2 --metric pfd-iqa.lite \
        --output benchmarks/results/words.json

The best-scored photographs of the list are taken but the first 80, by which the readout's thresholds were set and its
words chosen; the middle of each. Of each there is a clean picture and one for each word, with a damage and a level from
3 to 5 that are drawn by the photograph's number. A metric gives a number for each word that it has: BPCLIP how much
nearer the picture is to an adjective than to its antonym, the mean over the levels; PFD-IQA the probability by its own
prior; "readout" is that of `Metric.words`, of the first metric. The area under the ROC curve says how often a picture
with the word's damage has the greater number than one without, 0.5 being chance. Of the readout it is also told of
which share of the pictures with its damage, and of clean ones, each word is said.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from behaviour import chosen, middle, tensor
from measure_lite import describe_machine

from iqametrics import Metric, create_metric
from iqametrics.bpclip import word_loss
from iqametrics.bpclip.model import Bpclip
from iqametrics.datasets.distortions import distort
from iqametrics.novelty import pooled_features
from iqametrics.pfd_iqa.model import PfdIqa
from iqametrics.pfd_iqa.prompts import DISTORTIONS
from iqametrics.words import DAMAGE, WORDS

Image = npt.NDArray[np.float32]

LEVELS = (3, 4, 5)
READOUT = "readout"
PRIORS = {
    "blurry": "blur",
    "noisy": "noise",
    "blocky": "jpeg compression",
    "overexposed": "overexposure",
    "underexposed": "underexposure",
    "hazy": "contrast",
    "color-shifted": "color",
    "banded": "quantization",
}
"""PFD-IQA's names of the same damage, where it has one."""


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PHOTOGRAPHS", help="folder, or CSV with scores")
    parser.add_argument("--metric", action="append", required=True, help="bpclip-nr or pfd-iqa; may be repeated")
    parser.add_argument("--photographs", type=int, default=24, metavar="N", help="how many (default 24)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N of them (default 0)")
    parser.add_argument("--only", type=Path, metavar="LIST", help="text file: names of the images that may be used")
    parser.add_argument("--side", type=int, default=384, help="side of the part that is used, in pixels (default 384)")
    parser.add_argument("--output", type=Path, metavar="JSON")
    args = parser.parse_args()
    paths = chosen(args.source, args.only, args.skip + args.photographs)[args.skip :]
    # By the names that were asked for: two checkpoints of one run have the same name otherwise.
    metrics = {name: create_metric(name) for name in args.metric}
    first = metrics[args.metric[0]]
    numbers: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in metrics}
    numbers[READOUT] = defaultdict(list)
    truths: list[str] = []
    heard: list[dict[str, float]] = []
    for truth, picture in pictures(paths, args.side):
        truths.append(truth)
        for name, metric in metrics.items():
            for word, number in said(metric, picture).items():
                numbers[name][word].append(number)
        for word, number in read(first, picture).items():
            numbers[READOUT][word].append(number)
        heard += first.words(tensor(picture))
    found = {
        "photographs": len(paths),
        "pictures": len(truths),
        "auc": {name: {word: auc(values, truths, word) for word, values in numbers[name].items()} for name in numbers},
        "said of pictures with the damage": {word: spoken(heard, truths, word, of=word) for word in DAMAGE},
        "said of clean photographs": {word: spoken(heard, truths, word, of="") for word in DAMAGE},
        "machine": describe_machine(),
    }
    print(json.dumps(found, indent=1))
    if args.output is not None:
        args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pictures(paths: Sequence[Path], side: int) -> Iterator[tuple[str, Image]]:
    """Yield the clean middle of each photograph, called "", and its damaged versions, each with its word."""
    for number, path in enumerate(paths):
        photograph = middle(path, side)
        yield "", photograph
        rng = np.random.default_rng(number)
        for word, kinds in DAMAGE.items():
            kind, level = str(rng.choice(kinds)), int(rng.choice(LEVELS))
            yield word, distort(photograph, kind, level, rng)


@torch.no_grad()
def said(metric: Metric, picture: Image) -> dict[str, float]:
    """Give the metric's number for each word that it has."""
    image = metric._prepare([tensor(picture)[0]])
    if isinstance(metric.model, Bpclip):
        return _adjectives(metric.model, image)
    assert isinstance(metric.model, PfdIqa)
    return _priors(metric.model, image)


@torch.no_grad()
def read(metric: Metric, picture: Image) -> dict[str, float]:
    """Give the readout's number for each word."""
    readout = metric._readout()
    assert readout is not None
    levels = metric.picture_levels(metric._prepare([tensor(picture)[0]]))
    return dict(zip(WORDS, readout.numbers_of(pooled_features(levels))[0].tolist(), strict=True))


def spoken(heard: Sequence[Mapping[str, float]], truths: Sequence[str], word: str, *, of: str) -> float:
    """Give the share of the pictures of one kind that a word is said of."""
    return round(float(np.mean([word in words for words, truth in zip(heard, truths, strict=True) if truth == of])), 4)


def auc(numbers: Sequence[float], truths: Sequence[str], word: str) -> float:
    """Give the area under the ROC curve: how often a picture with the word's damage has the greater number."""
    values, true = np.array(numbers), np.array([truth == word for truth in truths])
    gaps = values[true][:, None] - values[~true][None, :]
    return round(float((gaps > 0).mean() + (gaps == 0).mean() / 2), 4)


def _adjectives(model: Bpclip, image: torch.Tensor) -> dict[str, float]:
    numbers = word_loss.said(model.encode(model.levels(model.trunk(image))).descriptors)[0].tolist()
    return {word: numbers[pair] for word, pair in word_loss.pairs_of(list(DAMAGE)).items()}


def _priors(model: PfdIqa, image: torch.Tensor) -> dict[str, float]:
    windows, _ = model.windows(model.canvas(model.trunk(image)))
    logits = model.discover(windows[0]).distortion_logits
    assert logits is not None
    shares: list[Any] = logits.softmax(dim=1).mean(dim=0).tolist()
    return {word: shares[DISTORTIONS.index(name)] for word, name in PRIORS.items()}


if __name__ == "__main__":
    main()
