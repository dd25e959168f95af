"""Synthetic labels shifted by how much more or less a photograph suffers than others from the same distortion.

KADID-10k's mean score of a type and level is the same for every photograph, though people see blur in a textured meadow
and not in a foggy sky. So, within a type and level, an ensemble of classical full-reference metrics ranks the
photographs, and the mean is shifted by the rank, as a normal score, times a part of the spread of human scores there.

The metrics are piq's (extra `train`), imported only when they are needed.
"""

import importlib
import json
import multiprocessing
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from scipy.stats import norm, rankdata
from tqdm import tqdm

from iqametrics.common.files import write_file
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.errors import DataError, MissingExtraError

DEFAULT_STRENGTH = 0.6
"""Part of the human spread by which labels are shifted: the ensemble correlates with people, but not perfectly."""
METRIC_FOLDER = "metrics"
_COLUMN_PREFIX = "fr_"
_MIN_SIDE = 64


@dataclass(frozen=True)
class _FullReference:
    """A metric of piq: its function, whether a larger value is better, and its options."""

    function: str
    higher_is_better: bool
    options: Mapping[str, Any]


# Chosen for their published agreement with people on KADID-10k and TID2013, and for speed: together they take an eighth
# of a second for 512x384 pixels on a slow core. FSIM would double that.
ENSEMBLE: dict[str, _FullReference] = {
    "vsi": _FullReference("vsi", True, {}),
    "haarpsi": _FullReference("haarpsi", True, {}),
    "mdsi": _FullReference("mdsi", False, {}),
    "ms_gmsd": _FullReference("multi_scale_gmsd", False, {"chromatic": True}),
}
METRIC_COLUMNS = tuple(_COLUMN_PREFIX + name for name in ENSEMBLE)


def ensemble_values(
    out: Path, rows: Sequence[Mapping[str, Any]], *, workers: int = 1, progress: bool = True
) -> list[dict[str, float]]:
    """Compute each metric of `ENSEMBLE` for each row, with signs such that higher is better.

    Values are stored in `out/metrics`, one file for each reference, so that a stopped run continues where it was.

    Args:
        out: Folder of the synthetic set.
        rows: Mappings with `image` and `reference`, paths relative to `out`.
        workers: Number of processes, each with one torch thread.
        progress: Whether to show a progress bar on stderr.

    Returns:
        For each row, its values by the names in `METRIC_COLUMNS`.

    Raises:
        MissingExtraError: If piq is not installed.
        DataError: If an image is too small for the metrics.
    """
    _piq()
    (out / METRIC_FOLDER).mkdir(exist_ok=True)
    by_reference: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_reference[str(row["reference"])].append(str(row["image"]))
    values: dict[str, dict[str, float]] = {}
    jobs = []
    for reference, images in by_reference.items():
        known = _read_cache(_cache_file(out, reference))
        if known.keys() >= set(images):
            values.update(known)
        else:
            jobs.append((out, reference, tuple(images)))
    with tqdm(desc="full-reference metrics", total=len(jobs), disable=not progress) as bar:
        for result in _map_jobs(jobs, workers):
            values.update(result)
            bar.update()
    return [{_COLUMN_PREFIX + name: values[str(row["image"])][name] for name in ENSEMBLE} for row in rows]


def content_shift(
    kinds: Sequence[int], levels: Sequence[int], values: npt.NDArray[np.float64], strength: float = DEFAULT_STRENGTH
) -> npt.NDArray[np.float64]:
    """Compute labels: KADID-10k's mean human score, shifted by the ensemble's rank within each type and level.

    Among the n images of one type and level, r is the rank (1..n, ties shared) of the mean over metrics of the ranks,
    and z = Phi^-1((r - 1/2) / n), standardised over these images. The label is mean + strength * std * z, clipped to
    [0, 1], with mean and standard deviation over photographs of the human scores of that type and level.

    Args:
        kinds: KADID-10k's type of each image, 1..25.
        levels: Level of each image, 1..5.
        values: Values of the metrics, (number of images, number of metrics), higher is better.
        strength: Part of the human spread, in [0, 1]: 0 for the plain means, 1 for labels as spread as human scores.

    Returns:
        A label in [0, 1] for each image.

    Raises:
        DataError: If values are not finite or have another shape, or `strength` is outside [0, 1].
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(kinds) or not np.isfinite(values).all():
        raise DataError(
            f"metric values of shape {values.shape}: give finite ones, one row for each of {len(kinds)} images"
        )
    if not 0 <= strength <= 1:
        raise DataError(f"strength {strength}: give a part of the human spread, 0 to 1")
    opinions = kadid_opinions()
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, cell in enumerate(zip(kinds, levels, strict=True)):
        cells[cell].append(index)
    labels = np.empty(len(values))
    for cell, members in cells.items():
        opinion = opinions[cell]
        labels[members] = opinion.mean + strength * opinion.std * _normal_scores(values[members])
    return np.clip(labels, 0, 1)


def _normal_scores(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute normal scores of the mean rank over metrics, (n,), of mean 0 and deviation 1 (0 if all are tied)."""
    # Values that differ only by rounding (an undistorted image) are ties.
    mean_rank = rankdata(np.round(values, 5), axis=0).mean(axis=1)
    scores = norm.ppf((rankdata(mean_rank) - 0.5) / len(values))
    spread = scores.std()
    return np.asarray((scores - scores.mean()) / spread if spread > 1e-9 else np.zeros(len(values)))


def _piq() -> Any:
    try:
        with warnings.catch_warnings():
            # piq imports deprecated parts of its dependencies; our users cannot change that.
            warnings.simplefilter("ignore")
            return importlib.import_module("piq")
    except ImportError as error:
        raise MissingExtraError('adjusted labels need piq: pip install "iqametrics[train]"') from error


def _map_jobs(jobs: list[tuple[Path, str, tuple[str, ...]]], workers: int) -> Iterable[dict[str, dict[str, float]]]:
    if workers <= 1 or not jobs:
        yield from map(_measure_reference, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(_measure_reference, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _measure_reference(job: tuple[Path, str, tuple[str, ...]]) -> dict[str, dict[str, float]]:
    """Return the values of all images of one reference, computing those that are not in the cache."""
    out, reference, images = job
    cache = _cache_file(out, reference)
    known = _read_cache(cache)
    missing = [image for image in images if image not in known]
    if missing:
        known.update(_measure(out, reference, missing))
        write_file(cache, json.dumps(known), error=DataError)
    return {image: known[image] for image in images}


def _cache_file(out: Path, reference: str) -> Path:
    return out / METRIC_FOLDER / f"{Path(reference).stem}.json"


def _read_cache(cache: Path) -> dict[str, dict[str, float]]:
    """Read the cached values of exactly the present ensemble."""
    if not cache.exists():
        return {}
    try:
        entries = json.loads(cache.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{cache}: damaged ({error}); remove it and run again") from error
    return {image: entry for image, entry in entries.items() if entry.keys() == ENSEMBLE.keys()}


def _measure(out: Path, reference: str, images: Sequence[str]) -> dict[str, dict[str, float]]:
    import torch

    piq = _piq()
    pristine = _tensor(out / reference)
    if min(pristine.shape[-2:]) < _MIN_SIDE:
        raise DataError(f"{out / reference}: under {_MIN_SIDE} pixels, too small for the metrics; make larger images")
    found = {}
    with torch.no_grad():
        for image in images:
            distorted = _tensor(out / image)
            found[image] = {
                name: (1 if metric.higher_is_better else -1)
                * float(getattr(piq, metric.function)(distorted, pristine, reduction="none", **metric.options))
                for name, metric in ENSEMBLE.items()
            }
    return found


def _tensor(path: Path) -> Any:
    """Read an image as a torch tensor (1, 3, H, W) in [0, 1]."""
    import torch

    with PilImage.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
