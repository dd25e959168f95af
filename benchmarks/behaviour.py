"""Measure how metrics behave where users decide: order under damage, pictures nobody would call good, use as a loss.

    python benchmarks/behaviour.py PHOTOGRAPHS --metric bpclip-nr --metric bpclip-fr --metric piq/ssim
    python benchmarks/behaviour.py data/biq2021/train_subset.csv --only benchmarks/splits/biq2021-lite-heldout.txt \
        --photographs 40 --metric bpclip-nr --pairs data/tid2013 --output benchmarks/results/behaviour.json

PHOTOGRAPHS is a folder, or a CSV (image,mos) of which those with the best scores are taken. They should be sharp, and
none that a measured metric was trained on; `--only` names the images of a held-out part. The middle of each is used, or
with `--shrink` all of it, scaled down to that size: large photographs lose the traces of their own JPEG coding so,
beside which slight damage by JPEG cannot be seen.
`--pairs` is a folder with pairs.csv (image,reference,mos,type), as the TID2013 sample has it.

Higher is better in every figure: scores of metrics that count errors are turned around.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import behaviour_pictures as pictures
import numpy as np
import torch
from behaviour_pictures import DAMAGE, FURTHER_DAMAGE, NEAR_LOSSLESS, SPOILT, Image
from measure_lite import describe_machine

from iqametrics import Metric, create_metric, evaluate, read_image
from iqametrics.datasets.synthetic import prepare_reference
from iqametrics.images import list_images

Scorer = Callable[[Sequence[Image], Image | None], list[float]]

MARGIN = 0.1
"""By how much a spoilt picture must lie below the photograph to lie clearly below."""
_LOSS_SIDE = 256


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PHOTOGRAPHS", help="folder, or CSV with scores")
    parser.add_argument("--metric", action="append", required=True, help="name, as create_metric takes it")
    parser.add_argument("--photographs", type=int, default=8, metavar="N", help="how many (default 8)")
    parser.add_argument("--only", type=Path, metavar="LIST", help="text file: names of the images that may be used")
    parser.add_argument("--side", type=int, default=384, help="side of the part that is used, in pixels (default 384)")
    parser.add_argument(
        "--shrink", action="store_true", help="scale the photographs down instead of cutting a part out"
    )
    parser.add_argument("--loss-photographs", type=int, default=2, metavar="N", help="for use as a loss (default 2)")
    parser.add_argument("--loss-steps", type=int, default=60)
    parser.add_argument("--pairs", type=Path, metavar="FOLDER", help="scored pairs for agreement with people")
    parser.add_argument("--output", type=Path, metavar="JSON", help="results; those of other metrics in it are kept")
    args = parser.parse_args()
    cut = shrunk if args.shrink else middle
    photographs = [cut(path, args.side) for path in chosen(args.source, args.only, args.photographs)]
    report: dict[str, Any] = {
        "photographs": len(photographs),
        "side": args.side,
        "source": args.source.name,
        "only": args.only and args.only.name,
        "shrunk": args.shrink,
    }
    report["metrics"] = kept(args.output, report)
    for name in args.metric:
        metric = create_metric(name)
        found = {"machine": describe_machine(), **behaviour(metric, photographs)}
        if metric.differentiable:
            loss = create_metric(name, as_loss=True)
            found["as_loss"] = as_loss(metric, loss, photographs[: args.loss_photographs], args.loss_steps)
        if args.pairs is not None:
            found["agreement"] = agreement(metric, args.pairs)
        report["metrics"][name] = found
        print(f"{name}\n{table(found)}", flush=True)
        if args.output is not None:
            args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def kept(output: Path | None, setting: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an earlier run on the same photographs found of other metrics."""
    if output is None or not output.exists():
        return {}
    before: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    metrics: dict[str, Any] = before.pop("metrics")
    return metrics if before == setting else {}


def chosen(source: Path, only: Path | None, count: int) -> list[Path]:
    """Give the photographs to use: of a CSV those with the best scores, of a folder the first by name."""
    if source.is_dir():
        found = list(list_images(source))
        names = {path: path.name for path in found}
    else:
        with source.open(encoding="utf-8", newline="") as stream:
            rows = sorted(csv.DictReader(stream), key=lambda row: -float(row["mos"]))
        names = {source.parent / row["image"]: row["image"] for row in rows}
        found = list(names)
    allowed = None if only is None else set(only.read_text(encoding="utf-8").splitlines())
    kept = [path for path in found if allowed is None or names[path] in allowed]
    if not kept:
        sys.exit(f"{source}: no photograph is left to measure on; check the path and --only")
    return kept[:count]


def middle(path: Path, side: int) -> Image:
    """Read the middle of a photograph, (side, side, 3) in [0, 1]; one that is smaller is used whole."""
    image = read_image(path).permute(1, 2, 0).numpy()
    height, width = (min(length, side) for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width], dtype=np.float32)


def shrunk(path: Path, side: int) -> Image:
    """Read a photograph, scaled down to cover (side, side, 3) and cropped to it, in [0, 1]."""
    return np.asarray(prepare_reference(path, (side, side)), dtype=np.float32) / np.float32(255)


def scorer(metric: Metric) -> Scorer:
    """Give a function from pictures and their reference to scores of which the higher is the better."""
    sign = 1 if metric.higher_is_better else -1

    def score(images: Sequence[Image], reference: Image | None) -> list[float]:
        with torch.no_grad():
            if metric.mode == "nr":
                return [sign * float(metric(tensor(image))) for image in images]
            assert reference is not None
            return [sign * float(metric(tensor(image), tensor(reference))) for image in images]

    return score


def tensor(image: Image) -> torch.Tensor:
    """Turn (H, W, 3) into (1, 3, H, W)."""
    return torch.from_numpy(np.clip(image, 0, 1)).permute(2, 0, 1)[None].contiguous()


def behaviour(metric: Metric, photographs: Sequence[Image]) -> dict[str, Any]:
    """Measure everything that needs scores only."""
    score = scorer(metric)
    found: dict[str, Any] = {
        "order": order_under_damage(score, photographs, DAMAGE),
        "order_further": order_under_damage(score, photographs, FURTHER_DAMAGE),
        "spoilt": spoilt(score, photographs),
    }
    if metric.mode == "fr":
        found["identical"] = identical(score, photographs)
        found["near_lossless"] = order_under_damage(score, photographs, NEAR_LOSSLESS)
        found["harmless"] = harmless(score, photographs)
    return found


def order_under_damage(
    score: Scorer, photographs: Sequence[Image], kinds: Mapping[str, pictures.Kind]
) -> dict[str, dict[str, Any]]:
    """Count how often the next level of a damage scores below the one before, the photograph being level 0.

    Returns:
        For each kind `right`, the share of steps in the right order, and `means`, the mean score of each level.
    """
    found = {}
    for name, (apply, strengths) in kinds.items():
        rows = []
        for number, photograph in enumerate(photographs):
            versions = [apply(photograph, strength, np.random.default_rng(number)) for strength in strengths]
            rows.append(score([photograph, *versions], photograph))
        scores = np.array(rows)
        right = scores[:, :-1] > scores[:, 1:]
        found[name] = {"right": float(right.mean()), "means": scores.mean(axis=0).round(4).tolist()}
    return found


def spoilt(score: Scorer, photographs: Sequence[Image]) -> dict[str, dict[str, float]]:
    """Count how often what no person would call good scores below the photograph, and by MARGIN or more."""
    base = [score([photograph], photograph)[0] for photograph in photographs]
    found = {}
    for name, make in SPOILT.items():
        scores = [
            score([make(photograph, np.random.default_rng(number))], photograph)[0]
            for number, photograph in enumerate(photographs)
        ]
        gaps = np.array(base) - np.array(scores)
        found[name] = {
            "below": float((gaps > 0).mean()),
            "clearly": float((gaps >= MARGIN).mean()),
            "mean": float(np.mean(scores)),
            "photographs": float(np.mean(base)),
        }
    return found


def identical(score: Scorer, photographs: Sequence[Image]) -> dict[str, list[float]]:
    """Give the lowest and highest score of identical pairs of photographs and of made pictures."""
    made = {
        name: [make(photographs[0], np.random.default_rng(0))] for name, make in (SPOILT | pictures.CONTENT).items()
    }
    every = {"photographs": list(photographs)} | made
    scores = {name: [score([image], image)[0] for image in images] for name, images in every.items()}
    return {name: [min(values), max(values)] for name, values in scores.items()}


def harmless(score: Scorer, photographs: Sequence[Image]) -> dict[str, float]:
    """Give the mean scores of changes that people do not mind, beside that of JPEG at quality 30."""
    return {
        name: float(np.mean([score([change(photograph)], photograph)[0] for photograph in photographs]))
        for name, change in pictures.HARMLESS.items()
    }


def as_loss(metric: Metric, loss: Metric, photographs: Sequence[Image], steps: int) -> dict[str, Any]:
    """Start from damaged photographs and follow the gradient of the metric as a loss, by Adam.

    Returns:
        For each start PSNR, in dB, and SSIM before and after, on how many photographs both rose, the score before,
        after and of the photograph itself, and on how many it passed that.
    """
    score, similarity = scorer(metric), scorer(create_metric("piq/ssim"))
    found: dict[str, Any] = {}
    for name, damage in pictures.STARTS.items():
        rows = []
        for number, whole in enumerate(photographs):
            photograph = whole[:_LOSS_SIDE, :_LOSS_SIDE]
            start = np.clip(damage(photograph, np.random.default_rng(number)), 0, 1)
            end = _descend(loss, tensor(start), tensor(photograph), steps)
            psnrs = [psnr(image, photograph) for image in (start, end)]
            ssims = similarity([start, end], photograph)
            rows.append((*psnrs, *ssims, *(score([image], photograph)[0] for image in (start, end, photograph))))
        columns = np.array(rows).T
        risen = (columns[1] > columns[0]) & (columns[3] > columns[2])
        found[name] = {
            "psnr": columns[:2].mean(axis=1).tolist(),
            "ssim": columns[2:4].mean(axis=1).tolist(),
            "risen": int(risen.sum()),
            "of": len(rows),
            "score": columns[4:].mean(axis=1).tolist(),
            "passed": int((columns[5] > columns[6]).sum()),
        }
    return found


def _descend(loss: Metric, start: torch.Tensor, photograph: torch.Tensor, steps: int) -> Image:
    """Give what Adam makes of a picture, of which the loss has a gradient."""
    references = (photograph,) if loss.mode == "fr" else ()
    image = start.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr=0.01)
    for _ in range(steps):
        adam.zero_grad()
        loss(image.clamp(0, 1), *references).backward()
        adam.step()
    end: Image = image.detach().clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return end


def psnr(image: Image, photograph: Image) -> float:
    """Give the peak signal-to-noise ratio in dB; 100 at most."""
    return float(-10 * np.log10(max(float(np.square(image - photograph).mean()), 1e-10)))


def agreement(metric: Metric, folder: Path) -> dict[str, float]:
    """Give the SRCC with the scores of people, over all pairs and within each type."""
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    score = scorer(metric)
    held = {name: middle(folder / name, 10_000) for name in {row["reference"] for row in rows}}
    values = [score([middle(folder / row["image"], 10_000)], held[row["reference"]])[0] for row in rows]
    mos = [float(row["mos"]) for row in rows]
    found = {"all": evaluate(values, mos).srcc}
    for kind in dict.fromkeys(row.get("type", "") for row in rows):
        of_kind = [index for index, row in enumerate(rows) if row.get("type", "") == kind]
        found[f"type {kind}"] = evaluate([values[i] for i in of_kind], [mos[i] for i in of_kind]).srcc
    return found


def table(found: Mapping[str, Any]) -> str:
    """Lay the figures of one metric out as lines of a fixed width."""
    lines: list[str] = []
    for part in ("order", "order_further", "near_lossless"):
        for name, row in found.get(part, {}).items():
            lines.append(_line(part, name, f"{row['right']:.3f}  in order;  levels {_numbers(row['means'])}"))
    for name, row in found["spoilt"].items():
        text = f"{row['clearly']:.3f}  clearly below ({row['below']:.3f} below);  {row['mean']:.3f}"
        lines.append(_line("spoilt", name, f"{text} for {row['photographs']:.3f}"))
    for name, ends in found.get("identical", {}).items():
        lines.append(_line("identical", name, " to ".join(f"{value:.3f}" for value in ends)))
    for part in ("harmless", "agreement"):
        lines += [_line(part, name, f"{value:.3f}") for name, value in found.get(part, {}).items()]
    for name, row in found.get("as_loss", {}).items():
        (before, after), ssims, scores = row["psnr"], _numbers(row["ssim"]), _numbers(row["score"])
        text = f"{before:.1f} to {after:.1f} dB, SSIM {ssims}, both up on {row['risen']} of {row['of']};"
        lines.append(_line("as_loss", name, f"{text}  score before, after, best {scores}"))
    return "\n".join(lines)


def _line(part: str, name: str, text: str) -> str:
    return f"  {part:13}  {name:18}  {text}"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    main()
