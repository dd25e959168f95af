"""Significance of the difference between two metrics on the same images.

Both metrics must point the same way, or a negative correlation is compared with a positive one. `compare_metrics` has
an argument for those of which lower is better; before the other functions, negate their scores.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from iqametrics.errors import DataError
from iqametrics.evaluation.bootstrap import Groups, Statistic, group_counts, percentile_interval, resample_statistic
from iqametrics.evaluation.checks import FloatArray, group_indices, numbers, same_length
from iqametrics.evaluation.correlation import plcc, srcc

_STATISTICS: dict[str, Statistic] = {"srcc": srcc, "plcc": plcc}
_ROUNDING = 1e-12
_RESAMPLES, _RESAMPLES_A_PAIR = 1000, 100


@dataclass(frozen=True)
class PairedDifference:
    """Difference of an agreement statistic between two metrics, metric A minus metric B.

    Attributes:
        difference: Difference on all images.
        low: Lower end of the bootstrap interval.
        high: Upper end of the bootstrap interval.
        p_value: Two-sided bootstrap p-value of no difference, never below 2 / (n_resamples + 1), nor below the
            2 / 2^groups of a sign test: resamples of three references say no more than three references do.
    """

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class WilliamsTest:
    """Williams' test of two dependent correlations.

    Attributes:
        t: Test statistic, positive where the first correlation is larger.
        degrees_of_freedom: Degrees of freedom, n - 3.
        p_value: Two-sided p-value.
    """

    t: float
    degrees_of_freedom: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Comparison of two metrics on the same images.

    An undefined value (a constant metric, fewer than 4 images for Williams' test) is NaN (`to_dict`: None).

    Attributes:
        a: Name of the first metric.
        b: Name of the second.
        statistic: "srcc" or "plcc".
        n: Number of images.
        value_a: The statistic of `a`, of the negated scores where lower is better.
        value_b: The statistic of `b`, likewise.
        difference: `value_a` - `value_b`.
        low: Lower end of the paired bootstrap interval of the difference.
        high: Its upper end.
        p_bootstrap: Two-sided p-value of the paired bootstrap.
        p_bootstrap_holm: The same, adjusted by Holm over all pairs.
        williams_t: Williams' t, positive where `a` is ahead.
        p_williams: Its two-sided p-value.
        p_williams_holm: The same, adjusted by Holm over all pairs.
    """

    a: str
    b: str
    statistic: str
    n: int
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_bootstrap_holm: float
    williams_t: float
    p_williams: float
    p_williams_holm: float

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return the fields by name, ready for JSON: None stands for NaN and for an infinite t."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def compare_metrics(
    scores: Mapping[str, npt.ArrayLike],
    mos: npt.ArrayLike,
    *,
    lower_is_better: Collection[str] = (),
    groups: Groups = None,
    statistic: str = "srcc",
    confidence: float = 0.95,
    n_resamples: int | None = None,
    seed: int = 0,
) -> list[Comparison]:
    """Compare all pairs of metrics on the same images: paired bootstrap and Williams' test, with Holm's correction.

    All metrics get the same resamples. Williams' test compares the same correlations; for "srcc" it is an
    approximation, and where images come in groups its p-values are too small. The bootstrap has neither weakness.

    Args:
        scores: The scores of each metric, each of shape (n,), all in the same order of images.
        mos: Opinion scores, shape (n,).
        lower_is_better: Names of the metrics whose scores are negated first. If lower opinion scores are better (DMOS),
            all correlations are negative and the better metric has the lower one.
        groups: One label for each image; images of one label are drawn together.
        statistic: "srcc" or "plcc".
        confidence: Confidence level of each interval by itself, in (0, 1).
        n_resamples: Number of resamples; None for 1,000, and with more than ten pairs for 100 a pair: with fewer, no
            p-value could stay small after Holm's correction.
        seed: The same seed gives the same answer.

    Returns:
        One comparison for each pair, in the order of `scores`: (1, 2), (1, 3), ..., (2, 3), ...

    Raises:
        DataError: If there are fewer than two metrics, the statistic is another, `lower_is_better` has an unknown name,
            or an argument is bad, as for `bootstrap_interval`.
    """
    figure = _STATISTICS.get(statistic)
    if figure is None:
        raise DataError(f"statistic {statistic!r}: compare by 'srcc' or 'plcc'")
    y = numbers(mos, "mos")
    columns = _turned(scores, y, lower_is_better)
    values = {name: figure(column, y) for name, column in columns.items()}
    pairs = list(itertools.combinations(columns, 2))
    if n_resamples is None:
        n_resamples = max(_RESAMPLES, _RESAMPLES_A_PAIR * len(pairs))
    # The same seed gives every metric the same resamples without keeping them.
    draws = {
        name: resample_statistic(figure, column, y, group_counts(groups, y.size, n_resamples, seed))
        for name, column in columns.items()
    }
    least = _least_p(groups, y.size)
    paired = [_difference(values[a] - values[b], draws[a] - draws[b], confidence, least) for a, b in pairs]
    williams = [_williams(values[a], values[b], figure(columns[a], columns[b]), y.size) for a, b in pairs]
    adjusted = _holm_of_existing([pair.p_value for pair in paired])
    williams_adjusted = _holm_of_existing([test.p_value for test in williams])
    return [
        Comparison(
            a=a,
            b=b,
            statistic=statistic,
            n=y.size,
            value_a=values[a],
            value_b=values[b],
            difference=pair.difference,
            low=pair.low,
            high=pair.high,
            p_bootstrap=pair.p_value,
            p_bootstrap_holm=adjusted[k],
            williams_t=test.t,
            p_williams=test.p_value,
            p_williams_holm=williams_adjusted[k],
        )
        for k, ((a, b), pair, test) in enumerate(zip(pairs, paired, williams, strict=True))
    ]


def _turned(
    scores: Mapping[str, npt.ArrayLike], y: FloatArray, lower_is_better: Collection[str]
) -> dict[str, FloatArray]:
    """Check the columns, and negate those in `lower_is_better`."""
    if len(scores) < 2:
        raise DataError(f"{len(scores)} metrics: give two or more to compare")
    unknown = sorted(set(lower_is_better) - set(scores))
    if unknown:
        raise DataError(f"lower_is_better names {unknown[0]!r}, which is not among the metrics {', '.join(scores)}")
    columns = {name: numbers(column, name) for name, column in scores.items()}
    for name, column in columns.items():
        same_length(**{name: column, "mos": y})
    return {name: -column if name in lower_is_better else column for name, column in columns.items()}


def paired_bootstrap(
    statistic: Statistic,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    mos: npt.ArrayLike,
    *,
    groups: Groups = None,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Bootstrap the difference of two metrics, both scored on the same resampled images.

    Args:
        statistic: Any function of (scores, mos) to a number, such as `srcc`.
        scores_a: Scores of metric A, shape (n,).
        scores_b: Scores of metric B on the same images, shape (n,).
        mos: Opinion scores, shape (n,).
        groups: One label for each image; images of one label are drawn together.
        confidence: Confidence level of the interval, in (0, 1).
        n_resamples: Number of resamples.
        seed: The same seed gives the same answer.

    Returns:
        The difference with its interval; every field is NaN where the statistic is undefined.

    Raises:
        DataError: If an argument is bad, as for `bootstrap_interval`.
    """
    a, b, y = numbers(scores_a, "scores_a"), numbers(scores_b, "scores_b"), numbers(mos, "mos")
    same_length(scores_a=a, scores_b=b, mos=y)
    difference = statistic(a, y) - statistic(b, y)
    # The same seed twice gives both metrics the same resamples without keeping them.
    draws_a, draws_b = (
        resample_statistic(statistic, column, y, group_counts(groups, y.size, n_resamples, seed)) for column in (a, b)
    )
    return _difference(difference, draws_a - draws_b, confidence, _least_p(groups, y.size))


def _least_p(groups: Groups, n: int) -> float:
    """Return the two-sided p-value of a sign test in which all groups agree."""
    return 2.0 ** -int(group_indices(groups, n).max())


def _difference(difference: float, draws: FloatArray, confidence: float, least: float) -> PairedDifference:
    """Compute interval and p-value (`least` or more) of a difference from its resamples, of which some may be NaN."""
    low, high = percentile_interval(difference, draws, confidence)
    draws = draws[~np.isnan(draws)]
    if math.isnan(low):
        return PairedDifference(difference, low, high, math.nan)
    # One is added to both counts: the sample itself is one of the possible draws.
    tail = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
    return PairedDifference(difference, low, high, max(least, min(1.0, 2 * (tail + 1) / (draws.size + 1))))


def _williams(r_a: float, r_b: float, r_ab: float, n: int) -> WilliamsTest:
    if n < 4 or any(map(math.isnan, (r_a, r_b, r_ab))):
        return WilliamsTest(math.nan, n - 3, math.nan)
    return williams_test(r_a, r_b, r_ab, n)


def _holm_of_existing(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values that are not NaN by Holm; the others stay NaN and do not count as comparisons."""
    adjusted = iter(holm([p for p in p_values if not math.isnan(p)]))
    return [p if math.isnan(p) else next(adjusted) for p in p_values]


def williams_test(r_a: float, r_b: float, r_ab: float, n: int) -> WilliamsTest:
    """Test whether two correlations with the same opinion scores differ.

    The test is exact for Pearson correlations of normal data (`plcc`). With rank correlations it is the usual
    approximation; `paired_bootstrap` makes no such assumption.

    Args:
        r_a: Correlation of metric A with opinion.
        r_b: Correlation of metric B with opinion.
        r_ab: Correlation of the two metrics with each other.
        n: Number of images.

    Returns:
        The statistic t, n - 3 degrees of freedom and the two-sided p-value. For r_a = r_b, up to rounding, t is 0 and p
        is 1.

    Raises:
        DataError: If a correlation is NaN or outside [-1, 1], no data can have these three, or n < 4.

    Source: E. J. Williams, "The Comparison of Regression Variables", 1959; in the form of J. H. Steiger, "Tests for
    Comparing Elements of a Correlation Matrix", 1980, eq. 7.
    """
    for name, value in (("r_a", r_a), ("r_b", r_b), ("r_ab", r_ab)):
        if not -1 <= value <= 1:
            raise DataError(f"{name}={value} is not a correlation; give a value in [-1, 1]")
    if n < 4:
        raise DataError(f"n={n}: Williams' test needs at least 4 images")
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    if determinant < -1e-6:
        raise DataError(f"r_a={r_a}, r_b={r_b}, r_ab={r_ab} cannot come from the same images; compute them on one set")
    if abs(r_a - r_b) <= _ROUNDING:
        return WilliamsTest(0.0, n - 3, 1.0)
    mean = (r_a + r_b) / 2
    variance = 2 * max(determinant, 0.0) * (n - 1) / (n - 3) + mean**2 * (1 - r_ab) ** 3
    signal = (r_a - r_b) * math.sqrt((n - 1) * (1 + r_ab))
    if variance == 0:
        return WilliamsTest(math.copysign(math.inf, signal), n - 3, 0.0)
    from scipy.stats import t as student

    t = signal / math.sqrt(variance)
    return WilliamsTest(t, n - 3, float(2 * student.sf(abs(t), n - 3)))


def holm(p_values: Sequence[float] | npt.NDArray) -> list[float]:
    """Adjust p-values of many comparisons by Holm's step-down rule.

    Args:
        p_values: One p-value for each comparison, in [0, 1].

    Returns:
        Adjusted p-values in the same order. If comparisons with a value <= alpha are called different, the probability
        that any of these findings is false is at most alpha.

    Raises:
        DataError: If a value is NaN or outside [0, 1].

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    p = numbers(p_values, "p_values")
    outside = np.flatnonzero((p < 0) | (p > 1))
    if outside.size:
        raise DataError(f"p_values[{outside[0]}] is {p[outside[0]]}; a p-value lies in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
