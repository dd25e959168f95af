"""The four usual measures of agreement, and the outlier ratio.

Signs are kept: a lower-is-better score has a negative correlation with opinion. A correlation with a constant column is
undefined; it is NaN here, without a warning, so that a table of many metrics can still be filled.
"""

import math

import numpy as np
import numpy.typing as npt

from iqametrics.errors import DataError
from iqametrics.evaluation.checks import is_constant, numbers, same_length, score_columns


def srcc(scores: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Compute Spearman's rank correlation: how well the scores order the images; ties get their mean rank.

    Args:
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value in [-1, 1]; NaN if one column is constant.

    Raises:
        DataError: If there are fewer than 3 images, lengths differ, or a value is NaN or infinite.

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
    """Compute Kendall's tau-b: the share of pairs in the same order minus that in the other, corrected for ties.

    Args:
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value in [-1, 1]; NaN if one column is constant.

    Raises:
        DataError: If there are fewer than 3 images, lengths differ, or a value is NaN or infinite.

    Source: M. G. Kendall, "The Treatment of Ties in Ranking Problems", 1945.
    """
    x, y = score_columns(scores, mos)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(x, y, variant="b").statistic)


def plcc(scores: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Compute Pearson's linear correlation of the raw scores, without a fitted mapping.

    Args:
        scores: Predicted quality, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value in [-1, 1]; NaN if one column is constant (up to rounding: a spread below 1e-12 of its magnitude).

    Raises:
        DataError: If there are fewer than 3 images, lengths differ, or a value is NaN or infinite.
    """
    x, y = score_columns(scores, mos)
    if is_constant(x) or is_constant(y):
        return math.nan
    from scipy.stats import pearsonr

    return float(pearsonr(x, y).statistic)


def rmse(predicted: npt.ArrayLike, mos: npt.ArrayLike) -> float:
    """Compute the root mean square error, a mean over n (not n minus the fit's parameters), in the unit of `mos`.

    It is meaningful only where `predicted` is on the scale of `mos`, for instance after `LogisticFit.predict`.

    Args:
        predicted: Predicted opinion scores, shape (n,).
        mos: Opinion scores, shape (n,).

    Returns:
        Value from 0 up.

    Raises:
        DataError: If there are fewer than 3 images, lengths differ, or a value is NaN or infinite.

    >>> rmse([1, 2, 3], [1, 2, 6])
    1.7320508075688772
    """
    x, y = score_columns(predicted, mos)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def outlier_ratio(
    predicted: npt.ArrayLike, mos: npt.ArrayLike, spread: npt.ArrayLike, *, multiple: float = 2.0
) -> float:
    """Compute the share of images whose prediction misses the opinion score by more than `multiple` spreads.

    Args:
        predicted: Predicted opinion scores on the scale of `mos` (after a fit), shape (n,).
        mos: Opinion scores, shape (n,).
        spread: Spread of each opinion score in the same unit, shape (n,): the standard deviation of the single
            ratings in work on images, the standard error of their mean in VQEG's reports, with which far more images
            are outliers. Say which when you report the ratio.
        multiple: Number of spreads beyond which an image is an outlier.

    Returns:
        Value in [0, 1].

    Raises:
        DataError: If the columns are bad, as for `rmse`, or a spread is negative.

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
