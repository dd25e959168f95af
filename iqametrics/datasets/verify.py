"""Check of a dataset on the disk: its files are counted, opened, and compared with the score file and the release."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PilImage
from tqdm import tqdm

from iqametrics.datasets.catalogue import dataset_spec, load_dataset, made_labels, missing_files, name_some
from iqametrics.datasets.release import DatasetSpec
from iqametrics.datasets.sample import Sample

SAMPLED = 50
"""Number of images that are opened without `deep`, evenly spaced in the score file, with their references."""
_NAMED_AT_MOST = 5
_SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Verification:
    """Result of a check.

    Attributes:
        name: Name of the dataset.
        root: Folder of the dataset.
        facts: Counts and other facts by label.
        notes: Remarks that are no problem, one line each.
        problems: Problems, one line each; empty if there are none.
    """

    name: str
    root: str
    facts: dict[str, str]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    @property
    def lines(self) -> list[str]:
        """The report, at most a page long."""
        width = max(map(len, self.facts))
        return [
            *(f"{label:<{width}}  {value}" for label, value in self.facts.items()),
            *(f"note: {note}" for note in self.notes),
            *(f"problem: {problem}" for problem in self.problems),
            "complete" if self.ok else f"NOT complete: {len(self.problems)} problem(s)",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {
            "name": self.name,
            "root": self.root,
            "ok": self.ok,
            "facts": self.facts,
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


def verify_dataset(
    name: str,
    root: str | os.PathLike[str],
    *,
    deep: bool = False,
    subset: bool = False,
    scores: str | None = None,
    progress: bool = False,
) -> Verification:
    """Compare a dataset's folder with its score file, and the score file with the release.

    Args:
        name: Name of the dataset, one of `list_datasets`.
        root: Root folder of the dataset.
        deep: Whether to open all files, instead of 50 evenly spaced images and their references.
        subset: Whether the folder holds a declared subset of the dataset; a difference from the release is then a note,
            not a problem.
        scores: Name of the scores, as for `load_dataset`.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: If there is no such dataset or folder, or the score file is missing or damaged.
        MissingExtraError: If there is an .xlsx file and openpyxl is not installed.
    """
    spec = dataset_spec(name)
    samples = load_dataset(name, root, check_files=False, scores=scores)
    missing, wanted = missing_files(samples)
    problems = [f"{len(missing):,} of {wanted:,} files do not exist: {name_some(missing, root)}"] if missing else []
    differences = list(_differences(spec, samples))
    notes = [f"a declared subset: {line}" for line in differences] if subset else []
    problems += [] if subset else differences
    notes += _notes(spec, samples, Path(root))
    opened, damaged = _open(samples, missing, Path(root), deep, progress)
    problems += damaged
    facts = _facts(spec, samples, set(missing), Path(root))
    facts["opened"] = f"{opened:,} files" + ("" if deep else " (a sample; all with --deep)")
    return Verification(name, str(root), facts, tuple(notes), tuple(problems))


def _facts(spec: DatasetSpec, samples: Sequence[Sample], missing: set[Path], root: Path) -> dict[str, str]:
    parts = Counter(sample.split or "none" for sample in samples)
    references = {sample.reference for sample in samples if sample.reference}
    values = [sample.mos for sample in samples]
    facts = {
        "dataset": spec.title,
        "root": str(root),
        "images": f"{sum(s.image not in missing for s in samples):,} of {len(samples):,} in the score file",
        "references": f"{len(references - missing):,} of {len(references):,} in the score file" if references else "",
        "release": f"{spec.images:,} images" + (f", {spec.references} references" if spec.references else ""),
        "scores": f"{spec.score_name}; as MOS {min(values):.3f} to {max(values):.3f} of 0..1",
        "split": ", ".join(f"{part} {count:,}" for part, count in parts.items()) if spec.official_parts else "",
        "folders": ", ".join(dict.fromkeys(_shown(s.image.parent, root) + "/" for s in samples)),
    }
    return {label: value for label, value in facts.items() if value}


def _differences(spec: DatasetSpec, samples: Sequence[Sample]) -> Iterator[str]:
    """Yield the differences between the score file and the release."""
    if len(samples) != spec.images:
        yield f"the score file lists {len(samples):,} images, the release has {spec.images:,}"
    references = {sample.reference for sample in samples if sample.reference}
    if spec.references is not None and len(references) != spec.references:
        yield f"the score file lists {len(references):,} references, the release has {spec.references:,}"
    found = Counter(sample.split for sample in samples)
    for part, count in (spec.official_parts or {}).items():
        # A part of which nothing is known is only a note: its file is missing.
        if found[part] not in (0, count):
            yield f"part {part} of the official split has {found[part]:,} images, in the release {count:,}"


def _notes(spec: DatasetSpec, samples: Sequence[Sample], root: Path) -> Iterator[str]:
    if made_labels(root):
        yield (
            "made by iqametrics synthesize: the labels come from KADID-10k's mean scores of type and level, they are "
            "no opinions of these images"
        )
    found = Counter(sample.split for sample in samples)
    absent = [part for part in spec.official_parts or {} if not found[part]]
    if absent:
        yield f"no file here lists the official part {' and '.join(absent)}"
    if spec.official_parts and found[None]:
        yield f"{found[None]:,} images belong to no part of the official split that is known here"
    listed = {file for s in samples for file in (s.image, s.reference) if file}
    folders = dict.fromkeys(file.parent for file in listed)
    others = sum(
        entry.suffix.casefold() in _SUFFIXES and entry not in listed
        for folder in folders
        if folder.is_dir()
        for entry in folder.iterdir()
    )
    if others:
        yield f"{others:,} further pictures in the same folders are not in the score file, and not used"


def _open(
    samples: Sequence[Sample], missing: Sequence[Path], root: Path, deep: bool, progress: bool
) -> tuple[int, list[str]]:
    """Decode files; return their number and the problems."""
    count = len(samples) if deep else min(SAMPLED, len(samples))
    # Not every n-th image: with 5 levels for each type, that could always be the same level.
    chosen = [samples[index * (len(samples) - 1) // max(1, count - 1)] for index in range(count)]
    gone = set(missing)
    files = list(dict.fromkeys(file for s in chosen for file in (s.image, s.reference) if file and file not in gone))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(tqdm(pool.map(_decode, files), total=len(files), desc="opening", disable=not progress))
    damaged = [
        f"{_shown(file, root)}: {result}"
        for file, result in zip(files, results, strict=True)
        if isinstance(result, str)
    ]
    sizes = {file: result for file, result in zip(files, results, strict=True) if not isinstance(result, str)}
    problems = damaged[:_NAMED_AT_MOST]
    if len(damaged) > _NAMED_AT_MOST:
        problems.append(f"{len(damaged) - _NAMED_AT_MOST:,} more files cannot be decoded")
    unequal = [
        s.image
        for s in chosen
        if s.reference and s.image in sizes and sizes[s.image] != sizes.get(s.reference, sizes[s.image])
    ]
    if unequal:
        problems.append(f"{len(unequal):,} images have another size than their reference: {name_some(unequal, root)}")
    return len(files), problems


def _decode(path: Path) -> tuple[int, int] | str:
    """Return the size of an image, or why it cannot be decoded to its last pixel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PilImage.DecompressionBombWarning)
            with PilImage.open(path) as image:
                image.load()
                return image.size
    except Exception as error:  # on a damaged file Pillow may raise anything
        return f"cannot be decoded ({type(error).__name__}); copy it again"


def _shown(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
