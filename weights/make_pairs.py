"""Make the pairs that the second edition of bpclip-fr's lite model is trained with.

    python weights/make_pairs.py PHOTOS --held-out benchmarks/splits/photos-lite-heldout.txt --out data/pairs

Of each photograph crops of 256x256 are references. Five tables are written:

`scored.csv`  pairs with a label:
              half of KADID-10k's kinds, each at two of its levels; the label is the mean of two, KADID-10k's mean human
              score of that kind and level, and what `bpclip-fr.lite` says, which was trained to tell contents apart;
              further kinds, labelled after the nearest of KADID-10k's and an ensemble of classical metrics
              (`grounded.py`);
              contrast, raised and lowered about the mean: people like some more of it, which is harmless; what is lost
              by less of it KADID-10k's means say;
              what people do not mind, a shift by a pixel or a resampling by half of one, labelled HARMLESS.
              The column `split` keeps the held-out photographs apart.
`shifts.csv`  the shifts of the photographs for training once more, so that a recipe can let them count more.
`codecs.csv`  the rows of codecs in `order.csv`, for the same purpose, and JPEG versions of references that are JPEG
              pictures themselves, as most photographs are.
`shifts-coded.csv`  shifts of these references, labelled as those of the others.
`order.csv`   versions ranked within a kind: codecs near the lossless end, kinds beyond KADID-10k's, and what no person
              would call good. The first of each crop is the reference itself.

`unseen-scored.csv` and `unseen-order.csv` are the same with all photographs in training and the kinds of UNSEEN, by any
name, out of it: those of KADID-10k are their validation part. They show how kinds are scored that were never trained
on, though some that are like them were.
"""

import argparse
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from grounded import grounded_labels
from make_damaged import seed_of, unchanged
from PIL import Image as PilImage
from scipy import ndimage
from spoilt import SPOILT
from tqdm import tqdm

from iqametrics import Metric, create_metric
from iqametrics.datasets.content_shift import METRIC_COLUMNS, ensemble_values
from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS, LEVELS
from iqametrics.datasets.distortions.arrays import Image
from iqametrics.datasets.distortions.compression import recode
from iqametrics.datasets.synthetic import prepare_reference
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.images import list_images

SIDE, CROPS = 256, 2
HARMLESS = 0.95
QUALITIES = (97, 93, 89, 84, 77, 68, 58)
"""Near the lossless end; what is measured on lies between these."""
RAISED = (1.08, 1.45)
"""Contrast about the mean that TID2013's people like as well as the original's or better; KADID-10k's do not."""
LOWERED = {0.95: 0.92, 0.75: 0.785, 0.625: 0.58, 0.5: 0.45, 0.35: 0.3}
"""Labels of less contrast: KADID-10k's means of levels 4 and 5, continued on either side. Their curves have a slope of
0.75 and 0.5 in the middle and more at the ends, so they are put at 0.75 and 0.625."""
UNSEEN = ("color_quantization", "jpeg", "jitter", "high_sharpen", "contrast_change")
_SAME = {"JPEG", "jpeg_resaved", "contrast"}
_CODECS: dict[str, dict[str, object]] = {"JPEG": {}, "WEBP": {"method": 2}}
_KINDS, _FURTHER_KINDS, _LEVELS_A_KIND, _QUALITIES_A_CODEC = 12, 8, 2, 4
_RAISED_LEVEL, _MUCH_RAISED_LEVELS = 3, (1, 2)
"""Of `contrast_change` in KADID-10k: its curve is steeper than the identity in the middle."""
_COLUMNS = ("image", "reference", "mos", "distortion", "group", "split")

Row = dict[str, Any]


def main() -> None:
    """Read the arguments and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--held-out", type=Path, required=True, help="list of the photographs to validate on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1, help="processes for the classical metrics (default 1)")
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    held = set(args.held_out.read_text(encoding="utf-8").splitlines())
    judge = create_metric("bpclip-fr.lite")
    scored: list[Row] = []
    further: list[Row] = []
    ranked: list[Row] = []
    recoded: list[Row] = []
    recoded_shifts: list[Row] = []
    for number, path in enumerate(tqdm(list_images(args.photographs), desc="photographs", disable=None)):
        part = "val" if path.name in held else "train"
        for crop in range(CROPS):
            rng = np.random.default_rng(seed_of(f"{path.name}{crop}"))
            pixels = prepare_reference(path, (SIDE, SIDE), crop=crop, crops=CROPS)
            writer = _Writer(args.out, f"I{number:02d}{'ab'[crop]}", path.stem, part)
            reference = np.asarray(pixels, dtype=np.float32) / np.float32(255)
            writer.write("reference", reference)
            scored += scored_rows(writer, reference, judge, rng)
            scored += contrast_rows(writer, reference, rng)
            scored += shift_rows(writer, reference, rng)
            new = list(further_rows(writer, reference, rng))
            further += new
            ranked += ranked_rows(writer, reference, new, rng)
            if part == "train":
                rng = np.random.default_rng(seed_of(f"{path.name}{crop}coded"))
                again, coded = recoded_reference(writer, reference, rng)
                recoded += recoded_rows(again, coded)
                recoded_shifts += shift_rows(again, coded, rng)
    values = _values(args.out, scored + further, args.workers)
    trained = [row for row in ranked if row["split"] == "train"]
    write_tables(args.out, "", scored, further, trained, values)
    shifts = [row for row in scored if row["distortion"] == "shift" and row["split"] == "train"]
    _write(args.out / "shifts.csv", _COLUMNS, shifts)
    _write(args.out / "shifts-coded.csv", _COLUMNS, recoded_shifts)
    codecs = [row for row in trained if row["distortion"] in ("", *_CODECS)]
    _write_ranked(args.out / "codecs.csv", [*codecs, *recoded])
    unseen = [
        [row | {"split": "val" if row["distortion"] in UNSEEN else "train"} for row in rows]
        for rows in (_without_same(scored), _without_same(further), _without_same(ranked))
    ]
    write_tables(args.out, "unseen-", unseen[0], unseen[1], unseen[2], values, without=UNSEEN)


def _without_same(rows: Iterable[Row]) -> list[Row]:
    """Leave out the pictures whose damage is one of UNSEEN by another name."""
    return [row for row in rows if row["distortion"] not in _SAME]


class _Writer:
    """Writes the pictures of one crop and gives their rows."""

    def __init__(self, out: Path, stem: str, group: str, part: str) -> None:
        self.out, self.stem, self.group, self.part = out, stem, group, part
        self.reference = f"images/{stem}_reference.png"

    def write(self, what: str, image: Image) -> str:
        name = f"images/{self.stem}_{what}.png"
        pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        PilImage.fromarray(pixels).save(self.out / name, compress_level=1)
        return name

    def row(self, name: str, mos: float, kind: str) -> Row:
        return dict(zip(_COLUMNS, (name, self.reference, round(mos, 4), kind, self.group, self.part), strict=True))


def scored_rows(writer: _Writer, reference: Image, judge: Metric, rng: np.random.Generator) -> Iterator[Row]:
    """Write versions of KADID-10k's kinds and give their rows."""
    opinions, held = kadid_opinions(), judge.encode_reference(str(writer.out / writer.reference))
    for number in rng.choice(list(DISTORTIONS), size=_KINDS, replace=False):
        kind = DISTORTIONS[int(number)]
        # Raised contrast is harmless here, see `contrast_rows`.
        contrast = kind.name == "contrast_change"
        levels = [level for level in LEVELS if not contrast or level not in _MUCH_RAISED_LEVELS]
        for level in rng.choice(levels, size=_LEVELS_A_KIND, replace=False):
            image = kind.apply(reference, kind.levels[level - 1], rng)
            if unchanged(image, reference):
                continue
            name = writer.write(f"{kind.name}_{level}", image)
            said = float(judge(str(writer.out / name), held))
            label = (opinions[kind.id, int(level)].mean + min(max(said, 0.0), 1.0)) / 2
            label = HARMLESS if contrast and level == _RAISED_LEVEL else label
            yield writer.row(name, label, kind.name)


def contrast_rows(writer: _Writer, reference: Image, rng: np.random.Generator) -> Iterator[Row]:
    """Write versions of more and of less contrast about the mean and give their rows."""
    known = sorted(LOWERED)
    factors = (*rng.uniform(*RAISED, size=2), *rng.uniform(known[0], known[-1], size=2))
    for number, factor in enumerate(factors):
        label = HARMLESS if factor > 1 else float(np.interp(factor, known, [LOWERED[one] for one in known]))
        mean = reference.mean()
        image = mean + np.float32(factor) * (reference - mean)
        yield writer.row(writer.write(f"contrast_{number}", image), label, "contrast")


def shift_rows(writer: _Writer, reference: Image, rng: np.random.Generator) -> Iterator[Row]:
    """Write versions shifted by up to a pixel and give their rows."""
    for number in range(3):
        shift = rng.choice([-1, -0.5, 0, 0.5, 1], size=2)
        if shift.any():
            moved = ndimage.shift(reference, (*shift, 0), order=3, mode="nearest")
            yield writer.row(writer.write(f"shift_{number}", moved), HARMLESS, "shift")


def further_rows(writer: _Writer, reference: Image, rng: np.random.Generator) -> Iterator[Row]:
    """Write versions of kinds beyond KADID-10k's and give their rows, whose label is their rank for now."""
    kinds = list(EXTRA_DISTORTIONS.values())
    for index in rng.choice(len(kinds), size=_FURTHER_KINDS, replace=False):
        for level in sorted(rng.choice(LEVELS, size=_LEVELS_A_KIND, replace=False)):
            image = kinds[index].apply(reference, kinds[index].levels[level - 1], rng)
            if unchanged(image, reference):
                continue
            name = writer.write(f"{kinds[index].name}_{level}", image)
            yield writer.row(name, 1 - 0.14 * int(level), kinds[index].name)


def ranked_rows(writer: _Writer, reference: Image, further: Sequence[Row], rng: np.random.Generator) -> Iterator[Row]:
    """Write ranked versions and give their rows; the reference stands first."""
    yield writer.row(writer.reference, 1.0, "")
    for codec, options in _CODECS.items():
        for quality in rng.choice(QUALITIES, size=_QUALITIES_A_CODEC, replace=False):
            image = recode(reference, codec, quality=int(quality), **options)
            yield writer.row(writer.write(f"{codec}_{quality}", image), 1 - (105 - quality) / 200, codec)
    yield from further
    for kind in rng.choice(list(SPOILT), size=2, replace=False):
        yield writer.row(writer.write(str(kind), SPOILT[str(kind)][0](reference, rng)), 0.1, str(kind))


def recoded_reference(writer: _Writer, reference: Image, rng: np.random.Generator) -> tuple[_Writer, Image]:
    """Write the reference as a JPEG picture, and give the writer of its versions, and its pixels.

    Half of them have quality 75, which encoders use where nobody asks for another.
    """
    quality = 75 if rng.random() < 0.5 else int(rng.integers(70, 93))
    coded = recode(reference, "JPEG", quality=quality)
    again = _Writer(writer.out, f"{writer.stem}c", f"{writer.group}-coded", writer.part)
    again.write("reference", coded)
    return again, coded


def recoded_rows(writer: _Writer, reference: Image) -> Iterator[Row]:
    """Write JPEG versions of a reference that is a JPEG picture and give their rows; the reference stands first.

    A picture that is coded again at nearly its own quality hardly changes, so an error that does not grow as quality
    falls is left out.
    """
    yield writer.row(writer.reference, 1.0, "")
    worst = 0.0
    for quality in QUALITIES:
        image = recode(reference, "JPEG", quality=quality)
        error = float(np.square(image - reference).mean())
        if error > worst:
            worst = error
            yield writer.row(writer.write(f"JPEG_{quality}", image), 1 - (105 - quality) / 200, "JPEG")


def _values(out: Path, rows: Sequence[Row], workers: int) -> dict[str, list[float]]:
    """Give the values of the classical metrics for each picture."""
    found = ensemble_values(out, rows, workers=workers)
    return {row["image"]: [one[name] for name in METRIC_COLUMNS] for row, one in zip(rows, found, strict=True)}


def write_tables(
    out: Path,
    prefix: str,
    scored: Sequence[Row],
    further: Sequence[Row],
    ranked: Sequence[Row],
    values: Mapping[str, list[float]],
    *,
    without: Sequence[str] = (),
) -> None:
    """Label the further kinds and write the tables, whose names begin with `prefix`."""
    names = {kind.name for kind in DISTORTIONS.values()}
    of_kadid = [row for row in scored if row["distortion"] in names and row["split"] == "train"]
    labels = grounded_labels(
        [row["distortion"] for row in further],
        np.array([values[row["image"]] for row in further]),
        [row["distortion"] for row in of_kadid],
        np.array([values[row["image"]] for row in of_kadid]),
        np.array([row["mos"] for row in of_kadid]),
        without=without,
    )
    grounded = [row | {"mos": round(float(label), 4)} for row, label in zip(further, labels, strict=True)]
    _write(out / f"{prefix}scored.csv", _COLUMNS, [*scored, *grounded])
    _write_ranked(out / f"{prefix}order.csv", ranked)
    print(f"{out / prefix}: {len(scored)} scored, {len(further)} grounded and {len(ranked)} ranked pairs")


def _write_ranked(path: Path, rows: Iterable[Row]) -> None:
    """Write pictures that are ranked among the versions of their own reference: two crops of a photograph differ."""
    _write(path, _COLUMNS[:-1], [row | {"group": row["reference"]} for row in rows])


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
