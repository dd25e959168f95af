"""The datasets by name, and their samples: this package's, and those of installed distributions.

A distribution adds a dataset by an entry point of the group `iqametrics.datasets`, whose value names a `DatasetSpec` or
a module whose `SPEC` is one.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from iqametrics.common.suggest import did_you_mean
from iqametrics.datasets import bid, biq2021, clive, csiq, flive, kadid10k, koniq10k, live, spaq, tid2013
from iqametrics.datasets.image_labels import LABELS_FILE, PACKAGED, packaged_labels, read_image_labels, with_labels
from iqametrics.datasets.made import made_labels as made_labels  # where docs/datasets.md says that it is
from iqametrics.datasets.release import DatasetSpec, Release
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError
from iqametrics.plugins import leave_out, load_plugins

_SPECS = {
    module.SPEC.name: module.SPEC
    for module in (live, csiq, tid2013, kadid10k, clive, koniq10k, spaq, flive, biq2021, bid)
}
_NAMED_AT_MOST = 3

GROUP = "iqametrics.datasets"
"""Entry points of other distributions."""


def list_datasets(mode: str | None = None) -> list[str]:
    """List the names of the datasets, those with references first.

    Args:
        mode: Only those with ("fr") or without ("nr") references.

    >>> list_datasets("fr")[:4]
    ['live', 'csiq', 'tid2013', 'kadid10k']
    """
    return [name for name, spec in _specs().items() if mode in (None, spec.mode)]


def dataset_spec(name: str) -> DatasetSpec:
    """Return the constants of a dataset.

    Raises:
        DataError: If there is none of this name.

    >>> dataset_spec("kadid10k").images
    10125
    """
    known = _specs()
    if name not in known:
        hint = did_you_mean(name, known, show=str) or f"choose one of {', '.join(known)}"
        raise DataError(f"unknown dataset {name!r}; {hint}")
    return known[name]


def load_dataset(
    name: str, root: str | os.PathLike[str], *, check_files: bool = True, scores: str | None = None
) -> list[Sample]:
    """Read a dataset from the folder in which it was released, or a common rearrangement of it.

    Args:
        name: One of `list_datasets()`.
        root: Its root folder.
        check_files: Whether all images and references must exist. Without it, the score file is enough.
        scores: One of the spec's `score_variants` in place of the default scores.

    Returns:
        Samples in the order of the score file. `mos` is in [0, 1], higher is better, by the documented range. `split`
        is filled where the folder has an official split. `group` is None, since the reference's name tells which images
        belong together. `distortion`, `liqe_class` and `scenes` of a photograph
        are those that LIQE's authors gave it.

    Raises:
        DataError: If there is no such dataset, folder or score file, the score file is damaged, or images are missing.
        MissingExtraError: If the scores are in an .xlsx file and openpyxl is not installed.
    """
    spec = dataset_spec(name)
    variants = ["default", *spec.score_variants]
    if scores not in (None, *variants):
        raise DataError(f"{name} has no scores called {scores!r}; choose one of {', '.join(variants)}")
    release = Release(root)
    samples = _labelled(spec.reader(release, scores or "default"), spec, release)
    if not samples:
        raise DataError(f"{root}: the score file of {name} lists no image; is it complete?")
    _refuse_twins(samples, name, root)
    if check_files:
        missing, wanted = missing_files(samples)
        if missing:
            raise DataError(
                f"{root}: {len(missing):,} of {wanted:,} files of {name} do not exist ({name_some(missing, root)}); "
                f"see what is there with: iqametrics datasets verify {name} --root {root}"
            )
    return samples


def _labelled(samples: list[Sample], spec: DatasetSpec, release: Release) -> list[Sample]:
    """Add distortion and scenes from the file beside the release or, where there is none, from the package's."""
    own = release.find(LABELS_FILE) if spec.labels else None
    if own is not None:
        return with_labels(samples, read_image_labels(own), replace=True)
    return with_labels(samples, packaged_labels(spec.name)) if spec.name in PACKAGED else samples


def missing_files(samples: Sequence[Sample]) -> tuple[list[Path], int]:
    """Return the images and references that do not exist, in order, and the number of files that should."""
    wanted = dict.fromkeys(file for s in samples for file in (s.image, s.reference) if file is not None)
    # Not Path.is_file: that raises on a name that no disk can hold.
    return [file for file in wanted if not os.path.isfile(file)], len(wanted)


def name_some(files: Sequence[Path], root: str | os.PathLike[str]) -> str:
    """Write the first few of a list of files, from the root on."""
    return ", ".join(os.path.relpath(file, root) for file in files[:_NAMED_AT_MOST]) + (
        ", ..." if len(files) > _NAMED_AT_MOST else ""
    )


def _specs() -> dict[str, DatasetSpec]:
    return {**_SPECS, **_installed()}


@lru_cache(maxsize=1)
def _installed() -> dict[str, DatasetSpec]:
    """Return the datasets of other distributions; one whose name is taken or impossible is left out."""
    found: dict[str, DatasetSpec] = {}
    for origin, spec in load_plugins(GROUP, DatasetSpec, "SPEC"):
        if spec.name in _SPECS or spec.name in found:
            leave_out(origin, f"a dataset named {spec.name!r} is there already; choose another name")
        elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", spec.name):
            leave_out(origin, f"{spec.name!r} is no name for a dataset; use lower-case words and digits with hyphens")
        else:
            found[spec.name] = spec
    return found


def _refuse_twins(samples: Sequence[Sample], name: str, root: str | os.PathLike[str]) -> None:
    seen = set()
    for sample in samples:
        if sample.image in seen:
            raise DataError(f"{root}: the score file of {name} lists {sample.image.name} twice; is it the original?")
        seen.add(sample.image)
