"""Test what explanation maps point at: pictures with damage in a known quarter.

    python benchmarks/maps.py data/biq2021/train_subset.csv --only benchmarks/splits/biq2021-lite-heldout.txt \
        --metric bpclip-nr.lite --metric bpclip-nr.lite2 --metric pfd-iqa.lite --metric bpclip-fr.lite2 \
        --output benchmarks/results/maps.json

PHOTOGRAPHS is a folder, or a CSV (image,mos) of which those with the best scores are taken; `--only` names those that
no training step saw. Of each the middle is used, and one quarter of it is blurred, or gets noise, JPEG blocks, other
colours or less light, at two strengths; every quarter is as often the damaged one.

For each map of `metric.explain` and each damage:

found     share of cases in which the map's mean is greatest in the damaged quarter; chance is 0.25. It is what a person
          who sees one picture can use.
answers   share of cases in which the quarter's mean rises against the other three when the damage is put in; chance is
          0.5. It tells a map that answers to damage from one that sees it among other things.
"""

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from behaviour import chosen, middle, tensor
from measure_lite import describe_machine
from PIL import Image as Pillow
from PIL import ImageFilter

from iqametrics import Metric, create_metric

Image = npt.NDArray[np.float32]
Maker = Callable[[Image, int, np.random.Generator], Image]

STRENGTHS = 2


def blurred(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """Blur by a Gaussian of 2 or 4 pixels."""
    return _pixels(_pillow(image).filter(ImageFilter.GaussianBlur((2, 4)[strength])))


def noisy(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of 0.06 or 0.15."""
    return _clipped(image + rng.standard_normal(image.shape) * (0.06, 0.15)[strength])


def blocky(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """Code as JPEG of quality 20 or 8."""
    stream = io.BytesIO()
    _pillow(image).save(stream, "JPEG", quality=(20, 8)[strength])
    return _pixels(Pillow.open(stream))


def recoloured(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """Exchange the channels in part, or wholly."""
    share = (0.5, 1.0)[strength]
    return _clipped(share * image[..., [1, 2, 0]] + (1 - share) * image)


def darkened(image: Image, strength: int, rng: np.random.Generator) -> Image:
    """Keep a half or a quarter of the light."""
    return _clipped(image * (0.5, 0.25)[strength])


DAMAGE: dict[str, Maker] = {
    "blur": blurred,
    "noise": noisy,
    "jpeg blocks": blocky,
    "colour shift": recoloured,
    "darkening": darkened,
}


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PHOTOGRAPHS", help="folder, or CSV with scores")
    parser.add_argument("--metric", action="append", required=True, help="one that explains itself; may be repeated")
    parser.add_argument("--photographs", type=int, default=8, metavar="N", help="how many (default 8)")
    parser.add_argument("--only", type=Path, metavar="LIST", help="text file: names of the images that may be used")
    parser.add_argument("--side", type=int, default=384, help="side of the part that is used, in pixels (default 384)")
    parser.add_argument("--output", type=Path, metavar="JSON", help="results; those of other metrics in it are kept")
    args = parser.parse_args()
    photographs = [middle(path, args.side) for path in chosen(args.source, args.only, args.photographs)]
    for name in args.metric:
        found = {
            "photographs": len(photographs),
            "side": args.side,
            "cases of each damage": STRENGTHS * len(photographs),
            "maps": measured(create_metric(name), photographs),
            "machine": describe_machine(),
        }
        print(f"{name}\n{table(found['maps'])}", flush=True)
        if args.output is not None:
            kept = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {}
            args.output.write_text(json.dumps(kept | {name: found}, indent=1) + "\n", encoding="utf-8")


def measured(metric: Metric, photographs: Sequence[Image]) -> dict[str, dict[str, dict[str, float]]]:
    """Explain every damaged picture; give for each map and damage `found` and `answers`."""
    found: dict[str, dict[str, list[tuple[bool, bool]]]] = defaultdict(lambda: defaultdict(list))
    for photograph, cases in each_case(photographs):
        before = quarters(metric, photograph, photograph)
        for kind, quarter, picture in cases:
            for name, means in quarters(metric, picture, photograph).items():
                found[name][kind].append(verdict(means, before[name], quarter))
    return {
        name: {
            kind: {"found": _share(found[name][kind], 0), "answers": _share(found[name][kind], 1)} for kind in DAMAGE
        }
        for name in found
    }


def each_case(photographs: Sequence[Image]) -> Iterator[tuple[Image, Iterator[tuple[str, int, Image]]]]:
    """Yield each photograph with its damaged versions: kind, number of the damaged quarter, picture."""
    for number, photograph in enumerate(photographs):
        yield photograph, _cases(number, photograph)


def _cases(number: int, photograph: Image) -> Iterator[tuple[str, int, Image]]:
    for at, (kind, make) in enumerate(DAMAGE.items()):
        for strength in range(STRENGTHS):
            quarter = (number + at + 2 * strength) % 4
            part = _quarter(photograph.shape[0], photograph.shape[1], quarter)
            picture = photograph.copy()
            picture[part] = make(photograph, strength, np.random.default_rng(number))[part]
            yield kind, quarter, picture


def quarters(metric: Metric, picture: Image, photograph: Image) -> dict[str, npt.NDArray[np.float64]]:
    """Explain a picture; give the mean of each map in the four quarters, (4,), by rows."""
    explain: Any = metric.explain  # type: ignore[operator]
    references = [tensor(photograph)] if metric.mode == "fr" else []
    maps: Mapping[str, torch.Tensor] = explain(tensor(picture), *references).maps()
    return {name: quarter_means(values.double().cpu().numpy()) for name, values in maps.items()}


def quarter_means(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the mean of a map (H, W) in its four quarters, (4,), by rows; a middle row or column counts twice."""
    height, width = values.shape
    rows = (slice(0, (height + 1) // 2), slice(height // 2, None))
    columns = (slice(0, (width + 1) // 2), slice(width // 2, None))
    return np.array([np.nanmean(values[row, column]) for row in rows for column in columns])


def verdict(means: npt.NDArray[np.float64], before: npt.NDArray[np.float64], quarter: int) -> tuple[bool, bool]:
    """Tell whether the damaged quarter has the greatest mean, and whether it has risen against the others."""
    others = np.arange(4) != quarter
    risen = (means[quarter] - means[others].mean()) > (before[quarter] - before[others].mean())
    return bool(means[quarter] > means[others].max()), bool(risen)


def table(maps: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Lay the figures out as a table in Markdown: found / answers."""
    lines = [f"| map | {' | '.join(DAMAGE)} | all |", "|---" * (len(DAMAGE) + 2) + "|"]
    for name, kinds in maps.items():
        cells = [f"{kinds[kind]['found']:.2f} / {kinds[kind]['answers']:.2f}" for kind in DAMAGE]
        whole = [float(np.mean([kinds[kind][which] for kind in DAMAGE])) for which in ("found", "answers")]
        lines.append(f"| {name} | {' | '.join(cells)} | {whole[0]:.2f} / {whole[1]:.2f} |")
    return "\n".join(lines)


def _share(verdicts: Sequence[tuple[bool, bool]], which: int) -> float:
    return round(float(np.mean([each[which] for each in verdicts])), 4)


def _quarter(height: int, width: int, quarter: int) -> tuple[slice, slice]:
    rows = slice(0, height // 2) if quarter < 2 else slice(height // 2, None)
    return rows, slice(0, width // 2) if quarter % 2 == 0 else slice(width // 2, None)


def _pillow(image: Image) -> Pillow.Image:
    return Pillow.fromarray((image * 255).round().astype(np.uint8))


def _pixels(picture: Pillow.Image) -> Image:
    return np.asarray(picture.convert("RGB"), np.float32) / 255


def _clipped(pixels: npt.NDArray[Any]) -> Image:
    return np.clip(pixels, 0, 1).astype(np.float32)


if __name__ == "__main__":
    main()
