"""The logistic curve that maps a metric's scores onto the scale of the opinion scores, before PLCC and RMSE.

Both curves are linear in all but two of their parameters, the centre c and the width w of the logistic step. So only
these two are searched (variable projection, Golub and Pereyra 1973): for each (c, w) the others solve a linear
least-squares problem. A coarse grid gives the starting points, so the result depends on no first guess and a
lower-is-better score needs no special treatment.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iqametrics.errors import DataError
from iqametrics.evaluation.checks import FloatArray, is_constant, numbers, score_columns

_STARTS = 4
_MAX_EVALUATIONS = 1000
_FLAT = 1e-9  # of the opinion scores' variance
_LEAST_SPREAD = 1e-150  # its square is still a normal number
_FIRST_STEPS = np.array([[0.0, 0.0], [0.2, 0.0], [0.0, 0.3]])  # first triangle in (centre, log-width)


def _half_tanh(z: FloatArray) -> FloatArray:
    """Compute 1 / (1 + exp(-z)) - 1/2 in a form that cannot overflow."""
    return 0.5 * np.tanh(0.5 * z)


@dataclass(frozen=True)
class LogisticFit:
    """A fitted mapping from scores to opinion scores.

    Four parameters (VQEG 2000), with limits b1 on the right and b2 on the left, centre b3, and width b4 > 0:

        f(x) = (b1 - b2) / (1 + exp(-(x - b3) / b4)) + b2

    Five parameters (Sheikh, Sabir and Bovik, "A Statistical Evaluation of Recent Full Reference Image Quality
    Assessment Algorithms", IEEE TIP 2006), with b2 > 0:

        f(x) = b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5

    The four-parameter curve is always monotonic. The five-parameter one need not be.

    Attributes:
        parameters: b1, b2, ... in the order of the formula; all NaN where no curve is determined.
        converged: Whether the search ended at an optimum.
        message: How it ended, or why it did not converge.
    """

    parameters: tuple[float, ...]
    converged: bool
    message: str

    def predict(self, scores: npt.ArrayLike) -> FloatArray:
        """Map scores to the scale of the opinion scores.

        Args:
            scores: Predicted quality, shape (n,).

        Returns:
            Predicted opinion scores, shape (n,); all NaN where no curve is determined.

        Raises:
            DataError: If the scores hold NaN or infinity, or are not one column of numbers.
        """
        x = numbers(scores, "scores")
        if len(self.parameters) == 4:
            b1, b2, b3, b4 = self.parameters
            return (b1 - b2) * (_half_tanh((x - b3) / b4) + 0.5) + b2
        b1, b2, b3, b4, b5 = self.parameters
        return b1 * _half_tanh(b2 * (x - b3)) + b4 * x + b5


def fit_logistic(scores: npt.ArrayLike, mos: npt.ArrayLike, *, parameters: int = 4) -> LogisticFit:
    """Fit the logistic curve of least squared error.

    The search keeps the centre within one range of the scores on either side of them, and the width between a
    hundredth of the scores' spread and twenty times their range. If a step or a
    straight line fits best, the search therefore ends at a bound; the message says so, and it counts as converged.

    Args:
        scores: Predicted quality, rising or falling with opinion, shape (n,).
        mos: Opinion scores, shape (n,).
        parameters: Number of parameters, 4 or 5, see `LogisticFit`.

    Returns:
        The fit. It is not converged, with NaN parameters, where the data determine no curve: a constant column, no
        more images than parameters, or fewer distinct scores than parameters.

    Raises:
        DataError: If there are fewer than 3 images, lengths differ, a value is NaN or infinite, or `parameters` is
            neither 4 nor 5.
    """
    if parameters not in (4, 5):
        raise DataError(f"parameters={parameters!r}: there is a logistic curve with 4 and one with 5")
    x, y = score_columns(scores, mos)
    obstacle = _undetermined(x, y, parameters)
    if obstacle:
        return LogisticFit((math.nan,) * parameters, False, obstacle)
    # Standard units, so that the tolerances of the search mean the same for every metric.
    x_mean, x_scale, y_mean, y_scale = x.mean(), x.std(), y.mean(), y.std()
    x_units, y_units = (x - x_mean) / x_scale, (y - y_mean) / y_scale
    search = _Search(x_units, y_units, linear_term=parameters == 5)
    # The five-parameter curve contains the four-parameter one: from its optimum, the fit can only get better.
    known = [_Search(x_units, y_units, linear_term=False).run()[0]] if parameters == 5 else []
    (centre, log_width), converged, message = search.run(known)
    centre, width = centre * x_scale + x_mean, math.exp(log_width) * x_scale
    offset, step, slope = search.coefficients((centre - x_mean) / x_scale, log_width)
    offset, step = offset * y_scale + y_mean, step * y_scale
    found: tuple[float, ...] = (offset + step / 2, offset - step / 2, centre, width)
    if parameters == 5:
        slope *= y_scale / x_scale
        found = (step, 1 / width, centre, slope, offset - slope * x_mean)
    return LogisticFit(tuple(float(value) for value in found), converged, message)


def _undetermined(x: FloatArray, y: FloatArray, parameters: int) -> str:
    """Return why the data determine no curve of so many parameters, or "" if they do."""
    if is_constant(x):
        return "all scores are equal: no curve is determined"
    if is_constant(y):
        return "all opinion scores are equal: no curve is determined"
    if min(np.ptp(x), np.ptp(y)) < _LEAST_SPREAD:
        return f"the values lie within {_LEAST_SPREAD:g} of each other: too close to be computed with"
    if x.size <= parameters:
        return f"{x.size} images do not determine {parameters} parameters"
    distinct = np.unique(x).size
    if distinct < parameters:
        return f"{distinct} distinct scores do not determine {parameters} parameters"
    return ""


class _Search:
    """Least-squares search over centre and log-width in standard units, the linear parameters projected out."""

    def __init__(self, x: FloatArray, y: FloatArray, *, linear_term: bool) -> None:
        self.x, self.y, self.linear_term = x, y, linear_term
        reach = np.ptp(x)
        lower_quartile, upper_quartile = np.quantile(x, (0.25, 0.75))
        # Scores bunched far from a few stragglers: the bunch, not the standard deviation, sets the finest width.
        spread = min(1.0, upper_quartile - lower_quartile) or 1.0
        self.low = np.array([x.min() - reach, math.log(1e-2 * spread)])
        self.high = np.array([x.max() + reach, math.log(20 * reach)])

    def run(self, known: Sequence[tuple[float, float]] = ()) -> tuple[tuple[float, float], bool, str]:
        """Return (centre, log-width), whether the search converged, and how it ended; `known` are further starts."""
        from scipy.optimize import minimize

        # Nelder-Mead: where scores are unrelated to opinion the best curve is close to a step, the error is nearly
        # flat with kinks, and methods that follow its gradient creep (least_squares did, one time in two).
        results = [
            minimize(
                self.mean_square,
                start,
                method="Nelder-Mead",
                bounds=list(zip(self.low, self.high, strict=True)),
                options={
                    "initial_simplex": start + _FIRST_STEPS,
                    "xatol": 1e-7,
                    "fatol": 1e-12,
                    "maxfev": _MAX_EVALUATIONS,
                },
            )
            for start in [*self.starts(), *map(np.array, known)]
        ]
        best = min(results, key=lambda result: result.fun)
        centre, log_width = (float(value) for value in best.x)
        if not best.success and np.ptp(best.final_simplex[1]) <= _FLAT:
            # A step between two scores: many centres and widths fit equally well, so the search wanders among them.
            return (centre, log_width), True, "converged; centre and width are not determined: a step fits as well"
        if not best.success:
            return (centre, log_width), False, f"no optimum after {_MAX_EVALUATIONS} evaluations; best curve so far"
        return (centre, log_width), True, self.describe(centre, log_width)

    def starts(self) -> list[FloatArray]:
        """Return the lowest few local minima of a coarse grid: centres at quantiles of the scores, widths of all sizes.

        The lowest points would not do: they may all surround one local minimum, and the global one is not always where
        the grid is lowest.
        """
        centres = np.quantile(self.x, np.linspace(0.02, 0.98, 9))
        log_widths = np.linspace(self.low[1], self.high[1], 14)[1:-1]
        grid = np.array([[(centre, log_width) for log_width in log_widths] for centre in centres])
        costs = np.apply_along_axis(self.mean_square, 2, grid)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(costs, 1, constant_values=np.inf), (3, 3))
        hollow = costs <= around.min(axis=(2, 3))
        return list(grid[hollow][np.argsort(costs[hollow], kind="stable")[:_STARTS]])

    def basis(self, centre: float, log_width: float) -> FloatArray:
        """Return the columns of the linear problem, (n, 2) or (n, 3): one, the step, and the score itself."""
        columns = [np.ones_like(self.x), _half_tanh((self.x - centre) / math.exp(log_width))]
        if self.linear_term:
            columns.append(self.x)
        return np.stack(columns, axis=1)

    def coefficients(self, centre: float, log_width: float) -> FloatArray:
        """Return the best offset, step and slope (0 for four parameters) for this centre and width, shape (3,)."""
        solution = np.linalg.lstsq(self.basis(centre, log_width), self.y, rcond=None)[0]
        return np.append(solution, 0.0)[:3]

    def mean_square(self, point: FloatArray) -> float:
        """Compute the mean squared error of the best curve with this (centre, log-width)."""
        basis = self.basis(point[0], point[1])
        error = basis @ np.linalg.lstsq(basis, self.y, rcond=None)[0] - self.y
        return float(error @ error) / error.size

    def describe(self, centre: float, log_width: float) -> str:
        """Return the message of a converged search: at which bound it ended, if any."""
        if log_width > self.high[1] - 0.01:
            shape = "cubic" if self.linear_term else "straight line"
            return f"converged; the width is at its upper bound: the relation is as good as a {shape}"
        if log_width < self.low[1] + 0.01:
            return "converged; the width is at its lower bound: the relation is as good as a step"
        if not self.low[0] + 0.01 < centre < self.high[0] - 0.01:
            return "converged; the centre is at its bound, outside the scores: only one end of the curve is seen"
        return "converged"
