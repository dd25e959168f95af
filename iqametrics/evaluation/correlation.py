"""The four usual figures of agreement, and the outlier ratio.

Signs are kept: a lower-is-better score has a negative correlation with opinion. A correlation with a constant column
does not exist; it is NaN here, without a warning, so that a table of many metrics can still be filled.
"""

import math

import numpy as np
import numpy.typing as npt

from iqametrics.errors import DataError
from iqametrics.evaluation.checks import is_constant, numbers, same_length, score_columns


def srcc(scores: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Spearman's rank correlation: how well the scores order the images; ties get their mean rank.

    Args:
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value in [-1, 1]; NaN if one column is constant.

    Raises:
        DataError: Fewer than 3 images, different lengths, NaN or infinity.

    Source: C. Spearman, "The Proof and Measurement of Association between Two Things", 1904.

    >>> round(srcc([1, 2, 3, 4], [10, 20, 40, 30]), 6)
    0.8
    """
    x, y = score_columns(scores, mos)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def krcc(scores: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Kendall's rank correlation tau-b: share of pairs in the same order minus share in the other, ties corrected.

    Args:
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value in [-1, 1]; NaN if one column is constant.

    Raises:
        DataError: Fewer than 3 images, different lengths, NaN or infinity.

    Source: M. G. Kendall, "The Treatment of Ties in Ranking Problems", 1945.
    """
    x, y = score_columns(scores, mos)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(x, y, variant="b").statistic)


def plcc(scores: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Pearson's linear correlation of the raw scores, with no mapping fitted before.

    Args:
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value in [-1, 1]; NaN if one column is constant (up to rounding: a spread under 1e-12 of its magnitude).

    Raises:
        DataError: Fewer than 3 images, different lengths, NaN or infinity.
    """
    x, y = score_columns(scores, mos)
    if is_constant(x) or is_constant(y):
        return math.nan
    from scipy.stats import pearsonr

    return float(pearsonr(x, y).statistic)


def rmse(predicted: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Root mean square error, the mean taken over n (not n minus the fit's parameters), in the unit of `mos`.

    It says something only where `predicted` is on the scale of `mos`: after `LogisticFit.predict`, for instance.

    Args:
        predicted: Predicted opinion scores, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value >= 0.

    Raises:
        DataError: Fewer than 3 images, different lengths, NaN or infinity.

    >>> rmse([1, 2, 3], [1, 2, 6])
    1.7320508075688772
    """
    x, y = score_columns(predicted, mos)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def outlier_ratio(
    predicted: npt.ArrayLike, mos: npt.ArrayLike, spread: npt.ArrayLike, *, multiple: float = 2.0
) -> float:
    """Share of images whose prediction misses the opinion score by more than `multiple` times its spread.

    Args:
        predicted: Predicted opinion scores on the scale of `mos` (after a fit), shape (n,).
        mos: Opinion scores, shape (n,).
        spread: Spread of each opinion score in the same unit, shape (n,): the standard deviation of the single
            ratings in work on images, the standard error of their mean in VQEG's reports, which calls far more images
            outliers. Say which when reporting.
        multiple: How many spreads an outlier lies off.

    Returns:
        Value in [0, 1].

    Raises:
        DataError: As for `rmse`, or a negative spread.

    Source: VQEG, "Final report ... on the validation of objective models of video quality assessment", 2000; with
    standard deviations: Wang, Lu and Bovik, "Video Quality Assessment Based on Structural Distortion Measurement",
    2004.
    """
    x, y = score_columns(predicted, mos)
    width = numbers(spread, "spread")
    same_length(mos=y, spread=width)
    if width.min() < 0:
        index = int(width.argmin())
        raise DataError(f"spread[{index}] is {width[index]}; a standard deviation is never negative")
    return float(np.mean(np.abs(x - y) > multiple * width))
