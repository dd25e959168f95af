"""What people see in an image beside its quality: its kind of distortion and its scenes, for the teacher of PFD-IQA.

Source: Zhang et al., "Blind Image Quality Assessment via Vision-Language Correspondence" (LIQE), CVPR 2023. Its
authors labelled every image of six datasets (https://github.com/zwx8981/LIQE, MIT licence); the lists come with this
package, see NOTICE. A file of the same form in the root of a release, or one that a recipe names, takes their place.
"""

import csv
import dataclasses
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError

LABELS_FILE = "labels.tsv"
"""Name of the file beside a release, whose columns are image, distortion, scene1, scene2 and scene3."""

PACKAGED = ("live", "csiq", "kadid10k", "clive", "koniq10k", "bid")
"""Datasets whose labels come with the package."""

SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")
"""LIQE's nine names of scenes."""

_FOLDED = {
    "jpeg2000 compression": ("jpeg2000 compression", "fastfading"),
    "jpeg compression": ("jpeg compression",),
    "noise": (
        *("white noise", "fnoise", "white with color", "impulse", "multiplicative"),
        *("white noise with denoise", "realistic noise"),
    ),
    "blur": ("gaussian blur", "lens", "motion", "shifting", "realistic blur"),
    "color": ("diffusion", "oversaturation", "desaturation"),
    "contrast": ("contrast", "sharpness", "realistic contrast change"),
    "overexposure": ("brighten", "overexposure"),
    "underexposure": ("darken", "underexposure"),
    "spatial": ("jitter", "noneccentricity patch", "pixelate", "color blocking"),
    "quantization": ("color quantization", "quantization"),
    "other": ("shifting the mean", "other realistic"),
}
CLASS_OF_NAME: Mapping[str, str] = {name: folded for folded, names in _FOLDED.items() for name in names}
"""The one of LIQE's eleven names of distortions that each of its 33 names belongs to."""

_COLUMNS = ("image", "distortion", "scene1", "scene2", "scene3")


@dataclass(frozen=True)
class ImageLabels:
    """Labels of one image.

    Attributes:
        distortion: One of LIQE's 33 names, or "" where unknown.
        scenes: Up to three of `SCENES`.
    """

    distortion: str
    scenes: tuple[str, ...] = ()


def read_image_labels(path: str | Path) -> dict[str, ImageLabels]:
    """Read a file of labels: tab-separated, the header `image distortion scene1 scene2 scene3`, one row an image.

    Args:
        path: The file, or one that gzip packed. A scene may be empty or its column missing, and so may a distortion.

    Returns:
        Labels by the name of the image, as it stands in the file.

    Raises:
        DataError: If the file cannot be read, has another header, or names an image twice, or a distortion or scene
            that LIQE does not know.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter="\t")
    header = next(reader, [])
    if header[:2] != list(_COLUMNS[:2]) or header != list(_COLUMNS[: len(header)]):
        raise DataError(f"{path}, line 1: the columns are {header}; give {', '.join(_COLUMNS)}, separated by tabs")
    found: dict[str, ImageLabels] = {}
    for cells in reader:
        if not any(cells):
            continue
        where = f"{path}, line {reader.line_num}"
        image, distortion, *scenes = (cell.strip() for cell in [*cells, ""][: max(len(cells), 2)])
        if image in found:
            raise DataError(f"{where}: {image} is there twice; leave one out")
        _check_names([distortion], CLASS_OF_NAME, where, "distortion")
        _check_names(scenes, SCENES, where, "scene")
        found[image] = ImageLabels(distortion, tuple(filter(None, scenes)))
    return found


def packaged_labels(dataset: str) -> dict[str, ImageLabels]:
    """Return LIQE's labels of one of the datasets in `PACKAGED`."""
    with resources.as_file(resources.files("iqametrics.datasets") / "liqe" / f"{dataset}.tsv.gz") as path:
        return read_image_labels(path)


def with_labels(samples: Sequence[Sample], labels: Mapping[str, ImageLabels], *, replace: bool = False) -> list[Sample]:
    """Give the samples their labels; one that is not in the list stays as it is.

    An image is known by the last two parts of its path, or, where its folder has another name (KonIQ-10k at 512x384),
    by its file name if only one image of the list has it.

    Args:
        samples: The samples.
        labels: Labels by name of the image.
        replace: Whether a distortion that the dataset itself names is replaced too.
    """
    exact = {_key(name, 2): found for name, found in labels.items()}
    by_file: dict[tuple[str, ...], list[ImageLabels]] = {}
    for name, found in labels.items():
        by_file.setdefault(_key(name, 1), []).append(found)
    labelled = []
    for sample in samples:
        same_name = by_file.get(_key(sample.image, 1), [])
        label = exact.get(_key(sample.image, 2)) or (same_name[0] if len(same_name) == 1 else None)
        labelled.append(sample if label is None else _labelled(sample, label, replace=replace))
    return labelled


def _labelled(sample: Sample, label: ImageLabels, *, replace: bool) -> Sample:
    known = sample.liqe_class is not None or sample.distortion is not None
    if not label.distortion or (known and not replace):
        return dataclasses.replace(sample, scenes=label.scenes)
    return dataclasses.replace(
        sample,
        scenes=label.scenes,
        distortion=sample.distortion or label.distortion,
        liqe_class=CLASS_OF_NAME[label.distortion],
    )


def _key(name: str | Path, parts: int) -> tuple[str, ...]:
    return tuple(part.casefold() for part in Path(name).parts[-parts:])


def _check_names(names: Iterable[str], known: Iterable[str], where: str, what: str) -> None:
    for name in names:
        if name and name not in known:
            raise DataError(f"{where}: {name!r} is no {what} of LIQE's; choose one of {', '.join(known)}")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a file of image labels") from error
