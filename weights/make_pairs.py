"""Make the pairs that the second edition of bpclip-fr's lite model is trained with.

    python weights/make_pairs.py PHOTOS --held-out benchmarks/splits/photos-lite-heldout.txt --out data/pairs

Of each photograph a crop of 256x256 is the reference. Three tables are written:

`scored.csv`  half of KADID-10k's kinds, each at two of its levels. The label is the mean of two: KADID-10k's mean
              human score of that kind and level, and what `bpclip-fr.lite` says, which was trained to tell contents
              apart. Also what people do not mind, a shift by a pixel or a resampling by half of one, labelled
              HARMLESS. The column `split` keeps the held-out photographs apart.
`shifts.csv`  the shifts of the photographs for training once more, so that a recipe can let them count more.
`order.csv`   versions that nobody has scored, ranked within a kind: codecs near the lossless end, and kinds beyond
              KADID-10k's. The first of each photograph is the reference itself.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from make_damaged import seed_of
from PIL import Image as PilImage
from scipy import ndimage
from spoilt import SPOILT

from iqametrics import Metric, create_metric
from iqametrics.datasets.distortions import DISTORTIONS, EXTRA_DISTORTIONS, LEVELS
from iqametrics.datasets.distortions.arrays import Image
from iqametrics.datasets.distortions.compression import recode
from iqametrics.datasets.synthetic import prepare_reference
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.images import list_images

SIDE = 256
HARMLESS = 0.95
SCORED_COLUMNS = ("image", "reference", "mos", "group", "split")
QUALITIES = (97, 93, 89, 84, 77, 68, 58)
"""Near the lossless end; what is measured on lies between these."""
HELD_OUT_KINDS = ("avif", "ringing", "vignetting", "chromatic_aberration", "interlacing")
_CODECS: dict[str, dict[str, object]] = {"JPEG": {}, "WEBP": {"method": 2}}
_SCORED_KINDS, _LEVELS_A_KIND, _KINDS, _QUALITIES_A_CODEC = 12, 2, 4, 4
_SMALLEST_CHANGE = 0.5 / 255


def main() -> None:
    """Read the arguments and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--held-out", type=Path, required=True, help="list of the photographs to validate on")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    held = set(args.held_out.read_text(encoding="utf-8").splitlines())
    judge = create_metric("bpclip-fr.lite")
    scored: list[tuple[object, ...]] = []
    ranked: list[tuple[object, ...]] = []
    for number, path in enumerate(list_images(args.photographs)):
        rng = np.random.default_rng(seed_of(path.name))
        reference = np.asarray(prepare_reference(path, (SIDE, SIDE)), dtype=np.float32) / np.float32(255)
        writer = _Writer(args.out, f"I{number:02d}")
        writer.write("reference", reference)
        part = "val" if path.name in held else "train"
        scored += ((*row, path.stem, part) for row in scored_rows(writer, reference, judge, rng))
        if part == "train":
            ranked += ((*row, path.stem) for row in ranked_rows(writer, reference, rng))
    _write(args.out / "scored.csv", SCORED_COLUMNS, scored)
    shifts = [row for row in scored if "_shift_" in str(row[0]) and row[-1] == "train"]
    _write(args.out / "shifts.csv", SCORED_COLUMNS, shifts)
    _write(args.out / "order.csv", ("image", "reference", "mos", "distortion", "group"), ranked)
    print(f"{args.out}: {len(scored)} scored and {len(ranked)} ranked pairs")


class _Writer:
    """Writes the pictures of one photograph and gives their names."""

    def __init__(self, out: Path, stem: str) -> None:
        self.out, self.stem = out, stem

    def write(self, what: str, image: Image) -> str:
        name = f"images/{self.stem}_{what}.png"
        pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        PilImage.fromarray(pixels).save(self.out / name, compress_level=1)
        return name

    @property
    def reference(self) -> str:
        return f"images/{self.stem}_reference.png"


def scored_rows(
    writer: _Writer, reference: Image, judge: Metric, rng: np.random.Generator
) -> Iterator[tuple[object, ...]]:
    """Write scored versions and give image, reference and label of each."""
    opinions, held = kadid_opinions(), judge.encode_reference(str(writer.out / writer.reference))
    for number in rng.choice(list(DISTORTIONS), size=_SCORED_KINDS, replace=False):
        kind = DISTORTIONS[int(number)]
        for level in rng.choice(LEVELS, size=_LEVELS_A_KIND, replace=False):
            image = np.clip(kind.apply(reference, kind.levels[level - 1], rng), 0, 1)
            if np.abs(image - reference).max() < _SMALLEST_CHANGE:
                continue
            name = writer.write(f"{kind.name}_{level}", image)
            said = float(judge(str(writer.out / name), held))
            label = (opinions[kind.id, int(level)].mean + min(max(said, 0.0), 1.0)) / 2
            yield name, writer.reference, round(label, 4)
    for number in range(3):
        shift = rng.choice([-1, -0.5, 0, 0.5, 1], size=2)
        if shift.any():
            moved = ndimage.shift(reference, (*shift, 0), order=3, mode="nearest")
            yield writer.write(f"shift_{number}", moved), writer.reference, HARMLESS


def ranked_rows(writer: _Writer, reference: Image, rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    """Write ranked versions and give image, reference, rank and kind of each; the reference stands first."""
    yield writer.reference, writer.reference, 1.0, ""
    for codec, options in _CODECS.items():
        for quality in rng.choice(QUALITIES, size=_QUALITIES_A_CODEC, replace=False):
            image = recode(reference, codec, quality=int(quality), **options)
            name = writer.write(f"{codec}_{quality}", image)
            yield name, writer.reference, round(1 - (105 - quality) / 200, 4), codec
    kinds = [kind for kind in EXTRA_DISTORTIONS.values() if kind.name not in HELD_OUT_KINDS]
    for index in rng.choice(len(kinds), size=_KINDS, replace=False):
        for level in sorted(rng.choice(LEVELS, size=3, replace=False)):
            image = kinds[index].apply(reference, kinds[index].levels[level - 1], rng)
            name = writer.write(f"{kinds[index].name}_{level}", image)
            yield name, writer.reference, round(1 - 0.14 * int(level), 4), kinds[index].name
    for kind in rng.choice(list(SPOILT), size=2, replace=False):
        yield writer.write(str(kind), SPOILT[str(kind)][0](reference, rng)), writer.reference, 0.1, str(kind)


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([columns, *rows])


if __name__ == "__main__":
    main()
