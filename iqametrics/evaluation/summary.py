"""All measures of agreement of one metric on one set of images."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy.typing as npt

from iqametrics.evaluation.bootstrap import bootstrap_interval
from iqametrics.evaluation.checks import FloatArray, group_indices, score_columns
from iqametrics.evaluation.correlation import krcc, outlier_ratio, plcc, rmse, srcc
from iqametrics.evaluation.logistic import fit_logistic

DEFINITIONS = {
    "plcc": "raw scores",
    "plcc_logistic": "after the four-parameter logistic (VQEG 2000)",
    "rmse": "after the four-parameter logistic (VQEG 2000)",
    "plcc_logistic5": "after the five-parameter logistic (Sheikh et al. 2006)",
    "rmse_logistic5": "after the five-parameter logistic (Sheikh et al. 2006)",
    "outlier_ratio": "after the four-parameter logistic, beyond two of the spreads that the dataset gives",
    "srcc_low": "95% percentile bootstrap, 1,000 resamples of whole groups",
}
"""How those measures are computed that publications compute differently."""


@dataclass(frozen=True)
class Evaluation:
    """Agreement of a metric with opinion scores.

    An undefined value is NaN (`to_dict`: None): correlations with a constant column, and everything after the logistic
    curve where the data determine none.

    Attributes:
        n: Number of images.
        srcc: Spearman's rank correlation, with its sign.
        plcc: Pearson's correlation of the raw scores, with its sign.
        plcc_logistic: Pearson's correlation after the four-parameter logistic curve. The curve may fall, so this
            value hides a wrong direction; `srcc` shows it.
        krcc: Kendall's tau-b, with its sign.
        rmse: Root mean square error after the same curve, in the unit of the opinion scores.
        srcc_low: Lower end of the 95% bootstrap interval of `srcc`.
        srcc_high: Upper end of that interval.
        logistic_converged: Whether the fit of the curve converged.
        rmse_raw: Root mean square error of the raw scores; meaningful only where the metric predicts on the scale of
            the opinion scores.
        plcc_logistic5: Pearson's correlation after the five-parameter logistic curve.
        rmse_logistic5: Root mean square error after that curve, in the unit of the opinion scores.
        logistic5_converged: Whether the fit of that curve converged.
        outlier_ratio: Share of images whose prediction, after the four-parameter curve, misses the opinion score by
            more than two spreads; None where no spread is known.
    """

    n: int
    srcc: float
    plcc: float
    plcc_logistic: float
    krcc: float
    rmse: float
    srcc_low: float
    srcc_high: float
    logistic_converged: bool
    rmse_raw: float
    plcc_logistic5: float = math.nan
    rmse_logistic5: float = math.nan
    logistic5_converged: bool = False
    outlier_ratio: float | None = None

    def to_dict(self) -> dict[str, int | float | bool | None]:
        """Return the fields by name, ready for JSON: None stands for NaN."""
        values = asdict(self)
        return {name: None if value != value else value for name, value in values.items()}


def evaluate(
    scores: npt.ArrayLike,
    mos: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | npt.NDArray | None = None,
    spread: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Evaluation:
    """Compute all measures of agreement of a metric.

    Args:
        scores: Predicted quality, shape (n,), higher or lower is better.
        mos: Opinion scores, shape (n,).
        groups: One label for each image (its reference, its scene); the bootstrap draws images of one label together.
        spread: Standard deviation of the opinions on each image, in the unit of `mos`, shape (n,); None where it is not
            known.
        seed: Seed of the bootstrap (1,000 resamples, percentile, 95%).

    Returns:
        The measures.

    Raises:
        DataError: If there are fewer than 3 images, lengths differ, a value is NaN or infinite, the groups are bad, or
            a spread is negative.

    >>> result = evaluate([0.1, 0.4, 0.5, 0.7, 0.9, 1.0], [1, 2, 3, 4, 4.5, 5])
    >>> result.n, round(result.srcc, 6)
    (6, 1.0)
    """
    x, y = score_columns(scores, mos)
    group_indices(groups, x.size)  # a bad label is reported before the slow fit
    if spread is not None:
        outlier_ratio(y, y, spread)  # and a bad spread too
    four, mapped = _after_fit(x, y, parameters=4)
    five, _ = _after_fit(x, y, parameters=5)
    low, high = bootstrap_interval(srcc, x, y, groups=groups, seed=seed)
    return Evaluation(
        n=x.size,
        srcc=srcc(x, y),
        plcc=plcc(x, y),
        plcc_logistic=four.plcc,
        krcc=krcc(x, y),
        rmse=four.rmse,
        srcc_low=low,
        srcc_high=high,
        logistic_converged=four.converged,
        rmse_raw=rmse(x, y),
        plcc_logistic5=five.plcc,
        rmse_logistic5=five.rmse,
        logistic5_converged=five.converged,
        outlier_ratio=_outliers(mapped, y, spread),
    )


@dataclass(frozen=True)
class _AfterFit:
    """Measures after a curve; NaN where the data determine none."""

    plcc: float
    rmse: float
    converged: bool


def _after_fit(x: FloatArray, y: FloatArray, *, parameters: int) -> tuple[_AfterFit, FloatArray | None]:
    """Fit a curve; return the measures after it and the predicted opinion scores, None without a curve."""
    fit = fit_logistic(x, y, parameters=parameters)
    if math.isnan(fit.parameters[0]):
        return _AfterFit(math.nan, math.nan, fit.converged), None
    mapped = fit.predict(x)
    return _AfterFit(plcc(mapped, y), rmse(mapped, y), fit.converged), mapped


def _outliers(mapped: FloatArray | None, y: FloatArray, spread: npt.ArrayLike | None) -> float | None:
    if spread is None:
        return None
    return math.nan if mapped is None else outlier_ratio(mapped, y, spread)
