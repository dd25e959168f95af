"""Measure what the scores of checkpoints mean, on pictures with people's scores that no training step saw.

    python weights/make_meaning.py data/biq2021/train_subset.csv \
        --images benchmarks/splits/biq2021-lite-heldout.txt --called "400 photographs of BIQ2021" \
        --metric bpclip-nr.lite --metric bpclip-nr.lite2 --metric pfd-iqa.lite
    python weights/make_meaning.py data/tid2013/pairs.csv --mos-range 0 9 \
        --called "150 damaged versions of 6 photographs of TID2013" --metric bpclip-fr.lite --metric bpclip-fr.lite2

Two facts of each checkpoint go into iqametrics/weights/meaning.json: the quantiles of the scores, and the spread of
Thurstone's case V, the one number that makes the order of people's mean scores in pairs most likely. Pictures with
references are paired within one reference, as people were shown them; photographs with each other. Pairs on whose
mean scores people tie are left out.

benchmarks/results/meaning.json gets how well the probabilities hold: the spread is fitted to every second picture
(every second reference), and the probabilities are compared with the order of people's scores in pairs of the others.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtr

from iqametrics import create_metric
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.datasets.sample import Sample
from iqametrics.metric import Metric
from iqametrics.scoring import Item, score_items
from iqametrics.weights.manifest import WEIGHTS_FOLDER

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from measure_lite import describe_machine

STORED = WEIGHTS_FOLDER / "meaning.json"
REPORT = Path(__file__).resolve().parents[1] / "benchmarks/results/meaning.json"
SHARES = 101
BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

Floats = npt.NDArray[np.float64]


def main() -> None:
    """Score the pictures, fit, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="pictures with people's scores (image,mos[,reference])")
    parser.add_argument("--images", type=Path, help="list of the pictures that are used (default: all)")
    parser.add_argument("--mos-range", type=float, nargs=2, metavar=("WORST", "BEST"), help="scale of the scores")
    parser.add_argument("--called", required=True, help="the set in words, as users read it")
    parser.add_argument("--metric", action="append", required=True, help="a checkpoint; may be repeated")
    args = parser.parse_args()
    span = tuple(args.mos_range) if args.mos_range else None
    samples = LabelledImages(csv=str(args.csv), mos_range=span, images=str(args.images or "")).load()
    mos = np.array([sample.mos for sample in samples])
    around = describe_machine()
    for name in args.metric:
        metric = create_metric(name)
        scores = scored(metric, samples)
        pairs = paired(samples, mos)
        spread = fitted(scores, mos, pairs)
        found = {
            "checkpoint": metric.full_name,
            "sha256": metric.weights_sha256,
            "pictures": args.called,
            "n": len(samples),
            "quantiles": [round(float(value), 4) for value in np.quantile(scores, np.linspace(0, 1, SHARES))],
            "spread": round(spread, 4),
            "pairs": len(pairs),
            "higher_is_better": metric.higher_is_better,
            "source": f"weights/make_meaning.py at commit {around['commit'][:12]}",
        }
        store(STORED, found)
        report = {"checkpoint": metric.full_name, "pictures": args.called, **calibration(scores, mos, samples)}
        store(REPORT, report | {"environment": around})
        print(json.dumps({key: value for key, value in {**found, **report}.items() if key != "quantiles"}, indent=1))


def scored(metric: Metric, samples: Sequence[Sample]) -> Floats:
    """Score the pictures, (n,)."""
    items = [Item(str(each.image), None if each.reference is None else str(each.reference)) for each in samples]
    values = []
    for row in score_items([metric], items):
        if row.score is None:
            sys.exit(row.error)
        values.append(row.score)
    return np.array(values)


def paired(samples: Sequence[Sample], mos: Floats) -> npt.NDArray[np.int64]:
    """Pair pictures of one reference, or photographs with each other, (P, 2): the one that people prefer first."""
    pairs = [
        (one, other) if mos[one] > mos[other] else (other, one)
        for one, other in combinations(range(len(samples)), 2)
        if samples[one].reference == samples[other].reference and mos[one] != mos[other]
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def fitted(scores: Floats, mos: Floats, pairs: npt.NDArray[np.int64]) -> float:
    """Find the spread that makes people's order of the pairs most likely."""
    gains = scores[pairs[:, 0]] - scores[pairs[:, 1]]

    def loss(log_spread: float) -> float:
        return -float(log_ndtr(gains / (np.sqrt(2) * np.exp(log_spread))).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-3), np.log(10)), method="bounded").x))


def calibration(scores: Floats, mos: Floats, samples: Sequence[Sample]) -> dict[str, Any]:
    """Fit to one half of the pictures, and compare stated and observed probabilities in pairs of the other half."""
    references = list(dict.fromkeys(sample.reference for sample in samples))
    second = [
        (references.index(sample.reference) if len(references) > 1 else number) % 2 == 1
        for number, sample in enumerate(samples)
    ]
    halves = [[i for i, is_second in enumerate(second) if is_second is wanted] for wanted in (False, True)]
    of_half = [np.array(half)[paired([samples[i] for i in half], mos[half])] for half in halves]
    spread = fitted(scores, mos, of_half[0])
    gains = scores[of_half[1][:, 0]] - scores[of_half[1][:, 1]]
    stated, agrees = ndtr(np.abs(gains) / (np.sqrt(2) * spread)), gains > 0
    bins = []
    for low, high in pairwise(BINS):
        inside = (stated >= low) & ((stated < high) | (high == BINS[-1]))
        if inside.any():
            bins.append(
                {
                    "pairs": int(inside.sum()),
                    "stated": round(float(stated[inside].mean()), 3),
                    "observed": round(float(agrees[inside].mean()), 3),
                }
            )
    return {
        "spread of the first half": round(spread, 4),
        "pairs of the second half": len(gains),
        "in the order of people's scores": round(float(agrees.mean()), 3),
        "bins": bins,
    }


def store(path: Path, found: dict[str, Any]) -> None:
    """Put the entry of a checkpoint in a file in place of an earlier one; one entry a line."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    entries = [entry for entry in entries if entry["checkpoint"] != found["checkpoint"]] + [found]
    lines = [json.dumps(entry) for entry in sorted(entries, key=lambda entry: str(entry["checkpoint"]))]
    path.write_text("[\n " + ",\n ".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
