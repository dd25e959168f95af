"""What torch's own ways to go faster do to a metric: torch.compile, bfloat16 by autocast, int8.

    python benchmarks/speed_options.py [--metric bpclip-nr.lite] [--pictures FOLDER] [--count 8] [--only WORD ...]

Prints, for each way, its processor time divided by that of the metric as it is (median over rounds in which both run,
one thread, one picture of 512x512), the largest change of a score over the pictures of FOLDER, and the seconds of the
first call.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from iqametrics import create_metric, read_image
from iqametrics.metric import Metric

ROUNDS = 7


def compiled(name: str) -> Callable[[Tensor], Tensor]:
    """Compile the metric by inductor, which needs a C++ compiler."""
    return torch.compile(create_metric(name))


def in_bfloat16(name: str) -> Callable[[Tensor], Tensor]:
    """Compute in bfloat16; a metric whose weights are in bfloat16 computes in float32 on a CPU."""
    metric = create_metric(name)

    def score(image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return metric(image)

    return score


def in_int8(name: str) -> Metric:
    """Make the linear layers int8; torch has no dynamic quantisation of convolutions."""
    metric = create_metric(name)
    metric.model = torch.ao.quantization.quantize_dynamic(metric.model, {torch.nn.Linear}, dtype=torch.qint8)
    return metric


WAYS: dict[str, Callable[[str], Callable[[Tensor], Tensor]]] = {
    "torch.compile": compiled,
    "bfloat16": in_bfloat16,
    "int8 linear layers": in_int8,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metric", default="bpclip-nr.lite")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    args = parser.parse_args()
    torch.set_num_threads(1)
    metric = create_metric(args.metric)
    paths = sorted(path for path in args.pictures.iterdir() if path.suffix.lower() in (".jpg", ".png"))[: args.count]
    images = [read_image(path)[None] for path in paths]
    noise = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    print("| way | time / as it is | largest change | first call |\n|---|---|---|---|")
    for name, make in WAYS.items():
        if args.only and not any(word in name for word in args.only):
            continue
        score = make(args.metric)
        start = time.process_time()
        score(noise)
        first = time.process_time() - start
        ratios = [seconds(score, noise) / seconds(metric, noise) for _ in range(ROUNDS)]
        change = max(abs(score(image).item() - metric(image).item()) for image in images)
        print(f"| {name} | {statistics.median(ratios):.2f} | {change:.4f} | {first:.1f} s |", flush=True)


def seconds(score: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    score(image)
    return time.process_time() - start


if __name__ == "__main__":
    main()
