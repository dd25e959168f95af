"""How scores of the same pictures differ between two runs: mean difference, interval, test, wins and losses."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from iqametrics.errors import DataError

TIE = 1e-5
"""Differences up to this are ties: batch, order and number of threads move a score by no more."""
_RESAMPLES = 1000
FEW = 6
"""Fewer independent pictures than this make an interval that says little."""


@dataclass(frozen=True)
class Change:
    """Scores of pictures in a second run against those of a first, of one metric.

    Attributes:
        metric: Name with the checkpoint's tag.
        n: Number of pictures.
        mean_a: Mean score of the first run.
        mean_b: Mean score of the second run.
        difference: `mean_b` - `mean_a`.
        low: Lower end of its 95% percentile bootstrap interval, whole groups drawn; NaN for a single group.
        high: Upper end.
        p_value: Two-sided p-value of Wilcoxon's signed-rank test; NaN where every difference is a tie.
        wins: Pictures that the second run scores better.
        losses: Pictures that it scores worse.
        ties: Pictures whose scores differ by at most `TIE`.
        worse: Whether the second run is worse on average: the whole interval is on the worse side of zero.
    """

    metric: str
    n: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    ties: int
    worse: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON: None stands for NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def measure_change(
    metric: str,
    a: Sequence[float],
    b: Sequence[float],
    *,
    higher_is_better: bool,
    groups: Sequence[Hashable] | None = None,
    test: bool = True,
) -> Change:
    """Compare two runs picture by picture.

    Args:
        metric: Name of the metric.
        a: Scores of the first run.
        b: Scores of the second run, of the same pictures in the same order.
        higher_is_better: Direction of the metric.
        groups: A label for each picture, such as its reference; pictures of one label are not independent.
        test: Whether to run Wilcoxon's test, which needs SciPy's import; without it `p_value` is NaN.

    Raises:
        DataError: If there is no picture.

    Source: F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1945; the bootstrap as in
    `iqametrics.evaluation.bootstrap`.
    """
    if not a:
        raise DataError(f"{metric}: no picture has a score on both sides, so nothing can be compared")
    import numpy as np

    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    gains = (second - first) * (1 if higher_is_better else -1)
    difference = float(second.mean() - first.mean())
    low, high = _interval(second - first, groups)
    better_low, better_high = (low, high) if higher_is_better else (-high, -low)
    return Change(
        metric=metric,
        n=len(a),
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=difference,
        low=low,
        high=high,
        p_value=_wilcoxon(gains) if test else math.nan,
        wins=int((gains > TIE).sum()),
        losses=int((gains < -TIE).sum()),
        ties=int((np.abs(gains) <= TIE).sum()),
        worse=better_high < -TIE if not math.isnan(better_low) else bool(gains.mean() < -TIE),
    )


def _interval(differences: Any, groups: Sequence[Hashable] | None) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean; NaN where all pictures are of one group."""
    import numpy as np

    from iqametrics.evaluation.bootstrap import group_counts, percentile_interval

    n = len(differences)
    if len(set(range(n) if groups is None else groups)) < 2:
        return math.nan, math.nan
    draws = [counts @ differences / counts.sum(axis=1) for counts in group_counts(groups, n, _RESAMPLES, seed=0)]
    return percentile_interval(float(differences.mean()), np.concatenate(draws), 0.95)


def _wilcoxon(gains: Any) -> float:
    from scipy.stats import wilcoxon

    moved = gains[abs(gains) > TIE]
    return float(wilcoxon(moved).pvalue) if len(moved) else math.nan
