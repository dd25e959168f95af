"""All figures of one metric on one set of images."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy.typing as npt

from iqametrics.evaluation.bootstrap import bootstrap_interval
from iqametrics.evaluation.checks import group_indices, score_columns
from iqametrics.evaluation.correlation import krcc, plcc, rmse, srcc
from iqametrics.evaluation.logistic import fit_logistic


@dataclass(frozen=True)
class Evaluation:
    """Agreement of a metric with opinion scores.

    A figure that does not exist is NaN (`to_dict`: None): correlations with a constant column, and everything after
    the logistic curve where the data determine none.

    Attributes:
        n: number of images.
        srcc: Spearman's rank correlation, with its sign.
        plcc: Pearson's correlation of the raw scores, with its sign.
        plcc_logistic: Pearson's correlation after the four-parameter logistic curve. The curve may fall, so this
            figure hides a wrong direction; `srcc` shows it.
        krcc: Kendall's tau-b, with its sign.
        rmse: root mean square error after the same curve, in the unit of the opinion scores.
        srcc_low: lower end of the 95% bootstrap interval of `srcc`.
        srcc_high: its upper end.
        logistic_converged: whether the fit of the curve converged.
        rmse_raw: root mean square error of the raw scores; it means something only where the metric predicts on the
            scale of the opinion scores.
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

    def to_dict(self) -> dict[str, int | float | bool | None]:
        """Return the fields by name, ready for JSON, which knows no NaN: None stands for it."""
        values = asdict(self)
        return {name: None if value != value else value for name, value in values.items()}


def evaluate(
    scores: npt.ArrayLike,
    mos: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | npt.NDArray | None = None,
    seed: int = 0,
) -> Evaluation:
    """Take all figures of a metric.

    Args:
        scores: predicted quality, shape (n,), higher or lower is better.
        mos: opinion scores, shape (n,).
        groups: one label an image (its reference, its scene); the bootstrap draws images of one label together.
        seed: of the bootstrap (1,000 resamples, percentile, 95%).

    Returns:
        The figures.

    Raises:
        DataError: fewer than 3 images, different lengths, NaN or infinity, or bad groups.

    >>> result = evaluate([0.1, 0.4, 0.5, 0.7, 0.9, 1.0], [1, 2, 3, 4, 4.5, 5])
    >>> result.n, round(result.srcc, 6)
    (6, 1.0)
    """
    x, y = score_columns(scores, mos)
    group_indices(groups, x.size)  # a bad label is told before the fit is paid for
    fit = fit_logistic(x, y)
    determined = not math.isnan(fit.parameters[0])
    mapped = fit.predict(x)
    low, high = bootstrap_interval(srcc, x, y, groups=groups, seed=seed)
    return Evaluation(
        n=x.size,
        srcc=srcc(x, y),
        plcc=plcc(x, y),
        plcc_logistic=plcc(mapped, y) if determined else math.nan,
        krcc=krcc(x, y),
        rmse=rmse(mapped, y) if determined else math.nan,
        srcc_low=low,
        srcc_high=high,
        logistic_converged=fit.converged,
        rmse_raw=rmse(x, y),
    )
