"""Make a synthetic dataset in KADID-10k's layout from pristine photographs.

    out/images/I01.png            a reference: the photograph, scaled down and cropped
    out/images/I01_10_03.png      the same, distorted by type 10 at level 3
    out/labels.csv                image, reference, mos, kind, level, distortion, group
    out/recipe.json               what the images were made from; guards a resumed run

With `layout="kadid10k"` the labels are also written as KADID-10k's scores, so that its reader takes the folder:

    out/dmos.csv                  dist_img, ref_img, dmos on 1..5, and an empty var, since nobody was asked
    out/MADE-LABELS.txt           says so

The label is KADID-10k's mean human score of that type and level over its 81 photographs, mapped to [0, 1]: human
opinion, though not of this very photograph. `labels="adjusted"` shifts it by how much each photograph suffers
(`iqametrics.datasets.content_shift`). An image that the distortion did not change has label 1.
"""

import contextlib
import csv
import io
import json
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps
from tqdm import tqdm

from iqametrics.common.digest import file_sha256
from iqametrics.common.files import write_file
from iqametrics.common.halton import halton
from iqametrics.datasets.distortions import DISTORTIONS, LEVELS, distort, find_distortion
from iqametrics.datasets.kadid10k import SCORES_FILE, score_table
from iqametrics.datasets.made import MADE_FILE, RECIPE_FILE
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.errors import DataError, ImageReadError

LABELS_FILE = "labels.csv"
IMAGE_FOLDER = "images"
COLUMNS = ("image", "reference", "mos", "kind", "level", "distortion", "group")
_MADE_NOTE = """Made by `iqametrics synthesize`; this is not KADID-10k. The labels in dmos.csv come from KADID-10k's
mean human scores of each type and level. They are no opinions of these very images, so the column "var" is empty.
"""
_REMEDY = "free some space or choose another folder, and run again"
UNDAMAGED = 1.0
"""Label of an image that the distortion did not change, such as a gray one at another saturation: the best."""
# Several crops of a photograph are cut at this much larger a scale than one crop would be, so that they differ.
_ZOOM = 1.5
# Raised when the same recipe would make other pixels, so that an old folder is not continued with new pixels.
_RECIPE_VERSION = 1


@dataclass(frozen=True)
class _Job:
    """One reference and one type, the unit of work of a process."""

    images: Path
    reference: str
    number: int
    kind: int
    levels: tuple[int, ...]
    seed: int


def find_photographs(folder: Path) -> list[Path]:
    """Return all photographs in a folder and its subfolders, in natural order.

    Raises:
        InputError: If there is no such folder.
        DataError: If it holds no photograph.
    """
    from iqametrics.images import list_images

    found = list_images(folder, recursive=True)
    if not found:
        raise DataError(f"{folder}: no photograph in it; give a folder that holds pristine photographs")
    return found


def prepare_reference(
    path: Path, size: tuple[int, int] | None, max_side: int | None = None, *, crop: int = 0, crops: int = 1
) -> PilImage.Image:
    """Read a photograph (upright, in sRGB) as 8 bits, scale it down (Lanczos, antialiased) and crop it.

    Args:
        path: The photograph.
        size: (width, height) of the result, which the photograph covers before it is cropped. None keeps its shape.
        max_side: With `size=None`, the longest side of the result; None keeps its size.
        crop: Number of the crop, from 0.
        crops: Number of crops. A single one is the centre of the photograph at the scale at which it just covers
            `size`; several are spread over the photograph at 1.5 times that scale.

    Raises:
        ImageReadError: If the file is not readable as an image.
        DataError: If the photograph is smaller than `size`, since scaling it up would make a blurred reference.
    """
    # Here and below: the workers, which read references only, need not import torch.
    from iqametrics.images import read_image

    pixels = np.rint(read_image(path).numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    photograph = PilImage.fromarray(pixels)
    if size is not None:
        if photograph.width < size[0] or photograph.height < size[1]:
            raise DataError(
                f"{path}: {photograph.width}x{photograph.height} is smaller than {size[0]}x{size[1]}; "
                "leave it out or ask for a smaller size"
            )
        if crops == 1:
            return ImageOps.fit(photograph, size, method=PilImage.Resampling.LANCZOS)
        return _crop(photograph, size, crop)
    if max_side is not None and max(photograph.size) > max_side:
        photograph.thumbnail((max_side, max_side), PilImage.Resampling.LANCZOS)
    return photograph


def _crop(photograph: PilImage.Image, size: tuple[int, int], crop: int) -> PilImage.Image:
    """Scale a photograph down to cover `size` _ZOOM times over and cut one window, spread by the Halton sequence."""
    scale = min(1.0, _ZOOM * max(size[0] / photograph.width, size[1] / photograph.height))
    view = photograph.resize(
        (max(size[0], round(photograph.width * scale)), max(size[1], round(photograph.height * scale))),
        PilImage.Resampling.LANCZOS,
    )
    shares = (halton(crop + 1, 2), halton(crop + 1, 3))
    left, top = (
        round(float(share) * room)
        for share, room in zip(shares, (view.width - size[0], view.height - size[1]), strict=True)
    )
    return view.crop((left, top, left + size[0], top + size[1]))


def synthesize(
    pristine: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    kinds: Iterable[int | str] = tuple(DISTORTIONS),
    levels: Iterable[int] = LEVELS,
    size: tuple[int, int] | None = (512, 384),
    max_side: int | None = None,
    crops: int = 1,
    labels: Literal["human", "adjusted"] = "human",
    strength: float | None = None,
    layout: Literal["plain", "kadid10k"] = "plain",
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Distort every photograph by every type and level, and write the labels.

    The same photographs, seed and sizes give the same files, whatever the number of workers and however often the run
    was stopped: a file that exists is complete and is not made again.

    Args:
        pristine: Photographs (see `find_photographs`); the first becomes I01.
        out: Folder to write to; created if absent.
        seed: Seed of all randomness.
        kinds: Ids or names in `DISTORTIONS`; the extra types have no human scores, so they are refused.
        levels: Levels 1..5.
        size: (width, height) of all images, or None for each photograph's own.
        max_side: With `size=None`, scale photographs down to this longest side.
        crops: References cut from each photograph, see `prepare_reference`; they share its `group`.
        labels: "human", or "adjusted" by an ensemble of full-reference metrics, whose values are further columns of the
            CSV; needs the `train` extra.
        strength: With "adjusted", part of the human spread to shift by, 0..1; None takes the default.
        layout: "kadid10k" also writes the labels as KADID-10k's `dmos.csv`, and needs `crops=1`, since that file cannot
            say which crops are of one photograph.
        workers: Number of processes; 1 works in this one.
        progress: Show a bar on stderr.

    Returns:
        Path of the CSV: image, reference (both relative to `out`), mos in [0, 1], kind, level, distortion, and the
        photograph's name as `group`, so that a split keeps its crops on one side.

    Raises:
        DataError: If there is nothing to distort, a level is unknown, a type has no human scores, the folder holds
            another set, or no space is left.
        ImageReadError: If a photograph cannot be read.
        MissingExtraError: If adjusted labels are wanted and piq is not installed.
    """
    ids, wanted = _checked_kinds(kinds), _checked_levels(levels)
    if labels not in ("human", "adjusted"):
        raise DataError(f"labels {labels!r}: choose human or adjusted")
    if not pristine:
        raise DataError("no photographs to distort: give at least one")
    if crops < 1 or (crops > 1 and size is None):
        raise DataError(f"crops = {crops}: give 1, or more together with a size")
    if layout == "kadid10k" and crops > 1:
        raise DataError(f"crops = {crops}: KADID-10k's layout cannot say which crops belong together; give 1")
    with _disk_errors(out):
        (out / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
        _guard_recipe(out, _recipe(pristine, seed, size, max_side, crops))
        if layout == "kadid10k":
            write_file(out / MADE_FILE, _MADE_NOTE, error=DataError, remedy=_REMEDY)
        views = [(path, crop) for path in pristine for crop in range(crops)]
        width = max(2, len(str(len(views))))
        names = [f"I{number:0{width}d}" for number in range(1, len(views) + 1)]
        for name, (path, crop) in zip(names, tqdm(views, desc="references", disable=not progress), strict=True):
            target = out / IMAGE_FOLDER / f"{name}.png"
            if not target.exists():
                _write_png(target, prepare_reference(path, size, max_side, crop=crop, crops=crops))
        jobs = [
            _Job(out / IMAGE_FOLDER, name, number, kind, wanted, seed)
            for number, name in enumerate(names, start=1)
            for kind in ids
        ]
        done = _run(jobs, workers)
        for _ in tqdm(done, desc="distortions", total=len(jobs), disable=not progress):
            pass
        rows = list(_rows(names, [path.name for path, _ in views], ids, wanted))
        rows = [row | {"mos": UNDAMAGED} if _is_undamaged(out, row) else row for row in rows]
        if labels == "human":
            return _write_labels(out, rows, COLUMNS)
        return _write_adjusted(out, rows, strength, workers, progress)


def _checked_kinds(kinds: Iterable[int | str]) -> list[int]:
    ids = sorted({find_distortion(kind).id for kind in kinds})
    unscored = [find_distortion(kind).name for kind in ids if kind not in DISTORTIONS]
    if unscored:
        raise DataError(f"{', '.join(unscored)}: no human scores for a type outside KADID-10k's 25; use those")
    if not ids:
        raise DataError("no distortion types chosen: give at least one of 1..25")
    return ids


def _checked_levels(levels: Iterable[int]) -> tuple[int, ...]:
    chosen = tuple(sorted(set(levels)))
    if not chosen or not set(chosen) <= set(LEVELS):
        raise DataError(f"levels {list(chosen)}: give some of 1..5")
    return chosen


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Turn the error of a full or read-only disk into one line of ours."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, ImageReadError):
            raise
        raise DataError(f"{out}: cannot write there ({error}); choose another folder") from error


def _recipe(
    pristine: Sequence[Path], seed: int, size: tuple[int, int] | None, max_side: int | None, crops: int
) -> dict[str, object]:
    """Return all that determines the pixels, except types and levels."""
    sources = [{"name": path.name, "sha256": file_sha256(path, error=ImageReadError)} for path in pristine]
    return {
        "version": _RECIPE_VERSION,
        "seed": seed,
        "size": list(size) if size else None,
        "max_side": max_side,
        "crops": crops,
        "references": sources,
    }


def _guard_recipe(out: Path, recipe: dict[str, object]) -> None:
    """Write the recipe, or check that the folder was begun with the same one."""
    path = out / RECIPE_FILE
    if not path.exists():
        if any((out / IMAGE_FOLDER).iterdir()):
            raise DataError(f"{out}: holds images but no {RECIPE_FILE}; choose an empty folder")
        write_file(path, json.dumps(recipe, indent=1), error=DataError, remedy=_REMEDY)
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); choose an empty folder") from error
    different = sorted(key for key in recipe.keys() | begun.keys() if recipe.get(key) != begun.get(key))
    if different:
        raise DataError(f"{out}: was begun with other {', '.join(different)}; choose an empty folder to start anew")


def _run(jobs: list[_Job], workers: int) -> Iterator[Path]:
    """Do the jobs in any order, and yield the reference of each when it is done."""
    if workers <= 1:
        for job in jobs:
            yield _distort_one(job)
        return
    # Forking a process that holds torch's threads can deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(_distort_one, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _distort_one(job: _Job) -> Path:
    """Write the missing levels of one type for one reference."""
    targets = {level: job.images / f"{job.reference}_{job.kind:02d}_{level:02d}.png" for level in job.levels}
    missing = {level: path for level, path in targets.items() if not path.exists()}
    source = job.images / f"{job.reference}.png"
    if not missing:
        return source
    with PilImage.open(source) as opened:
        reference = np.asarray(opened.convert("RGB"), dtype=np.float32) / np.float32(255)
    for level, path in missing.items():
        rng = np.random.default_rng([job.seed, job.number, job.kind, level])
        pixels = np.rint(distort(reference, job.kind, level, rng) * 255).astype(np.uint8)
        _write_png(path, PilImage.fromarray(pixels))
    return source


def _rows(
    names: list[str], groups: list[str], kinds: list[int], levels: tuple[int, ...]
) -> Iterator[dict[str, object]]:
    opinions = kadid_opinions()
    for name, group in zip(names, groups, strict=True):
        for kind in kinds:
            for level in levels:
                yield {
                    "image": f"{IMAGE_FOLDER}/{name}_{kind:02d}_{level:02d}.png",
                    "reference": f"{IMAGE_FOLDER}/{name}.png",
                    "mos": round(opinions[kind, level].mean, 6),
                    "kind": kind,
                    "level": level,
                    "distortion": DISTORTIONS[kind].name,
                    "group": group,
                }


def _is_undamaged(out: Path, row: Mapping[str, object]) -> bool:
    """Tell whether an image equals its reference; the bytes show it, since one encoder wrote both."""
    image, reference = out / str(row["image"]), out / str(row["reference"])
    return image.stat().st_size == reference.stat().st_size and image.read_bytes() == reference.read_bytes()


def _write_adjusted(
    out: Path, rows: list[dict[str, object]], strength: float | None, workers: int, progress: bool
) -> Path:
    # Imported here: only adjusted labels need the metrics.
    from iqametrics.datasets import content_shift as shift

    measured = shift.ensemble_values(out, rows, workers=workers, progress=progress)
    labelled = [{**row, **values} for row, values in zip(rows, measured, strict=True)]
    _write_labels(out, labelled, COLUMNS + shift.METRIC_COLUMNS)
    return adjust_labels(out / LABELS_FILE, shift.DEFAULT_STRENGTH if strength is None else strength)


def adjust_labels(path: Path, strength: float) -> Path:
    """Compute the labels of a set again from the metric values in its CSV, without measuring them again.

    Args:
        path: The CSV that `synthesize` wrote with `labels="adjusted"`.
        strength: Part of the human spread to shift by; 0 gives KADID-10k's plain means.

    Raises:
        DataError: If there is no such CSV, it has no metric values, or the strength is outside [0, 1].
    """
    from iqametrics.datasets import content_shift as shift

    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        values = np.array([[float(row[name]) for name in shift.METRIC_COLUMNS] for row in rows])
        kinds, levels = [int(row["kind"]) for row in rows], [int(row["level"]) for row in rows]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (KeyError, ValueError) as error:
        raise DataError(f'{path}: no metric values ({error}); make it with labels="adjusted"') from error
    labels = shift.content_shift(kinds, levels, values, strength)
    adjusted = [
        {**row, "mos": UNDAMAGED if _is_undamaged(path.parent, row) else round(float(mos), 6)}
        for row, mos in zip(rows, labels, strict=True)
    ]
    return _write_labels(path.parent, adjusted, tuple(rows[0]))


def _write_labels(out: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_file(out / LABELS_FILE, text.getvalue(), error=DataError, remedy=_REMEDY)
    if (out / MADE_FILE).exists():
        write_file(out / SCORES_FILE, score_table(rows), error=DataError, remedy=_REMEDY)
    return out / LABELS_FILE


def _write_png(path: Path, image: PilImage.Image) -> None:
    buffer = io.BytesIO()
    # Noise hardly compresses; the higher levels cost several times the distortion itself.
    image.save(buffer, format="PNG", compress_level=2)
    write_file(path, buffer.getvalue(), error=DataError, remedy=_REMEDY)
