"""Correlations, RMSE, outlier ratio and the summary, against scipy.stats and hand-worked cases."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iqametrics.errors import DataError
from iqametrics.evaluation import Evaluation, evaluate, fit_logistic, krcc, outlier_ratio, plcc, rmse, srcc

CORRELATIONS = [srcc, krcc, plcc]
quick = settings(max_examples=40, deadline=None)


@st.composite
def columns(draw, step=0.25):
    """Two columns on a coarse grid, so that ties are common and no operation rounds two values into one."""
    n = draw(st.integers(3, 30))
    column = st.lists(st.integers(-40, 40), min_size=n, max_size=n)
    return np.array(draw(column)) * step, np.array(draw(column)) * step


def same(a, b):
    return a == pytest.approx(b, abs=1e-12, nan_ok=True)


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(srcc, scipy.stats.spearmanr), (krcc, scipy.stats.kendalltau), (plcc, scipy.stats.pearsonr)],
)
def test_equals_scipy_with_ties(ours, theirs):
    generator = np.random.default_rng(1)
    x = np.round(generator.normal(size=200), 1)
    y = np.round(x + generator.normal(size=200), 1)
    assert ours(x, y) == pytest.approx(theirs(x, y).statistic, abs=1e-14)


def test_hand_worked_correlations():
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: sum d^2 = 4, so 1 - 6*4/(5*24) = 0.8; 8 concordant, 2 discordant: 0.6.
    x, y = [1, 2, 3, 4, 5], [20, 10, 40, 30, 50]
    assert srcc(x, y) == pytest.approx(0.8)
    assert krcc(x, y) == pytest.approx(0.6)
    # Deviations (-1, 0, 1) and (-2, -1, 3): 5 / sqrt(2 * 14).
    assert plcc([1, 2, 3], [1, 2, 6]) == pytest.approx(5 / math.sqrt(28))


def test_hand_worked_ties():
    # Ranks 1 2.5 2.5 4 and 1 2 3 4: deviations (-1.5, 0, 0, 1.5) and (-1.5, -.5, .5, 1.5): 4.5 / sqrt(4.5 * 5).
    x, y = [1, 2, 2, 3], [1, 2, 3, 4]
    assert srcc(x, y) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    # Tau-b: 5 concordant pairs of 6, one tied in x: 5 / sqrt(5 * 6). (Tau-a would be 5/6.)
    assert krcc(x, y) == pytest.approx(5 / math.sqrt(30))


def test_rmse_divides_by_n():
    assert rmse([1, 2, 3, 4], [1, 2, 3, 8]) == pytest.approx(2.0)


def test_outlier_ratio_counts_strictly_beyond_two_spreads():
    mos, predicted, spread = [1, 2, 3, 4], [1.5, 2.25, 3.0, 4.3], [0.2, 0.125, 0.0, 0.2]
    # Misses 0.5 > 0.4; 0.25 = 0.25 is not beyond; 0 > 0 is not; 0.3 < 0.4.
    assert outlier_ratio(predicted, mos, spread) == 0.25
    assert outlier_ratio(predicted, mos, spread, multiple=1) == 0.75


# --- properties -----------------------------------------------------------------------------------------------------


@quick
@given(columns())
def test_rank_correlations_ignore_monotone_maps(pair):
    x, y = pair
    for figure in (srcc, krcc):
        assert same(figure(np.exp(x / 5), y), figure(x, y))
        assert same(figure(x, y**3), figure(x, y))


@quick
@given(columns(), st.integers(1, 50), st.integers(-50, 50))
def test_plcc_ignores_linear_maps(pair, scale, offset):
    x, y = pair
    assert same(plcc(scale * x + offset, y), plcc(x, y))


@quick
@given(columns(), st.randoms(use_true_random=False))
def test_sign_flip_and_permutation(pair, random):
    x, y = pair
    order = list(range(x.size))
    random.shuffle(order)
    for figure in CORRELATIONS:
        assert same(figure(-x, y), -figure(x, y))
        assert same(figure(x[order], y[order]), figure(x, y))
        assert same(figure(y, x), figure(x, y))
        assert math.isnan(figure(x, y)) or -1 <= figure(x, y) <= 1


# --- bad and degenerate input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", CORRELATIONS)
def test_constant_column_is_nan_without_warning(figure):
    assert math.isnan(figure([2, 2, 2, 2], [1, 2, 3, 4]))
    assert math.isnan(figure([1, 2, 3, 4], [5, 5, 5, 5]))


def test_plcc_of_rounding_noise_is_nan():
    assert math.isnan(plcc([1.0, 1.0 + 2**-52, 1.0], [1, 2, 3]))


@pytest.mark.parametrize("figure", [*CORRELATIONS, rmse, evaluate, fit_logistic])
def test_every_figure_checks_its_columns(figure):
    with pytest.raises(DataError, match=r"mos\[1\] is nan"):
        figure([1, 2, 3], [1, math.nan, 3])


@pytest.mark.parametrize(
    ("scores", "mos", "message"),
    [
        ([1, 2], [1, 2], "at least 3"),
        ([], [], "at least 3"),
        ([1, 2, 3, 4], [1, 2, 3], "scores has 4, mos has 3"),
        ([1, 2, math.nan], [1, 2, 3], r"scores\[2\] is nan"),
        ([1, 2, 3], [1, math.inf, -math.inf], r"mos\[1\] is inf \(2 of 3"),
        ([1, None, 3], [1, 2, 3], r"scores\[1\] is nan"),
        ([1, "good", 3], [1, 2, 3], "scores: not a column of numbers"),
        ([1, -1e151, 3], [1, 2, 3], r"scores\[1\] is -1e\+151; bring the column"),
        ([[1], [2], [3]], [1, 2, 3], r"scores: shape \(3, 1\)"),
    ],
)
def test_bad_columns_raise_one_line(scores, mos, message):
    with pytest.raises(DataError, match=message) as caught:
        evaluate(scores, mos)
    assert "\n" not in str(caught.value)


def test_bad_spread():
    with pytest.raises(DataError, match=r"spread\[1\] is -1"):
        outlier_ratio([1, 2, 3], [1, 2, 3], [1, -1, 1])
    with pytest.raises(DataError, match="spread has 2"):
        outlier_ratio([1, 2, 3], [1, 2, 3], [1, 1])


# --- evaluate -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    generator = np.random.default_rng(3)
    x = generator.uniform(0, 1, 300)
    return x, 100 / (1 + np.exp(-(x - 0.5) / 0.1)) + generator.normal(0, 5, 300)


def test_evaluate_gathers_the_single_figures(sample):
    x, y = sample
    result = evaluate(x, y)
    mapped = fit_logistic(x, y).predict(x)
    assert (result.n, result.srcc, result.plcc, result.krcc) == (300, srcc(x, y), plcc(x, y), krcc(x, y))
    assert result.plcc_logistic == plcc(mapped, y) > result.plcc
    assert result.rmse == rmse(mapped, y) == pytest.approx(5, rel=0.15)  # the noise that was added
    assert result.rmse_raw == rmse(x, y) > 40
    assert result.srcc_low < result.srcc < result.srcc_high
    assert result.logistic_converged is True
    five = fit_logistic(x, y, parameters=5).predict(x)
    assert (result.plcc_logistic5, result.rmse_logistic5) == (plcc(five, y), rmse(five, y))
    assert result.logistic5_converged is True
    assert result.rmse_logistic5 <= result.rmse  # it has the other curve's freedom and one more
    assert result.outlier_ratio is None


def test_outlier_ratio_of_evaluate(sample):
    x, y = sample
    # Noise of deviation 5 around the curve: 31.7% of it beyond one deviation, which is two spreads of 2.5.
    result = evaluate(x, y, spread=np.full(300, 2.5))
    assert result.outlier_ratio == outlier_ratio(fit_logistic(x, y).predict(x), y, np.full(300, 2.5))
    assert result.outlier_ratio == pytest.approx(0.317, abs=0.08)
    assert math.isnan(evaluate([1, 1, 1], [1, 2, 3], spread=[1, 1, 1]).outlier_ratio)
    with pytest.raises(DataError, match=r"spread\[0\] is -1"):
        evaluate([1, 2, 3], [1, 2, 3], spread=[-1, 1, 1])
    with pytest.raises(DataError, match="spread has 2"):
        evaluate([1, 2, 3], [1, 2, 3], spread=[1, 1])


def test_lower_is_better_keeps_its_sign(sample):
    x, y = sample
    up, down = evaluate(x, y), evaluate(-x, y)
    assert down.srcc == pytest.approx(-up.srcc)
    assert (down.srcc_low, down.srcc_high) == pytest.approx((-up.srcc_high, -up.srcc_low))
    assert down.plcc_logistic == pytest.approx(up.plcc_logistic, abs=1e-6)
    assert down.rmse == pytest.approx(up.rmse, rel=1e-6)


def test_groups_and_seed(sample):
    x, y = sample
    groups = [f"ref{index // 30}" for index in range(300)]
    assert evaluate(x, y, groups=groups) == evaluate(x, y, groups=np.array(groups))
    assert evaluate(x, y, groups=groups).srcc_low != evaluate(x, y).srcc_low
    assert evaluate(x, y, seed=1).srcc_low != evaluate(x, y).srcc_low


def test_constant_metric_is_reported_not_raised():
    result = evaluate([0.5] * 6, [1, 2, 3, 4, 5, 6])
    assert result.n == 6
    assert result.logistic_converged is result.logistic5_converged is False
    missing = [result.srcc, result.plcc, result.plcc_logistic, result.krcc, result.rmse, result.srcc_low]
    missing += [result.plcc_logistic5, result.rmse_logistic5]
    assert all(math.isnan(value) for value in missing)
    plain = result.to_dict()
    assert plain["srcc"] is None
    assert plain["rmse_raw"] == pytest.approx(math.sqrt(np.mean((np.arange(1, 7) - 0.5) ** 2)))


def test_three_images_have_ranks_but_no_curve():
    result = evaluate([1, 2, 3], [1, 3, 2])
    assert result.srcc == pytest.approx(0.5)
    assert math.isnan(result.plcc_logistic)


def test_to_dict_is_json_and_complete(sample):
    plain = evaluate(*sample).to_dict()
    assert list(plain) == list(Evaluation.__dataclass_fields__)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_accepts_tensors(sample):
    x, y = (torch.tensor(column) for column in sample)
    assert srcc(x, y) == srcc(*sample)
    with pytest.raises(DataError, match="detach"):
        srcc(x.clone().requires_grad_(), y)


def test_import_is_light():
    code = "import iqametrics.evaluation, sys; print(sorted({'scipy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
