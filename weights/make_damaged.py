"""Make damaged versions of photographs, for the loss on order of the second edition of the lite models.

    python weights/make_damaged.py data/biq2021/train_subset.csv --held-out benchmarks/splits/biq2021-lite-heldout.txt \
        --out data/damaged --photographs 700

Of each photograph one crop is written as it is, with two strengths of each of a few kinds of damage and a few pictures
that no person would call good (`spoilt.py`). The CSV's `mos` is no opinion but a rank: 1 for the crop, 1 - t / 10 for
damage of strength t in (0, 5], and what is spoilt from 0 up. Ranks are compared within a photograph, and there within a
kind or with the crop itself; how a blur compares with a noise is nobody's guess. The column `distortion` names the
kind, by which the loss on words knows what is true of a picture. Kinds named by `--often` are drawn with four times the
weight of the others, of damage and of what is spoilt alike. Of those named by `--slight` each photograph has three more
versions, one each and hardly visible: the first step of a damage is the one that a score misses most easily.

Kinds named in `HELD_OUT` are never written, so that it can be measured whether what was learnt carries over.
"""

import argparse
import csv
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PilImage
from spoilt import SPOILT

from iqametrics.datasets.distortions import find_distortion

# Strengths 1 to 5, spread wider than the package's levels; a strength between two whole ones lies between them.
STRENGTHS: dict[str, tuple[float, float, float, float, float]] = {
    "gaussian_blur": (0.6, 1, 1.7, 3, 6),
    "lens_blur": (1, 2, 3.5, 6, 9),
    "motion_blur": (2, 4, 7, 11, 18),
    "jpeg": (75, 45, 25, 12, 4),
    "jpeg2000": (16, 32, 60, 120, 400),
    "webp": (70, 40, 20, 8, 1),
    "jpeg_resaved": (70, 45, 25, 12, 5),
    "white_noise": (0.0004, 0.0015, 0.004, 0.012, 0.04),
    "color_noise": (0.0001, 0.0005, 0.001, 0.003, 0.01),
    "impulse_noise": (0.001, 0.005, 0.015, 0.04, 0.1),
    "multiplicative_noise": (0.001, 0.005, 0.015, 0.04, 0.1),
    "poisson_noise": (500, 200, 80, 30, 8),
    "correlated_noise": (0.01, 0.025, 0.05, 0.09, 0.15),
    "banding": (5, 4.2, 3.6, 3, 1.8),
    "quantization": (20, 14, 10, 7, 4),
    "color_quantization": (64, 40, 24, 12, 6),
    "darken": (0.15, 0.3, 0.5, 0.7, 0.95),
    "brighten": (0.15, 0.3, 0.5, 0.8, 1.2),
    "color_temperature": (0.08, 0.16, 0.26, 0.38, 0.55),
    "color_saturation_1": (0.55, 0.35, 0.2, 0.1, 0),
    "color_saturation_2": (1.6, 2.2, 3, 5, 9),
    "bicubic_upscale": (1.3, 1.9, 3, 5, 9),
    "bilinear_upscale": (1.3, 1.9, 3, 5, 9),
    "haze": (0.12, 0.24, 0.4, 0.58, 0.8),
    "high_sharpen": (1, 2, 3.5, 6, 12),
    "halo": (0.3, 0.7, 1.2, 2.2, 4),
    "pixelate": (0.01, 0.05, 0.1, 0.2, 0.5),
    "median_smoothing": (3, 5, 7, 11, 17),
    "jitter": (0.1, 0.2, 0.35, 0.6, 1.2),
    "block_loss": (0.01, 0.03, 0.06, 0.12, 0.25),
    "ghosting": (0.08, 0.14, 0.22, 0.34, 0.5),
    "chromatic_aberration": (0.7, 1.5, 3, 5, 9),
    "row_jitter": (0.4, 0.7, 1.2, 2.5, 5),
}
HELD_OUT = ("avif", "ringing", "vignetting", "salt_and_pepper", "color_diffusion")
CROP = 384
GROUP_COLUMNS = ("image", "mos", "group", "distortion", "level")
_LEAST_STEP = 0.7
_OFTEN = 4
_SLIGHT, _SLIGHTEST = 3, 1.8
_SMALLEST_CHANGE = 0.5 / 255


def main() -> None:
    """Read the arguments and write the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="+", help="photographs with scores (image,mos)")
    parser.add_argument("--held-out", type=Path, help="list of images that must not be used")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", type=int, default=700)
    parser.add_argument("--least-mos", type=float, default=0.5, help="damage shows on good photographs only")
    parser.add_argument("--kinds", type=int, default=3, help="kinds of damage a photograph")
    parser.add_argument("--spoilt", type=int, default=2, help="spoilt versions a photograph")
    parser.add_argument("--often", nargs="*", default=[], choices=[*STRENGTHS, *SPOILT], metavar="KIND")
    parser.add_argument("--slight", nargs="*", default=[], choices=list(STRENGTHS), metavar="KIND")
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = []
    for path in chosen(args.csv, args.held_out, args.least_mos, args.photographs):
        rows += versions(path, args.out, kinds=args.kinds, spoilt=args.spoilt, often=args.often, slight=args.slight)
    with (args.out / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([GROUP_COLUMNS, *rows])
    print(f"{args.out}: {len(rows)} images")


def chosen(tables: list[Path], held_out: Path | None, least: float, count: int) -> list[Path]:
    """Choose photographs of a score from `least` up, by a digest of their names."""
    banned = set() if held_out is None else set(held_out.read_text(encoding="utf-8").splitlines())
    found: list[Path] = []
    for table in tables:
        with table.open(encoding="utf-8", newline="") as stream:
            found += [
                table.parent / row["image"]
                for row in csv.DictReader(stream)
                if float(row["mos"]) >= least and row["image"] not in banned
            ]
    large = (path for path in sorted(found, key=lambda path: seed_of(path.name)) if _is_large(path))
    return [path for path, _ in zip(large, range(count), strict=False)]


def _is_large(path: Path) -> bool:
    with PilImage.open(path) as image:
        return min(image.size) >= CROP


def versions(
    path: Path, out: Path, *, kinds: int, spoilt: int, often: Collection[str] = (), slight: Sequence[str] = ()
) -> Iterator[tuple[object, ...]]:
    """Write the crop of a photograph and its versions, and give their rows."""
    rng = np.random.default_rng(seed_of(path.name))
    with PilImage.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"), dtype=np.float32) / np.float32(255)
    top, left = (int(rng.integers(side - CROP + 1)) for side in pixels.shape[:2])
    crop = pixels[top : top + CROP, left : left + CROP]
    group = path.stem
    yield _row(out, group, crop, 1.0, "", "")
    for name in _drawn(STRENGTHS, kinds, often, rng):
        low = rng.uniform(0.5, 5 - _LEAST_STEP)
        for strength in (low, rng.uniform(low + _LEAST_STEP, 5)):
            damaged = find_distortion(name).apply(crop, parameter(name, strength), rng)
            if unchanged(damaged, crop):
                continue
            yield _row(out, group, damaged, 1 - strength / 10, name, round(strength, 2))
    for name in _drawn(SPOILT, spoilt, often, rng):
        make, rank = SPOILT[name]
        yield _row(out, group, make(crop, rng), rank, name, "")
    for name in rng.permutation(slight)[:_SLIGHT]:
        strength = rng.uniform(1, _SLIGHTEST)
        damaged = find_distortion(str(name)).apply(crop, parameter(str(name), strength), rng)
        if unchanged(damaged, crop):
            continue
        yield _row(out, group, damaged, 1 - strength / 10, str(name), f"slight_{strength:.2f}")


def unchanged(damaged: np.ndarray, original: np.ndarray) -> bool:
    """Tell whether nothing is left to see of the damage, as of less colour in a gray photograph."""
    return bool(np.abs(np.clip(damaged, 0, 1) - original).max() < _SMALLEST_CHANGE)


def _drawn(names: Iterable[str], count: int, often: Collection[str], rng: np.random.Generator) -> list[str]:
    """Draw different names, those of `often` four times as often."""
    known = list(names)
    weights = np.array([_OFTEN if name in often else 1.0 for name in known])
    return [str(name) for name in rng.choice(known, size=count, replace=False, p=weights / weights.sum())]


def parameter(name: str, strength: float) -> float:
    """Interpolate the parameter of a strength in (0, 5]; under 1 it is that of 1."""
    return float(np.interp(strength, (1, 2, 3, 4, 5), STRENGTHS[name]))


def seed_of(text: str) -> int:
    """Give a seed that is a digest of a name."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _row(out: Path, group: str, image: np.ndarray, rank: float, kind: str, strength: object) -> tuple[object, ...]:
    name = f"images/{group}_{kind or 'crop'}{'' if strength == '' else f'_{strength}'}.png"
    if not (out / name).exists():
        pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        PilImage.fromarray(pixels).save(out / name, compress_level=1)
    return name, round(rank, 4), group, kind, ""


if __name__ == "__main__":
    main()
