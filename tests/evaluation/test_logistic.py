"""The logistic fit: known curves are found again, hard cases converge or say that they did not."""

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from iqametrics.errors import DataError
from iqametrics.evaluation import LogisticFit, fit_logistic, plcc, rmse


def four(x, b1, b2, b3, b4):
    return (b1 - b2) / (1 + np.exp(-(x - b3) / b4)) + b2


def five(x, b1, b2, b3, b4, b5):
    return b1 * (0.5 - 1 / (1 + np.exp(b2 * (x - b3)))) + b4 * x + b5


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(0).uniform(20, 50, 400)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-100, 100), st.floats(1, 100), st.booleans(), st.floats(25, 45), st.floats(0.5, 8), st.floats(1e-6, 1e6)
)
def test_recovers_four_parameters(low, rise, falling, centre, width, unit):
    x = np.linspace(20, 50, 200)
    b1, b2 = (low, low + rise) if falling else (low + rise, low)
    y = four(x, b1, b2, centre, width)
    fit = fit_logistic(x * unit, y)
    assert fit.converged, fit.message
    assert fit.parameters[:2] == pytest.approx((b1, b2), abs=1e-3 * rise)
    assert fit.parameters[2:] == pytest.approx((centre * unit, width * unit), rel=1e-3)
    assert np.allclose(fit.predict(x * unit), y, atol=1e-4 * rise)


@pytest.mark.parametrize("parameters", [(30, 0.4, 33, 0.5, 2), (-30, 0.4, 33, -0.5, 2), (60, 1.0, 40, -0.2, 10)])
def test_recovers_five_parameters(scores, parameters):
    fit = fit_logistic(scores, five(scores, *parameters), parameters=5)
    assert fit.converged
    assert fit.parameters == pytest.approx(parameters, rel=1e-4)


@pytest.mark.parametrize(("curve", "truth"), [(four, (90, 5, 33, 3)), (five, (80, 0.3, 33, 0.4, 5))])
def test_as_good_as_scipy_started_at_the_truth(scores, curve, truth):
    y = curve(scores, *truth) + np.random.default_rng(1).normal(0, 8, scores.size)
    best, _ = scipy.optimize.curve_fit(curve, scores, y, p0=truth)
    fit = fit_logistic(scores, y, parameters=len(truth))
    assert rmse(fit.predict(scores), y) == pytest.approx(rmse(curve(scores, *best), y), rel=1e-7)
    assert fit.parameters == pytest.approx(best, rel=1e-3)


def test_predict_states_the_published_formulas(scores):
    assert np.allclose(LogisticFit((90, 5, 33, 3), True, "").predict(scores), four(scores, 90, 5, 33, 3))
    assert np.allclose(LogisticFit((30, 0.4, 33, 0.5, 2), True, "").predict(scores), five(scores, 30, 0.4, 33, 0.5, 2))
    # Half-way between both ends at the centre, and no overflow far from it.
    assert LogisticFit((9, 1, 3, 1e-3), True, "").predict([-1e6, 3, 1e6]) == pytest.approx([1, 5, 9])


HARD = {
    "straight line": lambda x: 2 * x + 1,
    "step": lambda x: (x > 35).astype(float),
    "exponential": lambda x: np.exp(x / 5),
    "logarithm": lambda x: np.log(x - 19.9),
    "far offset": lambda x: 1e8 + four(x, 90, 5, 33, 3),
}


@pytest.mark.parametrize("parameters", [4, 5])
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("sign", [1, -1])
def test_hard_shapes_end_with_a_good_curve(scores, parameters, name, sign):
    y = HARD[name](scores)
    fit = fit_logistic(sign * scores, y, parameters=parameters)
    assert fit.converged, fit.message
    mapped = fit.predict(sign * scores)
    assert plcc(mapped, y) > 0.98
    assert plcc(mapped, y) >= abs(plcc(scores, y)) - 1e-9


@pytest.mark.slow
def test_steps_between_few_scores_converge():
    """Where any centre between two scores does as well, the search has nothing to settle on; that is no failure."""
    generator = np.random.default_rng(1)
    for _ in range(12):
        n = int(generator.integers(6, 30))
        x = np.sort(generator.uniform(0, 1, n))
        width = 10 ** generator.uniform(-4, -1.5)
        y = np.where(x > generator.uniform(0.2, 0.8), 90, 5) + 20 * np.tanh((x - 0.5) / width)
        y = y + generator.normal(0, 1, n)
        for parameters in (4, 5):
            fit = fit_logistic(x, y, parameters=parameters)
            assert fit.converged, fit.message
            assert rmse(fit.predict(x), y) <= y.std() + 1e-9


@pytest.mark.parametrize("parameters", [4, 5])
@pytest.mark.parametrize("unit", [1e-100, 1e-6, 1e6, 1e100])
def test_units_change_nothing(scores, parameters, unit):
    y = four(scores, 90, 5, 33, 0.8) + np.random.default_rng(4).normal(0, 4, scores.size)
    plain = fit_logistic(scores, y, parameters=parameters)
    for x, z, back in ((scores * unit, y, 1), (scores, y * unit, unit), (-scores * unit, y * unit, unit)):
        fit = fit_logistic(x, z, parameters=parameters)
        assert fit.converged, fit.message
        assert rmse(fit.predict(x) / back, y) == pytest.approx(rmse(plain.predict(scores), y), rel=1e-6)


def test_saturated_scores(scores):
    """Most images at the top of the scale, as with easy sets: the curve must not do worse than a line."""
    x = np.minimum(scores, 25)
    y = 2 * scores + np.random.default_rng(6).normal(0, 3, scores.size)
    for sign in (1, -1):
        fit = fit_logistic(sign * x, y)
        assert fit.converged
        assert plcc(fit.predict(sign * x), y) >= abs(plcc(x, y)) - 1e-9


@pytest.mark.parametrize("seed", [7, 39, 48, 50])
def test_the_curve_of_five_parameters_is_never_worse(seed):
    """It holds that of four (b4 = 0). On these, most images lie beyond the bend, where a cubic is a false bottom."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=200)
    centre, width = generator.uniform(-2.5, 2.5), generator.uniform(0.05, 1)
    y = four(x, 1, 0, centre, width) + 0.05 * generator.normal(size=200)
    errors = [rmse(fit_logistic(x, y, parameters=parameters).predict(x), y) for parameters in (4, 5)]
    assert errors[1] <= errors[0] * (1 + 1e-9)


def test_bounds_are_named(scores):
    assert "straight line" in fit_logistic(scores, 2 * scores).message
    assert "step" in fit_logistic(scores, (scores > 35) * 1.0).message
    assert "one end" in fit_logistic(scores, np.exp(scores / 5)).message
    assert "cubic" in fit_logistic(scores, (scores - 30) ** 3, parameters=5).message


def test_heavy_tailed_and_shifted_scores():
    x = np.exp(np.random.default_rng(2).normal(0, 3, 500))
    y = four(x, 90, 5, 1.0, 0.2)
    assert fit_logistic(x, y).parameters == pytest.approx((90, 5, 1.0, 0.2), rel=1e-4)
    z = np.linspace(0, 1, 300)
    assert fit_logistic(z + 1e8, four(z, 5, 1, 0.4, 0.1)).parameters[2] == pytest.approx(1e8 + 0.4, rel=1e-9)


def test_unrelated_scores_still_converge():
    generator = np.random.default_rng(5)
    for n in (10, 100):
        for _ in range(5):
            x, y = generator.normal(size=(2, n))
            fit = fit_logistic(x, y)
            assert np.isfinite(fit.predict(x)).all()
            assert rmse(fit.predict(x), y) <= y.std() + 1e-9
            assert fit.converged, fit.message


def test_a_search_cut_short_says_so(scores, monkeypatch):
    monkeypatch.setattr("iqametrics.evaluation.logistic._MAX_EVALUATIONS", 1)
    fit = fit_logistic(scores, four(scores, 90, 5, 33, 3))
    assert not fit.converged
    assert "no optimum after 1" in fit.message
    assert np.isfinite(fit.parameters).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6], "all scores are equal"),
        ([1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, 2], "all opinion scores are equal"),
        ([1, 2, 3, 4], [1, 2, 3, 5], "4 images do not determine 4"),
        ([1, 2, 3, 1, 2, 3], [1, 2, 3, 4, 5, 6], "3 distinct scores"),
        ([0, 1e-200, 2e-200, 3e-200, 4e-200], [1, 2, 3, 5, 4], "too close"),
    ],
)
def test_undetermined_curves_are_not_converged(x, y, message):
    fit = fit_logistic(x, y)
    assert not fit.converged
    assert message in fit.message
    assert all(math.isnan(value) for value in fit.parameters)
    assert np.isnan(fit.predict(x)).all()


def test_ties_are_no_obstacle(scores):
    x = np.round(scores / 10)
    fit = fit_logistic(x, four(scores, 90, 5, 33, 3))
    assert fit.converged


def test_only_two_curves_exist(scores):
    with pytest.raises(DataError, match="parameters=3"):
        fit_logistic(scores, scores, parameters=3)
