"""Percentile bootstrap over images or over groups of images.

Distorted versions of one reference, or shots of one scene, are not independent: where `groups` are given, whole groups
are drawn. A resample is stored as counts (how often each image was drawn), so that groups of unequal size fit into one
array and SRCC sorts only once.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from iqametrics.errors import DataError
from iqametrics.evaluation.checks import FloatArray, group_indices, score_columns
from iqametrics.evaluation.correlation import plcc, srcc

Statistic = Callable[[FloatArray, FloatArray], float]
Groups = Sequence[Hashable] | npt.NDArray | None
_CHUNK_ELEMENTS = 1_000_000


def bootstrap_interval(
    statistic: Statistic,
    scores: npt.ArrayLike,
    mos: npt.ArrayLike,
    *,
    groups: Groups = None,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of an agreement statistic.

    The interval is widened, where needed, to contain the value of the whole sample: for small samples the resampled
    values can all lie to one side of it. Resamples for which the statistic is undefined (all draws equal) are left out.

    Args:
        statistic: Any function of (scores, mos) to a number; `srcc` and `plcc` are computed faster, with the same
            result.
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).
        groups: One label for each image; images of one label are drawn together.
        confidence: Share of the resampled values inside the interval, in (0, 1).
        n_resamples: Number of resamples.
        seed: The same seed gives the same interval.

    Returns:
        (low, high); both NaN where the statistic of the whole sample is NaN.

    Raises:
        DataError: If the columns are bad, as for `srcc`, or `groups`, `confidence` or `n_resamples` is.

    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    x, y = score_columns(scores, mos)
    estimate = statistic(x, y)
    draws = resample_statistic(statistic, x, y, group_counts(groups, x.size, n_resamples, seed))
    return percentile_interval(estimate, draws, confidence)


def group_counts(groups: Groups, n: int, n_resamples: int, seed: int) -> Iterator[npt.NDArray[np.intp]]:
    """Check the arguments at once, and draw the resamples lazily.

    Args:
        groups: Labels of the images, or None.
        n: Number of images.
        n_resamples: Number of resamples.
        seed: Seed of the generator.

    Returns:
        Iterator of arrays (resamples of a chunk, n): how often each image is in each resample.

    Raises:
        DataError: If `groups` or `n_resamples` is bad.
    """
    if n_resamples < 1:
        raise DataError(f"n_resamples={n_resamples}: at least one resample is needed")
    return _draw_counts(group_indices(groups, n), n_resamples, seed)


def _draw_counts(members: npt.NDArray[np.intp], n_resamples: int, seed: int) -> Iterator[npt.NDArray[np.intp]]:
    generator = np.random.default_rng(seed)
    n_groups = int(members.max()) + 1
    chunk = max(1, _CHUNK_ELEMENTS // members.size)
    for start in range(0, n_resamples, chunk):
        rows = min(chunk, n_resamples - start)
        drawn = generator.integers(n_groups, size=(rows, n_groups))
        drawn += np.arange(rows)[:, None] * n_groups  # each row counts in bins of its own
        counts = np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
        yield counts[:, members]


def resample_statistic(
    statistic: Statistic, x: FloatArray, y: FloatArray, counts: Iterator[npt.NDArray[np.intp]]
) -> FloatArray:
    """Compute the statistic of every resample.

    Args:
        statistic: Function of (scores, mos).
        x: Scores, shape (n,).
        y: Opinion scores, shape (n,).
        counts: Arrays (resamples of a chunk, n), from `group_counts`.

    Returns:
        One value for each resample, NaN where the statistic is undefined.
    """
    if statistic is srcc:
        x_order, y_order = _TieBlocks(x), _TieBlocks(y)
        chunks = [_weighted_correlation(x_order.ranks(c), y_order.ranks(c), c) for c in counts]
    elif statistic is plcc:
        # In units of the largest value: powers of values near 1e-200 would vanish.
        x, y = (column / (np.abs(column).max() or 1.0) for column in (x, y))
        chunks = [_weighted_correlation(x[None], y[None], c) for c in counts]
    else:
        chunks = [np.array([_of_one_resample(statistic, x, y, row) for row in c]) for c in counts]
    return np.concatenate(chunks)


def _of_one_resample(statistic: Statistic, x: FloatArray, y: FloatArray, row: npt.NDArray[np.intp]) -> float:
    return float(statistic(np.repeat(x, row), np.repeat(y, row)))


class _TieBlocks:
    """A column sorted once, so that any resample of it is ranked in linear time."""

    def __init__(self, values: FloatArray) -> None:
        _, self.block_of = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.block_of, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.block_of[self.order], prepend=-1))

    def ranks(self, counts: npt.NDArray[np.intp]) -> FloatArray:
        """Return the mean rank, from 1, of each image among the drawn ones; shape as `counts`, (resamples, n)."""
        block_sizes = np.add.reduceat(counts[:, self.order], self.starts, axis=1)
        up_to = np.cumsum(block_sizes, axis=1)
        mean_rank = up_to - (block_sizes - 1) / 2
        return mean_rank[:, self.block_of]


def _weighted_correlation(x: FloatArray, y: FloatArray, counts: npt.NDArray[np.intp]) -> FloatArray:
    """Compute Pearson's correlation of each resample, image i counted `counts[:, i]` times; NaN if one is constant."""
    weights = counts / counts.sum(axis=1, keepdims=True)
    x = x - np.sum(weights * x, axis=1, keepdims=True)
    y = y - np.sum(weights * y, axis=1, keepdims=True)
    x_power, y_power = np.sum(weights * x * x, axis=1), np.sum(weights * y * y, axis=1)
    x_floor, y_floor = (1e-13 * np.abs(column).max() for column in (x, y))  # below it, a spread is rounding error
    exists = (np.sqrt(x_power) > x_floor) & (np.sqrt(y_power) > y_floor)
    scale = np.sqrt(np.where(exists, x_power, 1.0)) * np.sqrt(np.where(exists, y_power, 1.0))
    values = np.clip(np.sum(weights * x * y, axis=1) / scale, -1.0, 1.0)
    return np.where(exists, values, np.nan)


def percentile_interval(estimate: float, draws: FloatArray, confidence: float) -> tuple[float, float]:
    """Compute the central interval of the draws that are not NaN, widened to contain the estimate.

    Args:
        estimate: Value of the whole sample.
        draws: Values of the resamples, shape (resamples,).
        confidence: Share of the draws inside, in (0, 1).

    Returns:
        (low, high); both NaN where the estimate or every draw is NaN.

    Raises:
        DataError: If `confidence` is outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise DataError(f"confidence={confidence}: give a share between 0 and 1, such as 0.95")
    existing = draws[~np.isnan(draws)]
    if math.isnan(estimate) or existing.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(existing, ((1 - confidence) / 2, (1 + confidence) / 2))
    return min(float(low), estimate), max(float(high), estimate)
