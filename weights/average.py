"""Average the weights of training runs that began where the one before ended, and measure the average.

    python weights/average.py runs/bpclip-nr-lite2 runs/bpclip-nr-second --out runs/bpclip-nr-average \
        --csv data/biq2021/steady.csv

Stochastic weight averaging (Izmailov et al., UAI 2018) with a cyclic rate: each run ends a cycle, and the mean of the
ends generalises better than any of them. The result is laid out as a run, so that `bundle.py` takes it: the file
`checkpoint.safetensors` with the record of the last run and the results of the average, and `predictions.csv`.
"""

import argparse
import csv
import sys
from pathlib import Path

import torch

from iqametrics import create_metric
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.protocol import group_keys
from iqametrics.evaluation.measure import measure
from iqametrics.weights.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    """Read the arguments, average, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished runs, the last one last")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--csv", type=Path, required=True, help="image,mos,split: those of split val are measured on")
    parser.add_argument("--limit", type=int, metavar="N", help="measure on the first N only")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    loaded = [load_checkpoint(run / "checkpoint.safetensors") for run in args.runs]
    metadata, last = loaded[-1]
    if any((other["metric"], other["config"]) != (metadata["metric"], metadata["config"]) for other, _ in loaded):
        sys.exit("the runs are of different metrics or models; average runs of one recipe's cycles")
    averaged = {
        name: torch.stack([tensors[name].float() for _, tensors in loaded]).mean(dim=0)
        if last[name].is_floating_point()
        else last[name]
        for name in last
    }
    metadata = metadata | {"backbone": None, "results": {}}
    metadata["training"] = metadata["training"] | {"averaged": len(loaded)}
    path = args.out / "checkpoint.safetensors"
    save_checkpoint(path, averaged, metadata)
    samples = [sample for sample in read_csv_dataset(args.csv) if sample.split == "val"][: args.limit]
    names = [sample.image.relative_to(args.csv.parent) for sample in samples]
    metric = create_metric(metadata["metric"], weights=path)
    scores = [float(metric(*filter(None, (sample.image, sample.reference)))) for sample in samples]
    mos = [sample.mos for sample in samples]
    found = measure(scores, mos, groups=group_keys(samples, "near-duplicates"))
    save_checkpoint(path, averaged, metadata | {"results": {"validation": found}})
    with (args.out / "predictions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "mos", "score"))
        writer.writerows((name, one, f"{score:.6f}") for name, one, score in zip(names, mos, scores, strict=True))
    print(f"{path}: SRCC {found['srcc']:.4f}, PLCC {found['plcc']:.4f} on {found['n']} images")


if __name__ == "__main__":
    main()
